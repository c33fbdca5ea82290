"""Labelled images of a probe that is trained, what an encoder makes of them, and its row.

A row of such a probe says, besides its score, ``metric`` (its full name), ``layer``, ``settings``
(plain numbers and words), and ``macro_accuracy`` and ``nll`` beside ``accuracy``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from maskbench.data import Images, Split, augment
from maskbench.errors import DataError, DivergedError
from maskbench.probes.backbone import Backbone
from maskbench.probes.fewshot import Labels
from maskbench.probes.suite import Row
from maskbench.probes.task import probe_pool

Feature = Literal["cls", "patchmean"]
CHUNK = 64
"""Images per forward pass: 1.4 ms per image of ``nano`` on a CPU, and 2.2 ms at 500."""
SCALE = (0.08, 1.0)
"""Areas of training crops: torchvision's default, which MAE's probe and fine-tuning take."""


@dataclass(frozen=True)
class Labelled:
    """Some images of a split, with labels; they are addressed by their place in ``rows``.

    Args:
        split: Where the pixels are; may be memory-mapped.
        rows: Positions in the split, (images,).
        labels: Of those images, (images,).
    """

    split: Split
    rows: Labels
    labels: Labels

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        """Ids of those images."""
        return [self.split.ids[int(row)] for row in self.rows]

    def only(self, places: Labels) -> "Labelled":
        """Those at some places, in that order."""
        return Labelled(self.split, self.rows[places], self.labels[places])

    def pixels(self, places: Tensor, device: torch.device) -> Tensor:
        """Uint8, (B, side, side, 3), on a device."""
        return torch.from_numpy(np.array(self.split.images[self.rows[places.numpy()]])).to(device)

    def targets(self, places: Tensor, device: torch.device) -> Tensor:
        """Labels, (B,), on a device."""
        return torch.from_numpy(self.labels[places.numpy()]).to(device)

    def chunks(self, size: int = CHUNK) -> Iterator[Tensor]:
        """All places in order, ``size`` at a time."""
        yield from torch.split(torch.arange(len(self)), size)


def labelled(images: Images, train: int | None, test: int | None) -> tuple[Labelled, Labelled]:
    """What to train on, and what to score on.

    Args:
        images: The data set.
        train: Most train images, equally many of each class by hashed id; None for all.
        test: Most test images, likewise.

    Raises:
        DataError: There is no test split, no labels, or fewer than two classes.
    """
    parts = []
    for split, name, limit in ((images.train, "train", train), (images.test, "test", test)):
        if split is None or split.labels is None or len(images.classes) < 2:
            raise DataError(
                f"this probe needs labels, a {name} split and at least two classes, and "
                f"{images.name} lacks one of them; give train and test folders with one folder "
                "per class in each"
            )
        if not len(split):
            raise DataError(f"the {name} split of {images.name} is empty; a probe needs images")
        rows = probe_pool(split.ids, split.labels, len(split) if limit is None else limit)
        parts.append(Labelled(split, rows, split.labels[rows]))
    return parts[0], parts[1]


@contextmanager
def evaluating(backbone: Backbone) -> Iterator[None]:
    """Its encoder in eval mode for a while (MAE's probe leaves it in train mode: no difference).

    The mode is as before afterwards; weights are not touched.
    """
    training = backbone.encoder.training
    backbone.encoder.eval()
    try:
        yield
    finally:
        backbone.encoder.train(training)


def central(backbone: Backbone, part: Labelled, places: Tensor) -> Tensor:
    """Images as the encoder takes them, not augmented: (B, 3, side, side)."""
    return backbone.prepare(part.pixels(places, backbone.device).permute(0, 3, 1, 2))


def augmented(
    backbone: Backbone, part: Labelled, places: Tensor, *, seed: int, epoch: int
) -> Tensor:
    """Images as the encoder takes them, after a random resized crop and flip of each.

    The crop of an image depends on the seed, the epoch and its place only. Pixels are rounded to
    whole numbers, as an image library would.

    Returns:
        (B, 3, side, side).
    """
    here = places.to(backbone.device)
    epochs = torch.full_like(here, epoch)
    crops = augment.draw_crops(seed, epochs, here, part.split.side, len(part), scale=SCALE)
    cut = augment.crop_resize(part.pixels(places, backbone.device), crops, backbone.side)
    return backbone.prepare(cut.round_().to(torch.uint8))


@torch.no_grad()
def frozen_feature(backbone: Backbone, images: Tensor, feature: Feature) -> Tensor:
    """One vector per image after the final norm, without a graph: (B, D), float32.

    Args:
        backbone: In eval mode.
        images: As from ``central`` or ``augmented``.
        feature: ``cls``, or the mean over patch tokens.
    """
    found = []
    for part in torch.split(images, CHUNK):
        tokens = backbone.tokens(part).float()
        found.append(tokens[:, 0] if feature == "cls" else tokens[:, 1:].mean(1))
    return torch.cat(found)


def score(logits: Tensor, labels: Labels) -> dict[str, float]:
    """Accuracy, its mean over the classes that occur, and the mean negative log-likelihood (nats).

    Args:
        logits: (images, classes), on any device.
        labels: (images,).

    Raises:
        DivergedError: A logit is not finite.
    """
    answers = logits.detach().cpu().double()
    broken = int((~answers.isfinite()).any(1).sum())
    if broken:
        raise DivergedError(
            f"the probe's answers to {broken} of {len(answers)} images are not finite: it has "
            "diverged; lower its learning rate or probe an earlier checkpoint"
        )
    truth = torch.from_numpy(labels)
    right = (answers.argmax(1) == truth).double()
    found, count = (torch.bincount(truth, weights=w) for w in (right, torch.ones_like(right)))
    return {
        "accuracy": float(right.mean()),
        "macro_accuracy": float((found / count)[count > 0].mean()),
        "nll": float(cross_entropy(answers, truth)),
    }


class Counts(NamedTuple):
    """How many images a probe had.

    Attributes:
        n_train: Images whose labels were used.
        n_test: Images it was scored on.
        classes: How many classes there are.
    """

    n_train: int
    n_test: int
    classes: int


def row(probe: str, feature: str, name: str, counts: Counts, **more: Any) -> Row:
    """One fit.

    Args:
        probe: ``attentive``, ``finetune``, ``linear-lars`` or ``clmae-protocol``.
        feature: ``tokens``, ``cls`` or ``patchmean``.
        name: What distinguishes the metric further: rates, epochs.
        counts: Of images and classes.
        more: ``shots``, ``draw``, the score, ``settings`` and whatever else is known.
    """
    first = {"probe": probe, "metric": f"{probe}/{feature}/last/{name}", "feature": feature}
    return {**first, "layer": "last", "shots": None, "draw": None, **counts._asdict(), **more}


def short(number: float) -> str:
    """A rate as in a metric's name: ``1e-3``, ``2.5e-4``."""
    return np.format_float_scientific(number, trim="-", exp_digits=1)
