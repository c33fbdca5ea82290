"""An encoder beside its controls on one data set, through all probes of frozen features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskbench.events import Progress, Silent
from maskbench.probes import features
from maskbench.probes.backbone import Backbone
from maskbench.probes.cache import Cache
from maskbench.probes.development import best_layer, development_classes
from maskbench.probes.features import Described
from maskbench.probes.fewshot import draws_of
from maskbench.probes.suite import Row, manifest, named, run_suite
from maskbench.probes.task import Task
from maskbench.results import PRIMARY

IN_MEMORY = Cache()
VARIANTS = ("cls", "cls+patchmean")
BEST, LAST = "patchmean@best", "patchmean@last"


@dataclass(frozen=True)
class Scored:
    """What probes found.

    Args:
        rows: Of the encoder.
        controls: Of raw pixels and other encoders.
        facts: What was asked: images left out, notes, the layer that was chosen and on which
            classes.
        manifest: Which images were labelled.
    """

    rows: list[Row]
    controls: list[Row]
    facts: dict[str, Any]
    manifest: dict[str, Any]


def score(
    backbone: Backbone,
    task: Task,
    *,
    draws: int,
    controls: Mapping[str, Backbone] | None = None,
    cache: Cache = IN_MEMORY,
    progress: Progress | None = None,
) -> Scored:
    """Few-shot curves and nearest neighbours: the encoder, its variants, its controls.

    Args:
        backbone: The encoder.
        task: The data set.
        draws: Few-shot subsets per shot.
        controls: Feature name to an encoder that is probed beside it; raw pixels always are.
        cache: Where the encoder's features are kept.
        progress: Told how far it is.

    Raises:
        DivergedError: A feature is not finite.
        StoreError: The features cannot be written.
    """
    progress = progress or Silent()
    train, test = described(backbone, task, cache, progress)
    variants = {name: _pair(train, test, name) for name in VARIANTS}
    rows = primary(backbone, task, draws=draws, progress=progress, found=(train, test))
    rows += [
        row for row in _rows(backbone, task, variants, draws, progress) if row["probe"] != "ncm"
    ]
    best, chosen = _best(backbone, task, (train, test), draws, progress)
    others: dict[str, Any] = {}
    for name, control in (controls or {}).items():
        found = described(control, task, IN_MEMORY, progress, every_layer=False)
        others[name] = _pair(*found, PRIMARY)
    images = (task.train.images, task.test.images)
    side = min(backbone.side, images[0].shape[1])
    others["pixels"] = tuple(features.pixels(part, side) for part in images)
    shown = _rows(backbone, task, others, draws, progress)
    labelled = manifest(
        task.train.ids,
        draws_of(task.train.ids, task.train.labels, task.classes, dataset=task.name, draws=draws),
    )
    facts = {
        "duplicates": task.duplicates,
        "notes": list(task.notes),
        **chosen,
        "manifest_sha256": labelled["sha256"],
    }
    return Scored([*rows, *best], shown, facts, labelled)


def primary(
    backbone: Backbone,
    task: Task,
    *,
    draws: int,
    progress: Progress,
    found: tuple[Described, Described] | None = None,
) -> list[Row]:
    """The rows of the encoder's primary feature alone.

    Raises:
        DivergedError: A feature is not finite.
    """
    found = found or described(backbone, task, IN_MEMORY, progress, every_layer=False)
    return _rows(backbone, task, {PRIMARY: _pair(*found, PRIMARY)}, draws, progress)


def described(
    backbone: Backbone, task: Task, cache: Cache, progress: Progress, *, every_layer: bool = True
) -> tuple[Described, Described]:
    """Features of the pool and of the test images, from the cache if they are there.

    Raises:
        DivergedError: A feature is not finite.
        StoreError: They cannot be written.
    """
    progress.message(f"features: {backbone.name}")
    first, second = (
        cache.features(backbone, part.images, part.mark, progress, every_layer=every_layer)
        for part in (task.train, task.test)
    )
    return first, second


def _pair(train: Described, test: Described, name: str) -> tuple[Any, Any]:
    return train.feature(name), test.feature(name)


def _rows(
    backbone: Backbone, task: Task, found: Mapping[str, Any], draws: int, progress: Progress
) -> list[Row]:
    return run_suite(
        found,
        (task.train.labels, task.test.labels),
        task.train.ids,
        task.classes,
        dataset=task.name,
        draws=draws,
        device=backbone.device,
        progress=progress,
    )


def _best(
    backbone: Backbone,
    task: Task,
    found: tuple[Described, Described],
    draws: int,
    progress: Progress,
) -> tuple[list[Row], dict[str, Any]]:
    """The best layer's rows beside the last one's, on the classes it was not chosen by.

    Returns:
        Rows, and which layer it is and which classes chose it; nothing where there are too few.
    """
    train, test = found
    chosen = development_classes(task.classes, task.name)
    if not chosen or len(train.patchmeans) < 2:
        return [], {"development_classes": [], "best_layer": None}
    layer = best_layer(train, task.train.labels, task.train.ids, chosen)
    kept = np.setdiff1d(np.arange(len(task.classes)), chosen)
    pool, scored = (np.flatnonzero(np.isin(p.labels, kept)) for p in (task.train, task.test))
    if not len(scored):
        return [], {"development_classes": [], "best_layer": None}
    blocks = len(train.patchmeans)
    pairs = {
        name: (train.patchmeans[at][pool], test.patchmeans[at][scored])
        for name, at in ((BEST, layer - 1), (LAST, blocks - 1))
        if name == LAST or layer != blocks
    }
    rows = run_suite(
        pairs,
        (
            np.searchsorted(kept, task.train.labels[pool]),
            np.searchsorted(kept, task.test.labels[scored]),
        ),
        [task.train.ids[int(i)] for i in pool],
        [task.classes[int(i)] for i in kept],
        dataset=task.name,
        draws=draws,
        layers={BEST: f"block{layer}-of-{blocks}"},
        device=backbone.device,
        progress=progress,
    )
    if layer == blocks:
        own = {"feature": BEST, "layer": f"block{layer}-of-{blocks}"}
        rows = [*(named({**row, **own}) for row in rows), *rows]
    names = [task.classes[label] for label in chosen]
    facts = {"development_classes": names, "best_layer": layer}
    return [row for row in rows if row["probe"] != "ncm"], facts
