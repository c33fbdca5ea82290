"""All probes on all features of a data set, as rows that go to a record as they are."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from maskbench.errors import DataError
from maskbench.events import Progress, Silent
from maskbench.probes.features import Features
from maskbench.probes.fewshot import (
    DRAWS,
    SHOTS,
    SPLIT_VERSION,
    C,
    Labels,
    Subset,
    draws_of,
    few_shot,
)
from maskbench.probes.knn import KS, TEMPERATURE, knn
from maskbench.results import PRIMARY

SUITE = f"C{C:g}/v{SPLIT_VERSION}"
"""What few-shot numbers must share to be compared."""
Row = dict[str, Any]
"""One fit. Every row has the keys of ``COLUMNS``; None where a key does not apply."""

COLUMNS = (
    *("metric", "probe", "feature", "layer", "shots", "draw", "accuracy", "macro_accuracy"),
    *("nll", "ece", "n_train", "n_test", "classes", "C", "n_iter", "converged", "k", "T"),
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
    layers: Mapping[str, str] | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> list[Row]:
    """Few-shot probes and nearest neighbours on every kind of feature, on the same subsets.

    Args:
        features: Name to the features of the train pool and of the test images, (images, D).
            ``PRIMARY`` is probed at a tenth and ten times the regularisation, too.
        labels: Of the train pool and of the test images.
        ids: A stable id per image of the train pool.
        classes: Class names in label order.
        dataset: Name of the data set, part of the key of a subset.
        draws: Few-shot subsets per shot; twice as many with one image per class.
        shots: Labelled images per class; those that do not fit are left out.
        layers: Name to the layer it was read from, for its metrics' names (default: ``last``).
        device: Where to compute, in float64.
        progress: Told which features are done.

    Returns:
        Rows with the keys of ``COLUMNS``, plain numbers throughout.

    Raises:
        DataError: There are fewer than two classes, or two images share an id.
        DivergedError: A feature is not finite.
    """
    if len(classes) < 2:
        raise DataError(f"probes need at least two classes; {dataset} has {len(classes)}")
    progress, layers = progress or Silent(), layers or {}
    train_labels, test_labels = labels
    chosen = draws_of(ids, train_labels, classes, dataset=dataset, draws=draws, shots=shots)
    shared = {"n_test": len(test_labels), "classes": len(classes)}
    rows: list[Row] = []
    progress.start("probes", len(features), "features")
    for done, (name, (train, test)) in enumerate(features.items(), 1):
        layer = layers.get(name, "last")
        found = few_shot(
            train,
            test,
            train_labels,
            test_labels,
            draws=chosen,
            sensitivity=name == PRIMARY,
            device=device,
        )
        found += nearest((train, train_labels), (test, test_labels), len(classes), device)
        own = {"feature": name, "layer": layer, **shared}
        rows += [named({**own, **row}) for row in found]
        progress.advance(done)
    progress.finish()
    return rows


def named(row: Mapping[str, Any]) -> Row:
    """A row with all columns, and the full name of its metric."""
    full = {**dict.fromkeys(COLUMNS), **row}
    words = [full["probe"]]
    if full["C"] is not None:
        words.append(f"C{full['C']:g}")
    if full["k"] is not None:
        fewer = [] if full["probe"] == f"knn{full['k']}" else [f"k{full['k']}"]
        words += [*fewer, f"T{full['T']:g}", "cosine-centred"]
    full["metric"] = "/".join([*words, full["feature"], full["layer"]])
    return full


def nearest(
    known: tuple[Features, Labels],
    asked: tuple[Features, Labels],
    classes: int,
    device: torch.device | str,
) -> list[Row]:
    """The rows of the nearest-neighbour probes."""
    (train, train_labels), (test, test_labels) = known, asked
    found = knn(train, train_labels, test, classes, ks=KS, device=device)
    return [
        {
            "probe": f"knn{k}",
            "accuracy": float((answers == test_labels).mean()),
            "macro_accuracy": macro(answers, test_labels),
            "n_train": len(train),
            "k": min(k, len(train)),
            "T": TEMPERATURE,
        }
        for k, answers in found.items()
    ]


def macro(found: Labels, answers: Labels) -> float:
    """Mean over the classes that are there of the share of their images that were right."""
    names, which = np.unique(answers, return_inverse=True)
    right = np.bincount(which, found == answers, len(names)) / np.bincount(which)
    return float(right.mean())


def manifest(ids: Sequence[str], draws: Sequence[Subset]) -> dict[str, Any]:
    """Which images were labelled in each draw, and a SHA-256 of the list.

    The subsets of a draw are nested: ``n`` images per class are the first ``n`` of each class's.
    """
    lists = []
    for subset in draws:
        largest = max(subset, default=0)
        chosen = [ids[int(i)] for i in subset[largest]] if subset else []
        lists.append({"shots": list(subset), "images_per_class": largest, "ids": chosen})
    text = json.dumps(lists, sort_keys=True)
    return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "draws": lists}
