"""Contestants of one seed share, byte for byte, all that no strategy is meant to decide.

Compared are hashes of bytes over a real training of two epochs, so that nothing a strategy learns,
draws or stores on the way can change it either.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pytest
import torch
from conftest import SMALL, make_job, noise_split
from torch import Tensor

from maskbench import registry, seeds
from maskbench.contract.jobs import untrained
from maskbench.contract.subject import rehearse
from maskbench.data.source import Images, Split
from maskbench.job import Job
from maskbench.model import MaskedAutoencoder
from maskbench.probes import fewshot
from maskbench.probes.backbone import of_encoder
from maskbench.probes.fewshot import Labels, subsets
from maskbench.probes.score import score
from maskbench.probes.suite import Row
from maskbench.probes.task import task_of
from maskbench.strategy import Batch, Context, DataView, Mask, MaskStrategy

NAMES = [*(entry.name for entry in registry.entries()), "prototypes+clmae", "ratio+hpm"]
CURRICULA = {"prototypes", "prototypes+clmae"}
"""The only ones that may show images in another order."""
RESERVED = {"init", "order", "augment"}
"""Streams of the model, of the plain order and of the crops: strategies have their own."""
IMAGES, BATCH, EPOCHS = 24, 8, 2


@dataclass(frozen=True)
class Footprint:
    """What a contestant was given.

    Args:
        weights: Hash of the model's values before the first step.
        order: Hash of the positions of all epochs.
        shown: Epoch and position to the hashes of crop box and augmented image.
        streams: Purposes that the strategy's setup and its steps asked random numbers for.
    """

    weights: str
    order: str
    shown: dict[tuple[int, int], tuple[str, str]]
    streams: set[str]


def digest(*tensors: Tensor) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def weights_of(model: MaskedAutoencoder) -> str:
    return digest(*model.state_dict().values())


@contextmanager
def overheard(streams: set[str]) -> Iterator[None]:
    """Every purpose that somebody makes a key for meanwhile."""
    key = seeds.key

    def listen(*parts: int | str) -> int:
        streams.update(str(part) for part in parts[1:2])
        return key(*parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeds, "key", listen)
        yield


def made(strategy: str | MaskStrategy, seed: int) -> Job:
    return make_job(strategy, budget=f"{EPOCHS}ep", seed=seed, images=IMAGES, batch=BATCH)


def followed(strategy: str | MaskStrategy, seed: int = 0) -> Footprint:
    """Train a contestant for two epochs and note what it is given."""
    untrained(SMALL, seed)  # is drawn once, from a reserved stream, before anybody listens
    streams: set[str] = set()
    with overheard(streams):
        job = made(strategy, seed)
    weights, order = weights_of(job.model), []
    shown: dict[tuple[int, int], tuple[str, str]] = {}
    for step in range(EPOCHS * IMAGES // BATCH):
        (epochs, positions), batch = job.feed.where(step, job.order), job.batch(step)
        assert torch.equal(batch.positions, positions)
        order.append(positions)
        pairs = zip(epochs.tolist(), positions.tolist(), strict=True)
        for pair, box, image in zip(pairs, batch.boxes, batch.images, strict=True):
            crop = digest(box), digest(image)
            assert shown.setdefault(pair, crop) == crop  # drawn twice in an epoch: the same
        with overheard(streams):
            rehearse(job, step, batch)
    return Footprint(weights, digest(*order), shown, streams)


@cache
def footprint(name: str, seed: int = 0) -> Footprint:
    return followed(name, seed)


def unfair(one: Footprint, other: Footprint) -> set[str]:
    """What two contestants do not share, and whether the first drew from a reserved stream."""
    both = one.shown.keys() & other.shown.keys()
    found = {
        "weights": one.weights != other.weights,
        "order": one.order != other.order,
        "images": not both or any(one.shown[pair] != other.shown[pair] for pair in both),
        "streams": bool(one.streams & RESERVED),
    }
    return {what for what, is_so in found.items() if is_so}


# --- training -------------------------------------------------------------------------------------


def test_the_reference_is_the_documented_one() -> None:
    """Weights, order and the pairs shown follow from the seed alone, without any strategy."""
    fresh = MaskedAutoencoder(SMALL, seeds.generator(0, "init"))
    orders = [
        torch.randperm(IMAGES, generator=seeds.generator(0, "order", epoch))
        for epoch in range(EPOCHS)
    ]
    reference = footprint("random")
    assert reference.weights == weights_of(fresh)
    assert reference.order == digest(*torch.split(torch.cat(orders), BATCH))
    assert reference.shown.keys() == {(e, i) for e in range(EPOCHS) for i in range(IMAGES)}


@pytest.mark.parametrize("name", NAMES)
def test_contestants_share_weights_order_and_augmentation(name: str) -> None:
    allowed = {"order"} if name in CURRICULA else set()
    assert unfair(footprint(name), footprint("random")) == allowed


@pytest.mark.parametrize("name", ["random", "clmae", "hpm", "prototypes"])
def test_another_seed_shares_nothing(name: str) -> None:
    one, other = footprint(name), footprint(name, 1)
    assert unfair(one, other) == {"weights", "order", "images"}
    both = one.shown.keys() & other.shown.keys()
    crops = [(one.shown[pair], other.shown[pair]) for pair in both]
    assert len(crops) >= IMAGES / 4
    assert not any(image == another for (_, image), (_, another) in crops)
    assert sum(box == another for (box, _), (another, _) in crops) <= len(crops) / 4


class Cheat(MaskStrategy):
    """Hides at random."""

    def mask(self, batch: Batch, context: Context) -> Mask:
        return Mask.from_scores(context.uniform("mask", batch), context.grid)


class CopiesTheInit(Cheat):
    def setup(self, context: Context, data: DataView) -> None:
        self.noise = torch.rand(3, generator=seeds.generator(context.seed, "init"))


class FollowsTheCrops(Cheat):
    def mask(self, batch: Batch, context: Context) -> Mask:
        key = seeds.key(context.seed, "augment")
        scores = seeds.uniform(key, batch.positions, context.grid.patches)
        return Mask.from_scores(scores, context.grid)


class Reorders(Cheat):
    def order(self, epoch: int, images: int, context: Context) -> Tensor:
        return super().order(epoch, images, context).flip(0)


class ReordersLater(Cheat):
    def order(self, epoch: int, images: int, context: Context) -> Tensor:
        return super().order(0 if epoch == 1 else epoch, images, context)


class StartsElsewhere(Cheat):
    def setup(self, context: Context, data: DataView) -> None:
        context.model._model.cls_token.data += 1


@pytest.mark.parametrize(
    ("cheat", "caught"),
    [
        (Cheat, set()),
        (CopiesTheInit, {"streams"}),
        (FollowsTheCrops, {"streams"}),
        (Reorders, {"order"}),
        (ReordersLater, {"order"}),
        (StartsElsewhere, {"weights"}),
    ],
)
def test_who_is_unfair_is_caught(cheat: type[MaskStrategy], caught: set[str]) -> None:
    assert unfair(followed(cheat()), footprint("random")) == caught


# --- probes ---------------------------------------------------------------------------------------


def labelled(count: int, seed: int) -> Split:
    split = noise_split(count, seed=seed)
    return Split(split.images, np.arange(count) % 2, [f"{seed}/{i}" for i in range(count)])


DATA = Images("noise", ("even", "odd"), labelled(32, 1), labelled(12, 2), "", {})


def probed(name: str, seed: int, streams: int) -> tuple[list[str], list[Row]]:
    """Hashes of the probes' subsets, and all rows, after one step of a contestant's training."""
    torch.manual_seed(streams)
    np.random.seed(streams)  # noqa: NPY002 - nobody may use it
    job = made(name, seed)
    rehearse(job, 0, job.batch(0))
    chosen: list[str] = []

    def listen(ids: list[str], labels: Labels, classes: list[str], **rest: object) -> object:
        found = subsets(ids, labels, classes, **rest)  # type: ignore[arg-type]
        chosen.append(digest(*(torch.from_numpy(positions) for positions in found.values())))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fewshot, "subsets", listen)
        trained, start = of_encoder(job.model, name), of_encoder(untrained(SMALL, seed), "start")
        found = score(trained, task_of(DATA), draws=2, controls={"untrained": start})
    return chosen, [*found.rows, *found.controls]


def controls(rows: list[Row]) -> str:
    return json.dumps([row for row in rows if row["feature"] in ("untrained", "pixels")])


def test_contestants_are_probed_on_the_same_images_beside_the_same_controls() -> None:
    first, rows = probed("random", 0, streams=0)
    assert len(set(first)) == 2 + 2  # one image per class has as many draws again
    variants = {"patchmean", "cls", "cls+patchmean"}
    assert {row["feature"] for row in rows} == {*variants, "untrained", "pixels"}
    for name in ("clmae", "prototypes"):
        same, others = probed(name, 0, streams=7)
        assert same == first
        assert controls(others) == controls(rows)
    same, others = probed("random", 1, streams=0)
    assert same == first
    pixels = [[r for r in found if r["feature"] == "pixels"] for found in (rows, others)]
    assert pixels[0] == pixels[1]
    assert controls(others) != controls(rows)  # another seed, another untrained encoder


def test_subsets_follow_ids_wherever_their_files_stand() -> None:
    ids, labels = list(DATA.train.ids), np.arange(32) % 2
    turned = np.random.default_rng(0).permutation(32)
    draw = partial(subsets, classes=DATA.classes, dataset=DATA.name, draw=0)
    here, there = draw(ids, labels), draw([ids[i] for i in turned], labels[turned])
    assert {n: [ids[i] for i in rows] for n, rows in here.items()} == {
        n: [ids[turned[i]] for i in rows] for n, rows in there.items()
    }
