"""Saliency maps of a set of images: each where it can be had, and the frozen judge's difficulty."""

import numpy as np
import pytest
import torch
from trained import SHAPE, fixed_model, scenes

from maskbench.analysis.geometry import random_masks
from maskbench.data.scenes import generate
from maskbench.maps import Known, maps
from maskbench.reference import Reference
from maskbench.studying import judged, schedule


def reference() -> Reference:
    return Reference("fixed", fixed_model(), torch.device("cpu"), "fp32")


def test_what_cannot_be_had_is_there_without_an_image() -> None:
    images = scenes().images[:6]
    found = {one.name: one for one in maps(images, 8, 48, Known(), None)}
    assert list(found) == [
        "spectral residual", "edges", "centre", "difficulty", "attention", "objects", "contours",
    ]  # fmt: skip
    for name in ("spectral residual", "edges", "centre"):
        assert found[name].usable.all()
    for name in ("difficulty", "attention", "objects", "contours"):
        assert not found[name].usable.any()
        assert found[name].maps.shape == (6, 64)


def test_objects_and_contours_of_the_scenes() -> None:
    drawn = generate(8, "train")
    every = np.ones(8, bool)
    known = Known(drawn.objects, every, drawn.contours.astype(np.float32), every)
    found = {one.name: one for one in maps(drawn.images, 8, 48, known, None)}
    cells = drawn.objects.reshape(8, 8, 4, 8, 4).transpose(0, 1, 3, 2, 4).reshape(8, 64, 16)
    np.testing.assert_allclose(found["objects"].maps, cells.mean(2))
    assert found["objects"].tokens is not None
    np.testing.assert_array_equal(found["objects"].tokens, cells.mean(2) >= 0.5)
    lines = drawn.contours.reshape(8, 8, 4, 8, 4).transpose(0, 1, 3, 2, 4).reshape(8, 64, 16)
    assert found["contours"].tokens is not None
    np.testing.assert_array_equal(found["contours"].tokens, lines.any(2))


def test_annotators_count_by_patch_not_by_pixel() -> None:
    """Five people draw one edge a pixel apart: no pixel has half of them, the patch has all."""
    drawn = np.zeros((2, 32, 32), np.uint32)
    for person in range(5):
        drawn[0, :, 8 + person] = 1 << person
    drawn[1, 0, 0] = 0b11  # two of five
    share = np.stack([(drawn >> k) & 1 for k in range(5)]).mean(0).astype(np.float32)
    every = np.ones(2, bool)
    known = Known(None, None, share, every, drawn=drawn, annotators=np.array([5, 5]))
    source = maps(scenes().images[:2], 4, 8, known, None)[-1]
    assert source.tokens is not None
    grid = source.tokens.reshape(2, 4, 4)
    assert grid[0].tolist() == [[False, True, False, False]] * 4
    assert not grid[1].any()


def test_void_is_neither_object_nor_background() -> None:
    objects, void = np.zeros((1, 32, 32), bool), np.zeros((1, 32, 32), bool)
    objects[0, :8, :3] = True
    void[0, :8, 3:8] = True  # all that is known of the first patch is object
    source = maps(scenes().images[:1], 4, 8, Known(objects, np.ones(1, bool), void=void), None)[-2]
    assert source.maps[0, 0] == 1
    assert source.maps[0, 1:].max() == 0


@pytest.mark.parametrize("hidden", [1, 16, 48, 63])
def test_difficulty_hides_every_patch_equally_often(hidden: int) -> None:
    class Counting(Reference):
        def _losses(self, images, mask):  # type: ignore[no-untyped-def]
            counts.append(mask.hidden.clone())
            return super()._losses(images, mask)

    counts: list[torch.Tensor] = []
    images = scenes().images[:3]
    judge = Counting("fixed", fixed_model(), torch.device("cpu"), "fp32")
    found = judge.difficulty(images, hidden)
    often = torch.stack(counts).sum(0)
    assert int(often.min()) >= 1
    assert int(often.max() - often.min()) <= 1
    assert np.isfinite(found).all()
    assert found.shape == (3, SHAPE.patches)
    np.testing.assert_array_equal(found, reference().difficulty(images, hidden))


def test_difficulty_is_what_the_model_finds_hard() -> None:
    """Flat patches are easier than busy ones for a trained model, and masks of the hardest gap."""
    images = scenes().images[:24]
    judge = reference()
    hard = judge.difficulty(images, 48)
    order = hard.argsort(1)
    worst, mild = np.zeros((24, 64), bool), np.zeros((24, 64), bool)
    np.put_along_axis(worst, order[:, -48:], values=True, axis=1)
    np.put_along_axis(mild, order[:, :48], values=True, axis=1)
    random = judge.random_losses(images, 48).mean()
    assert judge.losses(images, mild).mean() < random < judge.losses(images, worst).mean()
    rng = np.random.default_rng(0)
    masks = [random_masks(8, 8, n, 24, rng).reshape(24, -1) for n in (48, 32)]
    found = judged(judge, images, masks)
    assert all(one is not None and one.shape == (2, 24) for one in found)
    assert judged(None, images, masks) == [None, None]


def test_schedule_is_read_from_what_was_logged() -> None:
    rows = [{"progress": 0.0, "x/lambda": 1.0}, {"progress": 1.0, "x/lambda": -1.0}]
    assert schedule(rows, [0.0, 0.25, 1.0]) == [1, 0.5, -1]
    assert schedule([{"progress": 0.5, "loss": 1.0}], [0.0]) == [None]
    assert schedule([{"progress": 0.5, "x/lambda": None}], [0.0, 1.0]) == [None, None]
    assert schedule([*rows, {"progress": 0.5, "y/lambda": 0.0}], [0.0]) == [None]
