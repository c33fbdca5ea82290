"""What a model paints into hidden patches: textbook numbers, kept by runs, disturbing nothing."""

import json
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_job
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from synthetic import GRID, IMAGES, SIDE, put, record, some_masks
from test_resume import session

from maskbench.contract.compare import difference
from maskbench.contract.compare import snapshot as bits
from maskbench.errors import StoreError
from maskbench.job import Job
from maskbench.mask import Grid, Mask
from maskbench.masks import MaskTape, batch_of, see
from maskbench.report.tape import Tape, read_masks
from maskbench.session import load
from maskbench.shape import ModelShape
from maskbench.shown import LARGEST, shown_side, shrunk
from maskbench.signals import Asked
from maskbench.train import train

MEAN, DEVIATION = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
WHOLE, PATCH = 16, 4


def noise(count: int = 14, side: int = WHOLE) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def textbook(job: Job, image: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One image, patch by patch, in plain torch: before rounding."""
    pixels = torch.from_numpy(image).double()
    seen = ((pixels - MEAN) / DEVIATION).float()
    outcome = job.model(seen.permute(2, 0, 1)[None], mask_of(job, hidden))
    guesses = iter(outcome.prediction[0].double())
    found = pixels.clone()
    for place in np.flatnonzero(hidden):
        top, left = PATCH * (place // 4), PATCH * (place % 4)
        cut = slice(top, top + PATCH), slice(left, left + PATCH)
        true = seen[cut].double()
        guess = next(guesses).view(PATCH, PATCH, 3) * torch.sqrt(true.var() + 1e-6) + true.mean()
        found[cut] = (guess * DEVIATION + MEAN).clamp(0, 255)
    return found.numpy()


def mask_of(job: Job, hidden: NDArray[np.bool_]) -> Mask:
    return Mask(torch.from_numpy(hidden)[None], Grid(4, 4, int(hidden.sum())))


def cells(hidden: NDArray[np.bool_], patch: int = PATCH) -> NDArray[np.bool_]:
    """Of patches, (..., rows, columns), to pixels."""
    return hidden.repeat(patch, axis=-2).repeat(patch, axis=-1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("pieces", [1, 3])
@torch.no_grad()
def test_hidden_patches_are_the_textbooks_and_visible_ones_are_true(
    precision: str, pieces: int
) -> None:
    job, images = make_job("random", precision=precision), noise()
    for weights in job.model.decoder_pred.parameters():
        weights.normal_(generator=torch.Generator().manual_seed(0))  # an untrained one paints grey
    job.model.pieces = pieces
    seen = see(job, batch_of(job, images, np.arange(14), 0), job.context(2, "look"))
    found = seen.rebuilt
    assert found is not None
    assert found.shape == (12, WHOLE, WHOLE, 3)
    assert found.dtype == np.uint8
    covered = cells(seen.hidden[:12].reshape(12, 4, 4))
    np.testing.assert_array_equal(found[~covered], images[:12][~covered])
    assert (found[covered] != images[:12][covered]).mean() > 0.9
    near = 0.501 if precision == "fp32" else 2  # rounding, of bf16 in the mean
    wanted = np.stack(
        [textbook(job, *one) for one in zip(images[:12], seen.hidden[:12], strict=True)]
    )
    far = np.abs(found - wanted)
    assert (far.max() if precision == "fp32" else far.mean()) < near
    for wrong in (~seen.hidden, np.roll(seen.hidden, 1)):
        other = [textbook(job, *one) for one in zip(images[:12], wrong[:12], strict=True)]
        assert np.abs(found - np.stack(other)).mean() > 6


@pytest.mark.parametrize("name", ["random", "clmae", "hpm", "adamae", "amt", "ratio"])
def test_no_training_is_disturbed(name: str) -> None:
    """With the tape and without: the same bits; no global stream, mode or gradient is touched."""
    plain, taped = make_job(name, budget="10step"), make_job(name, budget="10step")
    train(plain, lambda row: None, lambda step: None)
    tape, state = MaskTape(taped, taped.feed._split), torch.get_rng_state()
    modes = [module.training for module in taped.model.modules()]

    def moment(step: int) -> None:
        before = [None if p.grad is None else p.grad.clone() for p in taped.model.parameters()]
        tape(step)
        for old, p in zip(before, taped.model.parameters(), strict=True):
            assert (old is None and p.grad is None) or torch.equal(old, p.grad)  # type: ignore[arg-type]

    train(taped, lambda row: None, moment)
    assert not difference(bits(plain), bits(taped))
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in taped.model.modules()]
    pictures = [seen.rebuilt for _, _, seen in tape.looks()]
    assert len(pictures) == 9
    assert all(picture is not None for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[-1])  # type: ignore[arg-type]


def saved(job: Job, folder: Path) -> Tape:
    tape = MaskTape(job, job.feed._split)
    train(job, lambda row: None, tape)
    tape.save(folder / "masks.safetensors")
    return read_masks(folder)


def test_moments_may_hide_different_numbers_of_patches(tmp_path: Path) -> None:
    job = make_job("ratio", budget="20step")
    found = saved(job, tmp_path)
    assert found.rebuilt is not None
    counts = found.hidden.sum(axis=(2, 3))
    assert len(np.unique(counts)) > 2
    assert found.rebuilt.shape == (9, 12, WHOLE, WHOLE, 3)
    visible = ~cells(found.hidden[:, :12])
    true = np.broadcast_to(found.shown, found.rebuilt.shape)
    np.testing.assert_array_equal(found.rebuilt[visible], true[visible])
    assert (found.rebuilt[~visible] != true[~visible]).mean() > 0.5


def test_large_images_are_averaged_down_patch_by_patch(tmp_path: Path) -> None:
    job = make_job(
        shape=ModelShape(112, 16, 24, 2, 4, 16, 1, 4), hidden=40, images=13, budget="9step"
    )
    found = saved(job, tmp_path)
    assert found.rebuilt is not None
    assert found.rebuilt.shape == (9, 12, 91, 91, 3)
    visible = ~cells(found.hidden[:, :12], 13)
    small = np.broadcast_to(shrunk(found.shown.astype(np.float32), 91), found.rebuilt.shape)
    np.testing.assert_array_equal(found.rebuilt[visible], small[visible])


def test_fewer_images_than_are_shown(tmp_path: Path) -> None:
    found = saved(make_job(images=9, budget="9step"), tmp_path)
    assert found.rebuilt is not None
    assert found.rebuilt.shape == (9, 9, WHOLE, WHOLE, 3)


def test_what_is_no_number_is_black() -> None:
    job = make_job()
    with torch.no_grad():
        job.model.decoder_pred.bias.fill_(float("nan"))
    seen = see(job, batch_of(job, noise(), np.arange(14), 0), job.context(2, "look"))
    assert seen.rebuilt is not None
    assert not seen.rebuilt[cells(seen.hidden[:12].reshape(12, 4, 4))].any()


@pytest.mark.parametrize(
    ("side", "rows", "wanted"),
    [(32, 8, 32), (96, 6, 96), (224, 14, 84), (128, 8, 96), (100, 25, 75), (224, 112, 112)],
)
def test_pictures_are_of_whole_patches(side: int, rows: int, wanted: int) -> None:
    assert shown_side(side, rows) == wanted
    assert wanted % rows == 0
    assert wanted <= max(LARGEST, rows)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(own=some.integers(1, 14), side=some.integers(1, 14), seed=some.integers(0, 99))
def test_areas_are_those_of_the_common_multiple(own: int, side: int, seed: int) -> None:
    """Every pixel cut into equal pieces that both sides are made of; their means are exact."""
    side = min(own, side)
    pixels = np.random.default_rng(seed).uniform(0, 255, (2, own, own, 3)).astype(np.float32)
    most = lcm(own, side)
    fine = pixels.astype(np.float64).repeat(most // own, 1).repeat(most // own, 2)
    cut = most // side
    wanted = fine.reshape(2, side, cut, side, cut, 3).mean(axis=(2, 4))
    assert np.abs(shrunk(pixels, side) - wanted).max() <= 0.5 + 1e-9


def test_resumed_runs_write_the_same_file(tmp_path: Path) -> None:
    whole = session(tmp_path / "whole", make_job("clmae", budget="19step"))
    whole.work()
    work = session(tmp_path / "parts", make_job("clmae", budget="19step"), 9)
    with pytest.raises(Asked):
        work.work()
    payloads = [load(work.folder, {"seed": 0}, print) for _ in range(2)]
    for old, state in enumerate(payloads):
        assert state is not None
        if old:  # a checkpoint of an older version
            for row in state["tape"]["seen"]:
                del row["rebuilt"]
        resumed = session(work.folder, make_job("clmae", budget="19step"))
        resumed.restore(state)
        resumed.work()
        files = [one.folder / "masks.safetensors" for one in (whole, resumed)]
        for one, file in zip((whole, resumed), files, strict=True):
            one.tape.save(file)
        same = files[0].read_bytes() == files[1].read_bytes()
        assert same == (not old)
        tapes = [read_masks(file.parent) for file in files]
        assert (tapes[0].rebuilt is not None, tapes[1].rebuilt is None) == (True, bool(old))
        np.testing.assert_array_equal(tapes[0].hidden, tapes[1].hidden)


PICTURES = np.random.default_rng(5).integers(0, 256, (3, 7, SIDE, SIDE, 3), dtype=np.uint8)


def foreign(folder: Path, pictures: NDArray[Any], **changes: NDArray[Any]) -> Path:
    run = put(folder, "random-0", record("random", 0, 0.5))
    arrays = {**load_file(run / "masks.safetensors"), "rebuilt": pictures, **changes}
    grid = json.dumps({"rows": GRID, "columns": GRID, "hidden": 12})
    save_file(arrays, run / "masks.safetensors", metadata={"grid": grid})
    return run


def test_pictures_of_others_are_read(tmp_path: Path) -> None:
    found = read_masks(foreign(tmp_path, PICTURES))
    np.testing.assert_array_equal(found.rebuilt, PICTURES)
    np.testing.assert_array_equal(found.hidden.reshape(3, IMAGES, -1), some_masks())
    older = read_masks(put(tmp_path, "older", record("random", 0, 0.5)))
    assert older.rebuilt is None


@pytest.mark.parametrize(
    "pictures",
    [
        PICTURES.astype(np.float32), np.full(PICTURES.shape, np.nan, np.float16),
        PICTURES.astype(np.int8), PICTURES.astype(np.int64), PICTURES[:2], PICTURES[:, :6],
        PICTURES[:, :, :4], PICTURES[:, :, :, :4], PICTURES[..., :1], PICTURES[0],
        PICTURES.repeat(2, 2).repeat(2, 3), PICTURES.repeat(2, 1), PICTURES[:0],
    ],
)  # fmt: skip
def test_pictures_of_another_kind_are_refused(tmp_path: Path, pictures: NDArray[Any]) -> None:
    run = foreign(tmp_path, np.ascontiguousarray(pictures))
    with pytest.raises(StoreError, match="no readable masks"):
        read_masks(run)


def test_pictures_that_cut_patches_are_refused(tmp_path: Path) -> None:
    shown = np.zeros((7, 9, 9, 3), np.uint8)
    run = foreign(tmp_path, np.zeros((3, 7, 9, 9, 3), np.uint8), shown=shown)
    with pytest.raises(StoreError, match="9 px are not 4 rows"):
        read_masks(run)


def test_two_images_are_not_mixed_up() -> None:
    """Each picture is its own image's, whatever else is in the batch."""
    job, images = make_job(), noise()
    context = job.context(2, "look")
    one = see(job, batch_of(job, images, np.arange(14), 0), context)
    alone = see(job, batch_of(job, images[:1], np.arange(1), 0), context)
    assert one.rebuilt is not None
    assert alone.rebuilt is not None
    assert np.abs(one.rebuilt[0].astype(int) - alone.rebuilt[0]).max() <= 1
