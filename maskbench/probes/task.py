"""What probes are asked on a data set: which images, which labels, which of them are labelled."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskbench.data import Images, Split
from maskbench.data.development import Rows
from maskbench.errors import DataError
from maskbench.probes.fewshot import SHOTS, Labels, class_order
from maskbench.trust import plain

POOL = 10_000
"""Images of each split that are used at most, unless asked otherwise."""


@dataclass(frozen=True)
class Part:
    """Some images of a split.

    Args:
        split: The split.
        positions: Which of its images, ascending.
        mark: Tells these images from all others.
    """

    split: Split
    positions: Labels
    mark: str

    def only(self) -> Split:
        """They as a split; pixels are read when they are asked for."""
        return Split(self.images, self.labels, self.ids)

    @property
    def images(self) -> Any:
        """Uint8, (images, side, side, 3), read when they are asked for."""
        if len(self.positions) == len(self.split):
            return self.split.images
        return Rows(self.split.images, self.positions)

    @cached_property
    def labels(self) -> Labels:
        """Their classes."""
        assert self.split.labels is not None
        return self.split.labels[self.positions]

    @cached_property
    def ids(self) -> list[str]:
        """Their ids."""
        return [self.split.ids[int(i)] for i in self.positions]


@dataclass(frozen=True)
class Task:
    """A data set as probes use it.

    Args:
        name: Of the data set, part of the keys of few-shot subsets.
        classes: Class names in label order.
        train: The pool: labelled images are drawn from it.
        test: What is scored.
        duplicates: Training images that were left out because the test split has them, too.
        notes: What else was found, in sentences.
    """

    name: str
    classes: Sequence[str]
    train: Part
    test: Part
    duplicates: int
    notes: tuple[str, ...]

    def images(self) -> Images:
        """The same images as a data set of their own."""
        return Images(
            self.name, tuple(self.classes), self.train.only(), self.test.only(), self.train.mark
        )


def task_of(images: Images, limit: int = POOL) -> Task:
    """The task of a data set.

    Args:
        images: The data set.
        limit: Images of each split, at most; equally many of each class, by hashed id.

    Raises:
        DataError: No classes, one class, labels that are no whole numbers or name no class, or a
            class without an image to learn from.
    """
    train, test = images.train, images.test
    if test is None or train.labels is None or test.labels is None:
        raise DataError(
            f"{images.name} has no classes or no test split, so there is nothing to probe: give "
            "folders train/ and test/ with one folder per class."
        )
    count = len(images.classes)
    if count < 2:
        raise DataError(f"probes need at least two classes; {images.name} has {count}")
    for name, split in (("train", train), ("test", test)):
        check_labels(split.labels, count, f"{images.name}, {name} split")
    pool = probe_pool(train.ids, train.labels, limit)
    scored = probe_pool(test.ids, test.labels, limit)
    doubles = np.isin(digests(train, pool), digests(test, scored))
    mark = hashlib.sha256(f"{images.fingerprint}|{limit}".encode()).hexdigest()
    task = Task(
        name=images.name,
        classes=images.classes,
        train=Part(train, pool[~doubles], f"{mark} train"),
        test=Part(test, scored, f"{mark} test"),
        duplicates=int(doubles.sum()),
        notes=(),
    )
    return _noted(task)


def check_labels(labels: Any, classes: int, where: str) -> None:
    """Refuse labels that are no positions in the list of classes.

    Raises:
        DataError: They are not.
    """
    found = np.asarray(labels)
    if not np.issubdtype(found.dtype, np.integer):
        raise DataError(
            f"the labels of {where} are {found.dtype}, not whole numbers: give each image the "
            "position of its class, from 0."
        )
    if len(found) and not (found.min() >= 0 and found.max() < classes):
        raise DataError(
            f"the labels of {where} go from {found.min()} to {found.max()}, but there are "
            f"{classes} classes, 0 to {classes - 1}."
        )


def digests(split: Split, positions: Labels) -> NDArray[np.bytes_]:
    """A digest of each image's pixels; equal images have equal ones."""
    rows = (np.ascontiguousarray(split.images[int(i)]).data for i in positions)
    return np.array([hashlib.blake2b(row, digest_size=16).hexdigest() for row in rows], dtype="S32")


def _noted(task: Task) -> Task:
    """The task with what has to be said of it.

    Raises:
        DataError: A class has no image to learn from.
    """
    notes = []
    doubled = f"{task.duplicates:,} training images are in the test split, too"
    if task.duplicates:
        notes.append(f"{doubled}: they were left out of the probes.")
    counts = [np.bincount(p.labels, minlength=len(task.classes)) for p in (task.train, task.test)]
    absent = _names(task.classes, counts[0] == 0)
    if absent:
        why = f" ({doubled})" if task.duplicates else ""
        raise DataError(
            f"{task.name}: no training image of {absent} to learn from{why}. Add some, or remove "
            "the class from both splits."
        )
    if not len(task.test.positions):
        raise DataError(f"{task.name}: the test split has no image to score.")
    unscored = _names(task.classes, counts[1] == 0)
    if unscored:
        notes.append(
            f"no test image of {unscored}: accuracies are over the other classes, which may still "
            "be mistaken for it."
        )
    dropped = dropped_shots(task.train.labels, task.classes)
    if dropped:
        notes.append(dropped)
    return Task(**{**vars(task), "notes": tuple(notes)})


def _names(classes: Sequence[str], which: NDArray[np.bool_]) -> str:
    found = [plain(classes[int(i)]) for i in np.flatnonzero(which)]
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def dropped_shots(labels: Labels, classes: Sequence[str], shots: Sequence[int] = SHOTS) -> str:
    """A sentence naming the shots that do not fit and the class that is short; empty if none."""
    counts = np.bincount(labels, minlength=len(classes))
    short = int(counts.argmin())
    dropped = [str(n) for n in shots if n > counts[short]]
    if not dropped:
        return ""
    return (
        f"no few-shot probes at {', '.join(dropped)} images per class: "
        f"class {plain(classes[short])!r} has only {counts[short]} train images."
    )


def probe_pool(ids: Sequence[str], labels: Labels, limit: int = POOL) -> Labels:
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
