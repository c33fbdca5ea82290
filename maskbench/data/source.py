"""What every data source gives: splits of same-sized uint8 images, in memory or memory-mapped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Split:
    """Images of one split.

    Args:
        images: Uint8, (images, side, side, 3); may be memory-mapped and read-only.
        labels: Int64, (images,), or None where the data has no classes.
        ids: A stable id per image (its path inside the data set); few-shot subsets hash it.
        objects: Bool, (images, side, side), True on the object; None where unknown.
        contours: Bool, (images, side, side), True on the object's outline; None where unknown.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    ids: Sequence[str]
    objects: NDArray[np.bool_] | None = None
    contours: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, positions: NDArray[np.int64]) -> "Split":
        """Some of the images, in memory."""
        return Split(
            images=np.ascontiguousarray(self.images[positions]),
            labels=None if self.labels is None else self.labels[positions],
            ids=[self.ids[int(i)] for i in positions],
            objects=None if self.objects is None else self.objects[positions],
            contours=None if self.contours is None else self.contours[positions],
        )

    @property
    def side(self) -> int:
        """Pixels along one side of an image."""
        return int(self.images.shape[1])


@dataclass(frozen=True)
class Images:
    """A data set.

    Args:
        name: As given to ``--data``, without machine paths: ``scenes`` or ``folder:cifar10``.
        classes: Class names in label order; empty for a flat folder.
        train: The split to pretrain on.
        test: The split probes are scored on; None for a flat folder.
        fingerprint: SHA-256 of pixels, labels and ids, in hex.
        notes: Facts for the record: layout, stored side, skipped files (count and names).
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split | None
    fingerprint: str
    notes: Mapping[str, Any] = field(default_factory=dict)
