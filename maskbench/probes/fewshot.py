"""Few-shot probes on frozen features: nested subsets, logistic regression, nearest class mean.

The labelled images of a draw are the first of their class in the order of a hash of their ids.
So they are nested across shots, the same for every strategy, and depend neither on the order of
files nor on other classes nor on any random number generator.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskbench.errors import DataError
from maskbench.probes.classifiers import Classifiers
from maskbench.probes.features import Features
from maskbench.probes.logistic import MAX_ITERATIONS

SHOTS = (1, 2, 4, 8, 16)
DRAWS = 10
SPLIT_VERSION = "1"
C = 300.0
"""Scikit-learn's C, fixed before any strategy was ranked by it.

Chosen on scenes of ten classes that are never scored, among 1 to 10,000, by the mean over the
encoders of six strategies, shots and draws: 41.44 % at 100, 41.62 at 300, 41.52 at 1,000
(``benchmarks/regularisation.py``).
"""
LOGREG, NCM, FULL = "logreg", "ncm", "logreg-full"
WEAKER, STRONGER = "-C/10", "-Cx10"
"""What follows a probe's name where C is a tenth, or ten times as much: ``logreg-C/10``."""

Row = dict[str, Any]
Labels = NDArray[np.int64]
Subset = Mapping[int, Labels]
_Fit = tuple[int, int, Labels]  # shots, draw, positions


def class_order(texts: Iterable[str], labels: Labels, classes: int) -> tuple[Labels, Labels]:
    """Images by class, and within a class by the BLAKE2b-128 of their text.

    Args:
        texts: What is hashed for each image.
        labels: (images,).
        classes: How many classes there are.

    Returns:
        The order, (images,), and how many images each class has, (classes,).
    """
    digests = (hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    keys = np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2)
    order = np.lexsort((keys[:, 1], keys[:, 0], labels))
    return order, np.bincount(labels, minlength=classes)


def subsets(
    ids: Sequence[str],
    labels: Labels,
    classes: Sequence[str],
    *,
    dataset: str,
    draw: int,
    shots: Sequence[int] = SHOTS,
) -> dict[int, Labels]:
    """The labelled images of one draw: for every shot its positions, class by class.

    Args:
        ids: A stable id per train image.
        labels: (images,), positions in ``classes``.
        classes: Class names.
        dataset: Name of the data set, part of the key.
        draw: Which draw, from 0.
        shots: Images per class; those that a class cannot fill are left out for all.

    Returns:
        Shot to positions, (classes * shot,).

    Raises:
        DataError: Two images share an id.
    """
    if len(set(ids)) < len(ids):
        raise DataError("two train images share an id; few-shot subsets need one per image")
    prefix = f"maskbench-fewshot-v1|{dataset}|{SPLIT_VERSION}"
    names = (classes[label] for label in labels.tolist())
    texts = (f"{prefix}|{name}|{sid}|{draw}" for name, sid in zip(names, ids, strict=True))
    order, counts = class_order(texts, labels, len(classes))
    first = (np.cumsum(counts) - counts)[:, None]
    return {n: order[first + np.arange(n)].ravel() for n in shots if n <= counts.min()}


def draws_of(
    ids: Sequence[str],
    labels: Labels,
    classes: Sequence[str],
    *,
    dataset: str,
    draws: int = DRAWS,
    shots: Sequence[int] = SHOTS,
) -> list[Subset]:
    """Subsets of all draws; as many again at one image per class, where draws differ most.

    Args:
        ids: A stable id per train image.
        labels: (images,), positions in ``classes``.
        classes: Class names.
        dataset: Name of the data set, part of the key.
        draws: How many draws have all shots.
        shots: Images per class; those that a class cannot fill are left out for all.

    Returns:
        ``draws`` subsets of all shots, then as many of one shot if that is among them.

    Raises:
        DataError: Two images share an id.
    """
    single = [shot for shot in shots if shot == 1]
    wanted = [*[shots] * draws, *[single] * (draws * len(single))]
    return [
        subsets(ids, labels, classes, dataset=dataset, draw=draw, shots=some)
        for draw, some in enumerate(wanted)
    ]


