"""The few-shot probe of the CL-MAE paper (arXiv 2308.16572), as its repository trains it.

cl-mae/main_linprobe.py is MAE's linear probe (``maskbench.probes.linear``) on few images: LARS at
a rate of 0.1 whatever the batch, CLS, 90 epochs, batches of 512. Its published faults, and what
becomes of them here:

* batches that are not full are dropped, so that fewer than 512 images train nothing: mended, one
  step sees all of them;
* the labelled images are not published and the code does not choose any: three runs are here the
  subsets of draws 0, 1 and 2 (``maskbench.probes.fewshot``);
* the best epoch on the test images is reported: ``accuracy`` is the last epoch's, and that maximum
  is the field ``oracle_best_epoch``, a diagnostic.

An epoch of few images is one step, and LARS changes weights by at most a thousandth of their norm
times the rate in each: as published, this stays near chance on small data (docs/notes.md). It is
here for comparison with the paper; those of ``maskbench.probes.fewshot`` are recommended.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from maskbench import seeds
from maskbench.data import Images
from maskbench.errors import DataError
from maskbench.events import Progress, Silent
from maskbench.probes.backbone import Backbone
from maskbench.probes.descent import Course
from maskbench.probes.fewshot import subsets
from maskbench.probes.labelled import (
    Counts,
    Feature,
    Labelled,
    evaluating,
    labelled,
    row,
    score,
    short,
)
from maskbench.probes.linear import features, fit, linear_head
from maskbench.probes.suite import Row
from maskbench.probes.task import dropped_shots


@dataclass(frozen=True)
class ClmaeSettings:
    """As published; the paper's few-shot figure and cl-mae/main_linprobe.py.

    Args:
        shots: Labelled images per class; those that a class cannot fill are left out, aloud.
        draws: Runs, each with a subset and a seed of its own.
        epochs: Passes over the labelled images.
        warmup: Epochs of linear warm-up, at most half of all.
        batch: Images per step at most.
        lr: Peak rate, not scaled by the batch.
        momentum: Of LARS.
        feature: ``cls``, or ``patchmean``.
        test_images: Most test images (not below 16 per class); None for all.
    """

    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    draws: int = 3
    epochs: int = 90
    warmup: float = 10
    batch: int = 512
    lr: float = 0.1
    momentum: float = 0.9
    feature: Feature = "cls"
    test_images: int | None = 10_000


def clmae_protocol(
    backbone: Backbone,
    images: Images,
    *,
    seed: int,
    settings: ClmaeSettings | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """The published protocol, mended where it cannot run.

    Args:
        backbone: What is probed; its weights stay as they are.
        images: Train and test images with labels.
        seed: Of initial weights, order and crops; subsets do not depend on it.
        settings: The recipe.
        progress: Who watches.

    Returns:
        A row per shot and draw, ``clmae-protocol``.

    Raises:
        DataError: The data has no labels or no test split, or no shot can be filled.
        DivergedError: The loss, or an answer, is not finite.
        UsageError: Settings that cannot be.
    """
    settings, progress = settings or ClmaeSettings(), progress or Silent()
    train, test = labelled(images, None, settings.test_images)
    dropped = dropped_shots(train.labels, images.classes, settings.shots)
    if dropped:
        progress.message(dropped)
    found: list[Row] = []
    name = f"lars/lr{short(settings.lr)}/{settings.epochs}ep"
    with evaluating(backbone):
        answers = features(backbone, test, settings.feature, progress)
        for draw in range(settings.draws):
            chosen = subsets(
                train.ids, train.labels, images.classes,
                dataset=images.name, draw=draw, shots=settings.shots,
            )  # fmt: skip
            for shots, places in chosen.items():
                few, which = train.only(places), {"shots": shots, "draw": draw}
                own = seeds.key(seed, "clmae-protocol", shots, draw)
                head = linear_head(backbone.width, len(images.classes), own)

                def judge(head: nn.Module = head) -> dict[str, float]:
                    return score(head(answers), test.labels)

                scored = _run(backbone, few, own, settings, (head, judge), progress=progress)
                counts = Counts(len(few), len(test), len(images.classes))
                found.append(
                    row("clmae-protocol", settings.feature, name, counts, **which, **scored)
                )
    if not found:
        raise DataError(f"no few-shot subset can be drawn from {images.name}: {dropped}")
    return found


def _run(
    backbone: Backbone,
    few: Labelled,
    seed: int,
    settings: ClmaeSettings,
    judged: tuple[nn.Module, Callable[[], dict[str, float]]],
    *,
    progress: Progress,
) -> dict[str, Any]:
    """One training: the last epoch's score, the best epoch's accuracy, settings."""
    head, judge = judged
    course = Course(len(few), settings.epochs, settings.batch, settings.lr, settings.warmup, seed)
    epochs: list[float] = []
    losses = fit(
        backbone, few, head, course, settings.feature,
        momentum=settings.momentum,
        label=f"CL-MAE's protocol, {len(few)} images",
        progress=progress,
        after=lambda: epochs.append(judge()["accuracy"]),
    )  # fmt: skip
    known = {**asdict(settings), "shots": list(settings.shots)}
    known |= {"steps": course.steps, "loss": float(losses[-1])}
    return {**judge(), "oracle_best_epoch": max(epochs), "settings": known}
