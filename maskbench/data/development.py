"""A part of the training images that stands in for the test split while something is chosen."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskbench.data.source import Images, Split
from maskbench.errors import DataError

SHARE = 0.2
MOST = 10_000


class Rows:
    """Some rows of an array that may be larger than memory; read when they are asked for.

    Args:
        array: (rows, ...); may be memory-mapped.
        keep: Which rows, in order.
    """

    def __init__(self, array: NDArray[np.uint8], keep: NDArray[np.int64]) -> None:
        self._array, self._keep = array, keep
        self.shape = (len(keep), *array.shape[1:])
        self.dtype = array.dtype

    def __len__(self) -> int:
        return len(self._keep)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        rows, *rest = index if isinstance(index, tuple) else (index,)
        found: NDArray[np.uint8] = self._array[self._keep[rows]]
        return found[(slice(None), *rest)] if rest else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._array[self._keep], dtype=dtype)


def development(images: Images) -> Images:
    """The data set with a fifth of its training images (by hashed id, of each class) as the test.

    At most 10,000. They are not trained on; the real test split is out of reach.

    Raises:
        DataError: There are no classes, or one of them has fewer than two training images.
    """
    train = images.train
    if train.labels is None or not images.classes:
        raise DataError(
            f"{images.name} has no classes, so there is nothing to choose by: tuning needs labels."
        )
    share = min(SHARE, MOST / len(train))
    keys = np.array([_key(name) for name in train.ids])
    chosen = []
    for label, name in enumerate(images.classes):
        members = np.flatnonzero(train.labels == label)
        if len(members) < 2:
            raise DataError(f"class {name!r} has {len(members)} training images, too few to split.")
        chosen.append(members[np.argsort(keys[members])][: max(1, round(share * len(members)))])
    scored = np.sort(np.concatenate(chosen))
    kept = np.setdiff1d(np.arange(len(train)), scored)
    rows: Any = Rows(train.images, kept)
    rest = Split(rows, train.labels[kept], [train.ids[int(i)] for i in kept])
    mark = hashlib.sha256(f"development|{images.fingerprint}".encode()).hexdigest()
    return replace(images, train=rest, test=train.take(scored), fingerprint=mark)


def _key(name: str) -> int:
    digest = hashlib.blake2b(f"development|{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