def few_shot(
    train: Features,
    test: Features,
    train_labels: Labels,
    test_labels: Labels,
    *,
    draws: Sequence[Subset],
    strength: float = C,
    sensitivity: bool = False,
    device: torch.device | str = "cpu",
) -> list[Row]:
    """Fit and score the few-shot probes on every subset.

    Args:
        train: The unlabelled pool, (train images, D).
        test: (test images, D).
        train_labels: (train images,); only those of the subsets are looked at.
        test_labels: (test images,).
        draws: Subsets of each draw, as from ``draws_of``.
        strength: Scikit-learn's C, the same at every shot.
        sensitivity: Whether C / 10 and 10 C are tried too.
        device: Where to compute, in float64.

    Returns:
        By shots and draws, of every subset a row of ``logreg``, with ``sensitivity`` of
        ``logreg-C/10`` and ``logreg-Cx10``, and one of ``ncm``.

    Raises:
        DivergedError: A feature is not finite.
    """
    fitter = Classifiers(train, test, train_labels, test_labels, device=device)
    strengths = strengths_of(LOGREG, strength, sensitivity=sensitivity)
    rows = []
    every = [(n, draw, subset[n]) for draw, subset in enumerate(draws) for n in subset]
    for alike in _alike(sorted(every, key=lambda fit: fit[:2])):
        places = _padded([chosen for _, _, chosen in alike]).to(device)
        found = fitter.logistic(places, strengths, MAX_ITERATIONS)
        found[NCM] = fitter.class_means(places)
        rows += [
            {"probe": probe, "shots": n, "draw": draw, "n_train": len(chosen), **marks[at]}
            for at, (n, draw, chosen) in enumerate(alike)
            for probe, marks in found.items()
        ]
    return rows


def _alike(every: Sequence[_Fit]) -> Iterator[list[_Fit]]:
    """Cut subsets, in order of size, where one is over four times as large as its group's first.

    Side by side the smaller are filled up, which costs less than more rounds of small steps.
    """
    start = 0
    for end in range(1, len(every) + 1):
        if end == len(every) or len(every[end][2]) > 4 * len(every[start][2]):
            yield list(every[start:end])
            start = end


def full_data(
    train: Features,
    test: Features,
    train_labels: Labels,
    test_labels: Labels,
    *,
    strength: float = C,
    sensitivity: bool = False,
    device: torch.device | str = "cpu",
) -> list[Row]:
    """Logistic regression on all of the train pool, no linear probing in MAE's sense.

    Args:
        train: (train images, D).
        test: (test images, D).
        train_labels: (train images,).
        test_labels: (test images,).
        strength: Scikit-learn's C.
        sensitivity: Whether C / 10 and 10 C are tried too.
        device: Where to compute, in float64.

    Returns:
        A row of ``logreg-full``; with ``sensitivity`` two more.

    Raises:
        DivergedError: A feature is not finite.
    """
    fitter = Classifiers(train, test, train_labels, test_labels, device=device)
    strengths = strengths_of(FULL, strength, sensitivity=sensitivity)
    found = fitter.logistic(
        torch.arange(len(train), device=device)[None], strengths, MAX_ITERATIONS
    )
    head = {"shots": None, "draw": None, "n_train": len(train)}
    return [{"probe": probe, **head, **marks} for probe, (marks,) in found.items()]


def strengths_of(name: str, strength: float, *, sensitivity: bool) -> dict[str, float]:
    """Names of probes and their C: one, or with ``sensitivity`` three."""
    others = {name + WEAKER: strength / 10, name + STRONGER: strength * 10}
    return {name: strength} | (others if sensitivity else {})


def fs_aulc(accuracy_by_shot: Mapping[int, float], chance: float) -> float:
    """Area under the few-shot curve over the logarithm of shots: one number to rank by.

    Args:
        accuracy_by_shot: Mean accuracy at each shot, 0 to 1; shots a factor of two apart.
        chance: Accuracy of guessing, 1 / classes.

    Returns:
        The mean of (accuracy - chance) / (1 - chance): 0 for guessing, 1 for no mistakes.

    Raises:
        ValueError: There are no shots.
    """
    if not accuracy_by_shot:
        raise ValueError("no shots, so no area under their curve")
    return sum((a - chance) / (1 - chance) for a in accuracy_by_shot.values()) / len(
        accuracy_by_shot
    )


def _padded(chosen: Sequence[Labels]) -> Tensor:
    """Subsets as rows of one tensor, the shorter ones filled up with -1."""
    parts = [torch.from_numpy(some) for some in chosen]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=-1)
