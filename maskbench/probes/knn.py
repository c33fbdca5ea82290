"""Nearest neighbours: weighted votes by cosine similarity (the recipe of DINO's ``eval_knn.py``).

Unlike there, features are centred on the train pool first, since those of masked autoencoders
share a large common part. ``K`` and ``TEMPERATURE`` belong to the result: print them with it.
"""

import numpy as np
from numpy.typing import NDArray

from maskbench.probes.features import Features, Floats, finite

K = 20
TEMPERATURE = 0.07
_CHUNK_BYTES = 2**26


def knn(
    train: Features,
    labels: NDArray[np.int64],
    test: Features,
    classes: int,
    *,
    k: int = K,
    temperature: float = TEMPERATURE,
) -> NDArray[np.int64]:
    """The class of every test image by its nearest train images.

    Args:
        train: (train images, D).
        labels: (train images,).
        test: (test images, D).
        classes: How many classes there are.
        k: Neighbours; all train images where there are fewer.
        temperature: A neighbour's vote is exp(similarity / temperature).

    Returns:
        (test images,).
    """
    centre = finite(train).mean(0, dtype=np.float64)
    known = _directions(train, centre)
    k = min(k, len(known))
    rows = max(1, _CHUNK_BYTES // (16 * len(known)))  # similarities and their order: 8 bytes each
    found = np.empty(len(test), np.int64)
    for start in range(0, len(test), rows):
        similarity = _directions(finite(test[start : start + rows]), centre) @ known.T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        closeness = np.take_along_axis(similarity, nearest, axis=1)
        found[start : start + rows] = vote(closeness, labels[nearest], classes, temperature)
    return found


def vote(
    similarity: Floats, labels: NDArray[np.int64], classes: int, temperature: float
) -> NDArray[np.int64]:
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
    found: NDArray[np.int64] = np.where(tied, closest, -np.inf).argmax(1)
    return found


def _per_class(weights: Floats, labels: NDArray[np.int64], classes: int) -> Floats:
    """Weights of the neighbours summed by class, (images, classes)."""
    images = len(labels)
    cells = np.arange(images)[:, None] * classes + labels
    total = np.bincount(cells.ravel(), weights.ravel(), minlength=images * classes)
    return total.astype(np.float64).reshape(images, classes)


def _directions(features: Features, centre: Floats) -> Floats:
    """Centred rows of length one (a row at the centre stays zero)."""
    centred = features - centre
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    directions: Floats = centred / np.maximum(length, np.finfo(np.float64).tiny)
    return directions
