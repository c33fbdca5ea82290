"""Which layer to read, chosen on classes that are never scored.

Features of masked autoencoders are often best before the last block (so says MIM-Refiner's
abstract). Choosing the block on the classes that are scored would be choosing on the test set; so
some classes are set aside by a hash of their names, and the block is chosen by nearest neighbours
among their training images. The others are scored.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maskbench.probes.features import Described
from maskbench.probes.fewshot import Labels, class_order
from maskbench.probes.knn import K, knn

FEWEST = 4
"""Classes that a data set must have to set some aside: two, and two to be scored."""


def development_classes(classes: Sequence[str], dataset: str) -> list[int]:
    """A fifth of the classes, at least two, by hashed name; none where there are fewer than four.

    Args:
        classes: Class names in label order.
        dataset: Name of the data set, part of the hash.
    """
    if len(classes) < FEWEST:
        return []

    def key(label: int) -> bytes:
        text = f"maskbench-development-v1|{dataset}|{classes[label]}"
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    return sorted(sorted(range(len(classes)), key=key)[: max(2, len(classes) // 5)])


def best_layer(train: Described, labels: Labels, ids: Sequence[str], chosen: Sequence[int]) -> int:
    """The block whose patch means let most development images find their class.

    Half of the images (by hashed id, of each class) are looked up among the other half, by 20
    nearest neighbours. Equal blocks: the last one.

    Args:
        train: Features of training images, of all blocks.
        labels: Their classes, (images,).
        ids: Their ids.
        chosen: Development classes.

    Returns:
        The block, from 1.
    """
    rows = np.flatnonzero(np.isin(labels, chosen))
    own = np.searchsorted(np.asarray(chosen), labels[rows])
    texts = (f"maskbench-development-v1|{ids[int(i)]}" for i in rows)
    order, counts = class_order(texts, own, len(chosen))
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    known, asked = order[rank % 2 == 0], order[rank % 2 == 1]
    right = [
        _right(layer[rows[known]], own[known], layer[rows[asked]], own[asked], len(chosen))
        for layer in train.patchmeans
    ]
    return len(right) - int(np.argmax(right[::-1]))


def _right(
    train: NDArray[np.float32],
    labels: Labels,
    test: NDArray[np.float32],
    answers: Labels,
    classes: int,
) -> int:
    """Test images whose class their neighbours name."""
    if not len(answers):
        return 0
    return int((knn(train, labels, test, classes, ks=(K,))[K] == answers).sum())
