"""Packed images: decoded once into raw uint8 files that later runs map into memory.

A pack is a folder::

    pack.json         name, classes, stored side, counts, fingerprint, every skipped file, versions
    train/images.u8   raw uint8, (images, side, side, 3)
    train/labels.npy  int64, (images,); absent for a flat folder
    train/ids.json    the path of every image inside the data set
    test/...          the same; absent for a flat folder

``packing`` writes it elsewhere and renames it when it is complete, so a folder with the final name
is a finished pack; whatever a crash leaves behind is never mistaken for one.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskbench.data.decode import Source
from maskbench.data.source import Images, Split

SCHEMA = 1


class File(NamedTuple):
    """A file that should be an image.

    Attributes:
        path: Relative to the data folder, with "/".
        label: Index of its class; -1 where there are none.
        size: Bytes.
        changed: Time of the last change in ns.
    """

    path: str
    label: int
    size: int
    changed: int


class Bad(NamedTuple):
    """A file that is not used, by its printable path in the data folder, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What is to be packed.

    Args:
        root: The data folder, absolute; or what else the files are found in, for messages.
        name: The folder's name in letters that suit any file system.
        layout: How the folder is organised, in words for the record.
        classes: Class names in label order; empty for a flat folder.
        splits: Files of "train" and "test", sorted by path; only "train" for a flat folder.
        skipped: Files that are known to be unusable.
        stored: Side of the packed images in pixels; 0 as long as it is not known.
        kind: What ``--data`` calls such data.
        mark: What else a pack depends on, beside its files and their times.
        fetch: Gives a file that does not lie in the folder.
    """

    root: Path
    name: str
    layout: str
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[File]]
    skipped: Sequence[Bad]
    stored: int = 0
    kind: str = "folder"
    mark: str = ""
    fetch: Callable[[File], Source] | None = None

    def source(self, file: File) -> Source:
        """Where a file's bytes are."""
        return f"{self.root}/{file.path}" if self.fetch is None else self.fetch(file)

    @property
    def labels(self) -> dict[str, NDArray[np.int64]]:
        """Labels per split, (files,); -1 for files without a class."""
        return {
            name: np.array([file.label for file in files], np.int64)
            for name, files in self.splits.items()
        }


@dataclass(frozen=True)
class Pack:
    """An opened pack: the images, and all files that were skipped on the way to them."""

    images: Images
    skipped: tuple[Bad, ...]

    @property
    def labels(self) -> dict[str, NDArray[np.int64]]:
        """Labels per split, (images,); -1 for images without a class."""
        splits = {"train": self.images.train, "test": self.images.test}
        return {
            name: np.full(len(split), -1) if split.labels is None else split.labels
            for name, split in splits.items()
            if split is not None
        }


def short_name(text: str) -> str:
    """A name in letters that suit any file system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:80] or "images"


def read(folder: Path) -> Pack | None:
    """Open a pack without decoding or copying anything.

    Returns:
        The pack with read-only, memory-mapped images; None if there is none or it is damaged
        (a file is missing or has another size than it should).
    """
    try:
        facts = json.loads((folder / "pack.json").read_text("utf-8"))
        if facts["schema"] != SCHEMA:
            return None
        classes = tuple(facts["classes"])
        splits = {
            name: _read_split(folder / name, count, facts["stored_side"], len(classes))
            for name, count in facts["counts"].items()
            if name in ("train", "test")
        }
        images = Images(
            name=f"{facts.get('kind', 'folder')}:{facts['name']}",
            classes=classes,
            train=splits["train"],
            test=splits.get("test"),
            fingerprint=facts["fingerprint"],
            notes=facts["notes"],
        )
        return Pack(images, tuple(Bad(*bad) for bad in facts["skipped"]))
    except (OSError, EOFError, ArithmeticError, RecursionError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _read_split(folder: Path, count: int, side: int, classes: int) -> Split:
    """One split of a pack; ValueError if a file does not hold ``count`` entries."""
    path = folder / "images.u8"
    shape = (count, side, side, 3)
    ids = json.loads((folder / "ids.json").read_text("utf-8"))
    path_of_labels = folder / "labels.npy"
    labels = np.load(path_of_labels, mmap_mode="r", allow_pickle=False) if classes else None
    if path.stat().st_size != count * side * side * 3 or len(ids) != count:
        raise ValueError("a file has the wrong size")
    if labels is not None:
        if labels.shape != (count,) or labels.dtype != np.int64:
            raise ValueError("the labels do not fit the images")
        labels = np.array(labels)
        if count and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError("a label has no class")
    if not count:  # an empty file cannot be mapped
        return Split(np.empty(shape, np.uint8), labels, ())
    return Split(np.memmap(path, np.uint8, "r", shape=shape), labels, tuple(ids))
