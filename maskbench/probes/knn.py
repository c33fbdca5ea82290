"""Nearest neighbours: weighted votes by cosine similarity (the recipe of DINO's ``eval_knn.py``).

Unlike there, features are centred on the train pool first, since those of masked autoencoders
share a large common part. ``KS`` and ``TEMPERATURE`` belong to the result: print them with it.

Features may be memory-mapped and far larger than memory: they are read in blocks of fixed size.
Blocks choose candidates in single precision, on any device; those are compared again one by one in
double precision, so neither the blocks nor the device decide who is nearest.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from maskbench.errors import UsageError
from maskbench.events import Progress, Silent
from maskbench.probes.features import Features, Floats, finite
from maskbench.probes.fewshot import Labels

K = 20
KS = (1, K)
TEMPERATURE = 0.07
TRAIN_ROWS, TEST_ROWS = 4_096, 1_024
"""Rows of one block of similarities."""
GROUP = 65_536
"""Test rows that one reading of the train features serves."""
SPARE = 32
"""Candidates beyond the neighbours wanted: so many may tie with the last in single precision."""
COMPARED = 2**22
"""Numbers of candidates that are compared at a time."""


def knn(
    train: Features,
    labels: Labels,
    test: Features,
    classes: int,
    *,
    ks: Sequence[int] = KS,
    temperature: float = TEMPERATURE,
    centred: bool = True,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> dict[int, Labels]:
    """The class of every test image by its nearest train images, for several k in one pass.

    Args:
        train: (train images, D); may be memory-mapped, float32.
        labels: (train images,).
        test: (test images, D).
        classes: How many classes there are.
        ks: Numbers of neighbours; all train images where there are fewer.
        temperature: A neighbour's vote is exp(similarity / temperature).
        centred: Take the mean of the train pool from all features first.
        device: Where candidates are searched.
        progress: Told how many train images are read.

    Returns:
        Every k to (test images,).

    Raises:
        UsageError: There is no train image, or a k is less than 1.
        DivergedError: A feature is not finite.
    """
    if not len(train) or min(ks) < 1:
        raise UsageError(f"nearest neighbours need train images and k of 1 or more, not {ks}")
    found = {k: np.empty(len(test), np.int64) for k in ks}
    nearest = neighbours(train, test, max(ks), centred=centred, device=device, progress=progress)
    for rows, similarity, index in nearest:
        theirs = labels[index]
        for k in ks:
            found[k][rows] = vote(similarity[:, :k], theirs[:, :k], classes, temperature)
    return found


def neighbours(
    train: Features,
    test: Features,
    k: int,
    *,
    centred: bool = True,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Iterator[tuple[slice, Floats, Labels]]:
    """The train images most similar to each test image, a few test images at a time.

    Args:
        train: (train images, D).
        test: (test images, D).
        k: How many of them; all where there are fewer.
        centred: Take the mean of the train pool from all features first.
        device: Where candidates are searched.
        progress: Told how many train images are read.

    Yields:
        The test images; their cosine similarities, (images, k), falling; positions of the train
        images, (images, k). Equal ones go by position.

    Raises:
        DivergedError: A feature is not finite.
    """
    progress = progress or Silent()
    finite(train)
    finite(test)
    centre = _mean(train) if centred else np.zeros(train.shape[1])
    k = min(k, len(train))
    at_once = max(1, COMPARED // ((k + SPARE) * train.shape[1]))
    progress.start("nearest neighbours", len(train) * -(-len(test) // GROUP), "images")
    try:
        for first in range(0, len(test), GROUP):
            group = test[first : first + GROUP]
            before = first // GROUP * len(train)

            def tell(done: int, before: int = before) -> None:
                progress.advance(before + done)

            found = _candidates(train, group, k + SPARE, centre, device=device, tell=tell)
            for start in range(0, len(group), at_once):
                part = slice(start, start + at_once)
                similarity, index = _compared(train, group[part], found[part], centre)
                rows = slice(first + start, first + start + len(index))
                yield rows, similarity[:, :k], index[:, :k]
    finally:
        progress.finish()


def _candidates(
    train: Features,
    test: Features,
    count: int,
    centre: Floats,
    *,
    device: torch.device | str,
    tell: Callable[[int], None],
) -> Labels:
    """Positions of the ``count`` most similar train images by single precision, (images, count)."""
    count = min(count, len(train))
    queries = [
        _to(test[start : start + TEST_ROWS], centre, device)
        for start in range(0, len(test), TEST_ROWS)
    ]
    best = [
        (q.new_empty(len(q), 0), torch.empty(len(q), 0, dtype=torch.int64, device=device))
        for q in queries
    ]
    for start in range(0, len(train), TRAIN_ROWS):
        known = _to(train[start : start + TRAIN_ROWS], centre, device)
        for place, query in enumerate(queries):
            near, where = (query @ known.T).topk(min(count, len(known)), dim=1)
            value, index = (
                torch.cat(pair, 1) for pair in zip(best[place], (near, where + start), strict=True)
            )
            value, order = value.sort(dim=1, descending=True, stable=True)
            best[place] = value[:, :count], index.gather(1, order[:, :count])
        tell(start + len(known))
    return np.concatenate([index.cpu().numpy() for _, index in best])


def _compared(
    train: Features, test: Features, candidates: Labels, centre: Floats
) -> tuple[Floats, Labels]:
    """Candidates in order, with their similarities in double precision; both (images, count)."""
    index = np.sort(candidates, axis=1)
    known = _directions(train[index], centre)
    similarity = (known * _directions(test, centre)[:, None]).sum(-1)
    order = np.argsort(-similarity, axis=1, kind="stable")  # equal ones stay by position
    return np.take_along_axis(similarity, order, 1), np.take_along_axis(index, order, 1)


def vote(
    similarity: Floats, labels: Labels, classes: int, temperature: float = TEMPERATURE
) -> Labels:
    """The class with most votes.

    Equal votes go to the larger summed similarity, then to the smaller class.

    Args:
        similarity: Cosines to the neighbours, (images, k).
        labels: The neighbours' classes, (images, k).
        classes: How many classes there are.
        temperature: A neighbour's vote is exp(similarity / temperature).

    Returns:
        (images,).
    """
    votes = _per_class(np.exp(similarity / temperature), labels, classes)
    tied = votes >= votes.max(1, keepdims=True) * (1 - 1e-9)
    closest = _per_class(similarity, labels, classes).round(9)
    found: Labels = np.where(tied, closest, -np.inf).argmax(1)
    return found


def _per_class(weights: Floats, labels: Labels, classes: int) -> Floats:
    """Weights of the neighbours summed by class, (images, classes)."""
    images = len(labels)
    cells = np.arange(images)[:, None] * classes + labels
    total = np.bincount(cells.ravel(), weights.ravel(), minlength=images * classes)
    return total.astype(np.float64).reshape(images, classes)


def _mean(features: Features) -> Floats:
    """Mean of all rows, (D,), in double precision, read once in blocks."""
    total = np.zeros(features.shape[1])
    for start in range(0, len(features), TRAIN_ROWS):
        total += features[start : start + TRAIN_ROWS].sum(0, dtype=np.float64)
    return total / len(features)


def _to(features: Features, centre: Floats, device: torch.device | str) -> torch.Tensor:
    """Directions of a block of rows, in single precision on a device."""
    return torch.from_numpy(_directions(features, centre).astype(np.float32)).to(device)


def _directions(features: Features, centre: Floats) -> Floats:
    """Centred rows of length one (a row at the centre stays zero), (..., D)."""
    centred = features - centre
    length = np.sqrt((centred * centred).sum(-1, keepdims=True))
    directions: Floats = centred / np.maximum(length, np.finfo(np.float64).tiny)
    return directions
