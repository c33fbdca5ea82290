"""Linear probes trained by LARS on augmented images: MAE's recipe (mae/main_linprobe.py).

Batch norm without affine (eps 1e-6), then a linear layer, on a frozen encoder; random resized crop
and flip; the last epoch is scored. Everything is in float32. LARS moves weights by a thousandth of
their norm times the rate in a step: with few images there are few steps, and the published base
rate leaves the head near where it began (docs/notes.md); raise it there.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from maskbench import seeds
from maskbench.data import Images
from maskbench.events import Progress, Silent
from maskbench.probes.backbone import Backbone
from maskbench.probes.descent import Course, descend
from maskbench.probes.labelled import (
    Counts,
    Feature,
    Labelled,
    augmented,
    central,
    evaluating,
    frozen_feature,
    labelled,
    row,
    score,
    short,
)
from maskbench.probes.recipes import lars
from maskbench.probes.suite import Row
from maskbench.weights import build


@dataclass(frozen=True)
class LinearSettings:
    """MAE's, but for the batch: 16,384 there.

    Args:
        epochs: Passes over the images (50 for ViT-L and H).
        warmup: Epochs of linear warm-up, at most half of all.
        batch: Images per step at most.
        base_lr: The rate is this times batch / 256.
        momentum: Of LARS.
        feature: ``cls``, or ``patchmean``.
        train_images: Most train images (not below 16 per class); None for all.
        test_images: Most test images, likewise.
    """

    epochs: int = 90
    warmup: float = 10
    batch: int = 512
    base_lr: float = 0.1
    momentum: float = 0.9
    feature: Feature = "cls"
    train_images: int | None = None
    test_images: int | None = 10_000


def linear_lars(
    backbone: Backbone,
    images: Images,
    *,
    seed: int,
    settings: LinearSettings | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """MAE's linear probe.

    Args:
        backbone: What is probed; its weights stay as they are.
        images: Train and test images with labels.
        seed: Of initial weights, order and crops.
        settings: The recipe.
        progress: Who watches.

    Returns:
        One row, ``linear-lars``.

    Raises:
        DataError: The data has no labels or no test split.
        DivergedError: The loss, or an answer, is not finite.
        UsageError: Settings that cannot be.
    """
    settings, progress = settings or LinearSettings(), progress or Silent()
    train, test = labelled(images, settings.train_images, settings.test_images)
    classes, own = len(images.classes), seeds.key(seed, "linear-lars")
    peak = settings.base_lr * settings.batch / 256
    course = Course(len(train), settings.epochs, settings.batch, peak, settings.warmup, own)
    head = linear_head(backbone.width, classes, own)
    with evaluating(backbone):
        losses = fit(
            backbone, train, head, course, settings.feature,
            momentum=settings.momentum, label="linear probe (LARS)", progress=progress,
        )  # fmt: skip
        scored = score(head(features(backbone, test, settings.feature, progress)), test.labels)
    name = f"lars/blr{short(settings.base_lr)}/{settings.epochs}ep"
    counts = Counts(len(train), len(test), classes)
    known = {**asdict(settings), "lr": peak, "steps": course.steps, "loss": float(losses[-1])}
    return [row("linear-lars", settings.feature, name, counts, **scored, settings=known)]


def linear_head(width: int, classes: int, seed: int) -> nn.Sequential:
    """Batch norm without affine and a linear layer, weights N(0, 0.01^2) cut off, biases zero."""
    generator = seeds.generator(seed, "head")
    linear = build(lambda: nn.Linear(width, classes), generator)
    nn.init.trunc_normal_(linear.weight, std=0.01, generator=generator)
    return nn.Sequential(nn.BatchNorm1d(width, eps=1e-6, affine=False), linear)


def fit(
    backbone: Backbone,
    train: Labelled,
    head: nn.Module,
    course: Course,
    feature: Feature,
    *,
    momentum: float,
    label: str,
    progress: Progress,
    after: Callable[[], object] | None = None,
) -> list[Tensor]:
    """Train a head on augmented images of a frozen encoder; the head ends in eval mode.

    Args:
        backbone: In eval mode.
        train: What to train on.
        head: As from ``linear_head``; moved to the backbone's device.
        course: How long and how fast.
        feature: What it sees.
        momentum: Of LARS.
        label: For messages.
        progress: Who watches.
        after: Called after every epoch, with the head in eval mode.

    Returns:
        The mean loss of every epoch.
    """
    device = backbone.device
    head.to(device).train()

    def losses(places: Tensor, epoch: int, step: int) -> Tensor:
        inputs = augmented(backbone, train, places, seed=course.seed, epoch=epoch)
        seen = frozen_feature(backbone, inputs, feature)
        return cross_entropy(head(seen), train.targets(places, device))

    def looked() -> None:
        if after:
            head.eval()
            after()
            head.train()

    optimizer = lars(head, momentum=momentum, weight_decay=0.0)
    found = descend(course, optimizer, losses, label=label, progress=progress, after=looked)
    head.eval().requires_grad_(requires_grad=False)
    return found


def features(backbone: Backbone, part: Labelled, feature: Feature, progress: Progress) -> Tensor:
    """Features of all images, not augmented: (images, D), on the backbone's device."""
    found, done = [], 0
    progress.start("features", len(part), "images")
    for places in part.chunks():
        found.append(frozen_feature(backbone, central(backbone, part, places), feature))
        done += len(places)
        progress.advance(done)
    progress.finish()
    return torch.cat(found)
