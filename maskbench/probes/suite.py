"""All probes on all features of a data set, as rows that go to a record as they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskbench.errors import DataError
from maskbench.events import Progress, Silent
from maskbench.probes.features import Features
from maskbench.probes.fewshot import DRAWS, SHOTS, Labels, class_order, draws_of, few_shot
from maskbench.probes.knn import TEMPERATURE, K, knn

POOL_LIMIT = 10_000
Row = dict[str, Any]
"""One fit. Every row has the keys of ``COLUMNS``; None where a key does not apply."""

COLUMNS = (
    *("probe", "feature", "shots", "draw", "accuracy", "n_train", "n_test", "classes"),
    *("macro_accuracy", "nll", "ece", "C", "n_iter", "converged", "k", "T"),
)


def run_suite(
    features: Mapping[str, tuple[Features, Features]],
    labels: tuple[Labels, Labels],
    ids: Sequence[str],
    classes: Sequence[str],
    *,
    dataset: str,
    draws: int = DRAWS,
    shots: Sequence[int] = SHOTS,
    progress: Progress | None = None,
) -> list[Row]:
    """Few-shot probes and nearest neighbours on every kind of feature, on the same subsets.

    Args:
        features: Name to the features of the train pool and of the test images, (images, D).
        labels: Of the train pool and of the test images.
        ids: A stable id per image of the train pool.
        classes: Class names in label order.
        dataset: Name of the data set, part of the key of a subset.
        draws: Few-shot subsets per shot; twice as many at one shot.
        shots: Labelled images per class; those that do not fit are dropped with a message.
        progress: Told which features are done, and what is dropped.

    Returns:
        Rows with the keys of ``COLUMNS``, plain numbers throughout.

    Raises:
        DataError: There are fewer than two classes, or two images share an id.
        DivergedError: A feature is not finite.
    """
    if len(classes) < 2:
        raise DataError(f"probes need at least two classes; {dataset} has {len(classes)}")
    progress = progress or Silent()
    train_labels, test_labels = labels
    dropped = dropped_shots(train_labels, classes, shots)
    if dropped:
        progress.message(dropped)
    chosen = draws_of(ids, train_labels, classes, dataset=dataset, draws=draws, shots=shots)
    shared = {"n_test": len(test_labels), "classes": len(classes)}
    rows: list[Row] = []
    progress.start("probes", len(features), "features")
    for done, (name, (train, test)) in enumerate(features.items(), 1):
        found = few_shot(train, test, train_labels, test_labels, draws=chosen)
        found.append(nearest(train, test, train_labels, test_labels, len(classes)))
        empty = dict.fromkeys(COLUMNS)
        rows += [{**empty, "feature": name, **shared, **row} for row in found]
        progress.advance(done)
    progress.finish()
    return rows


def nearest(
    train: Features, test: Features, train_labels: Labels, test_labels: Labels, classes: int
) -> Row:
    """The row of the nearest-neighbour probe."""
    right = knn(train, train_labels, test, classes) == test_labels
    row = {"probe": f"knn{K}", "accuracy": float(right.mean()), "n_train": len(train)}
    return {**row, "k": min(K, len(train)), "T": TEMPERATURE}


def dropped_shots(labels: Labels, classes: Sequence[str], shots: Sequence[int] = SHOTS) -> str:
    """A sentence naming the shots that do not fit and the class that is short; empty if none."""
    counts = np.bincount(labels, minlength=len(classes))
    short = int(counts.argmin())
    dropped = [str(n) for n in shots if n > counts[short]]
    if not dropped:
        return ""
    return (
        f"no few-shot probes at {', '.join(dropped)} images per class: "
        f"class {classes[short]!r} has only {counts[short]} train images"
    )


def probe_pool(ids: Sequence[str], labels: Labels, limit: int = POOL_LIMIT) -> Labels:
    """Positions of the images to probe with: all, or equally many of each class by hashed id.

    The choice depends on ids and labels alone, not on their order.

    Args:
        ids: A stable id per image.
        labels: (images,).
        limit: Images wanted at most; raised to the largest shot of every class.

    Returns:
        Ascending positions.
    """
    classes = int(labels.max(initial=-1)) + 1
    limit = max(limit, max(SHOTS) * classes)
    if len(ids) <= limit:
        return np.arange(len(ids))
    texts = (f"maskbench-pool-v1|{sid}" for sid in ids)
    order, counts = class_order(texts, labels, classes)
    rank = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[np.argsort(rank, kind="stable")[:limit]])
