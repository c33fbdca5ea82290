"""Packed images: decoded once into raw uint8 files that later runs map into memory.

A pack is a folder::

    pack.json         name, classes, stored side, counts, fingerprint, every skipped file, versions
    train/images.u8   raw uint8, (images, side, side, 3)
    train/labels.npy  int64, (images,); absent for a flat folder
    train/ids.json    the path of every image inside the data set
    test/...          the same; absent for a flat folder

It is written under a temporary name beside its place and renamed when it is complete, so a folder
with the final name is a finished pack; whatever a crash leaves behind is never mistaken for one.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

from maskbench.data import decode
from maskbench.data.source import Images, Split
from maskbench.errors import StoreError
from maskbench.events import Progress
from maskbench.trust import plain

SCHEMA = 1
SHOWN = 1000  # skipped files named in the record


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
        root: The data folder, absolute.
        name: The folder's name in letters that suit any file system.
        layout: How the folder is organised, in words for the record.
        classes: Class names in label order; empty for a flat folder.
        splits: Files of "train" and "test", sorted by path; only "train" for a flat folder.
        skipped: Files that are known to be unusable.
        stored: Side of the packed images in pixels; 0 as long as it is not known.
    """

    root: Path
    name: str
    layout: str
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[File]]
    skipped: Sequence[Bad]
    stored: int = 0

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


def write(target: Path, plan: Plan, progress: Progress) -> Pack:
    """Decode the images of a plan into a new pack; files that fail are listed in it.

    Args:
        target: Folder of the pack; replaced if it holds no readable pack.
        plan: With ``stored`` set.
        progress: Told about every split.

    Raises:
        StoreError: The pack cannot be written or read back.
    """
    temporary = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}"
    try:
        temporary.mkdir(parents=True)
        _fill(temporary, plan, progress)
        _commit(temporary, target)
    except OSError as error:
        bytes_needed = sum(map(len, plan.splits.values())) * plan.stored**2 * 3
        raise StoreError(
            f"The packed images of {plan.name} cannot be written to {target.parent}: "
            f"{error.strerror or error}. They take {bytes_needed / 1e6:.1f} MB there; make room, "
            f"or choose another run store."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    pack = read(target)
    if pack is None:
        raise StoreError(
            f"The packed images in {target} cannot be read back after writing. Check that disk, or "
            f"choose another run store."
        )
    return pack


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
            name=f"folder:{facts['name']}",
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


def _fill(folder: Path, plan: Plan, progress: Progress) -> None:
    """Write all files of a pack into an empty folder."""
    digest = hashlib.sha256()
    skipped = list(plan.skipped)
    counts = {}
    for name, files in plan.splits.items():
        (folder / name).mkdir()
        reasons = _write_pixels(folder / name / "images.u8", plan, name, digest, progress)
        good = [file for file, why in zip(files, reasons, strict=True) if not why]
        skipped += [
            Bad(plain(file.path), why) for file, why in zip(files, reasons, strict=True) if why
        ]
        ids = json.dumps([plain(file.path) for file in good]).encode()
        labels = np.array([file.label for file in good], np.int64)
        digest.update(labels.astype("<i8").tobytes() + ids)
        with _durable(folder / name / "ids.json") as out:
            out.write(ids)
        if plan.classes:
            with _durable(folder / name / "labels.npy") as out:
                np.save(out, labels)
        counts[name] = len(good)
    with _durable(folder / "pack.json") as out:
        facts = _facts(plan, counts, sorted(skipped), digest.hexdigest())
        out.write(json.dumps(facts, indent=1).encode())


def _write_pixels(
    path: Path, plan: Plan, split: str, digest: "hashlib._Hash", progress: Progress
) -> list[str]:
    """Decode one split into a raw file; per file "" or why it was left out."""
    reasons: list[str] = []
    with _durable(path) as out:

        def take(results: Sequence[bytes | str]) -> None:
            for result in results:
                if isinstance(result, bytes):
                    digest.update(result)
                    out.write(result)
                reasons.append(result if isinstance(result, str) else "")

        paths = [f"{plan.root}/{file.path}" for file in plan.splits[split]]
        work = partial(decode.pixels, side=plan.stored)
        decode.in_threads(work, paths, f"packing {split}", progress, take)
    return reasons


def _facts(
    plan: Plan, counts: Mapping[str, int], skipped: Sequence[Bad], fingerprint: str
) -> dict[str, Any]:
    """The content of ``pack.json``."""
    notes = {
        "layout": plan.layout,
        "stored_side": plan.stored,
        "exif": "orientation not applied",
        "pillow": PIL.__version__,
        "numpy": np.__version__,
        "skipped": {
            "count": len(skipped),
            "share": len(skipped) / max(1, len(skipped) + sum(counts.values())),
            "files": [bad._asdict() for bad in skipped[:SHOWN]],
        },
    }
    return {
        "schema": SCHEMA,
        "name": plan.name,
        "classes": plan.classes,
        "stored_side": plan.stored,
        "counts": counts,
        "fingerprint": fingerprint,
        "notes": notes,
        "skipped": skipped,
    }


def _commit(temporary: Path, target: Path) -> None:
    """Give a finished pack its name, unless another process was first."""
    try:
        temporary.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.EACCES):
            raise
        if read(target) is None:  # a damaged one is in the way
            shutil.rmtree(target)
            temporary.rename(target)


@contextlib.contextmanager
def _durable(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, on the disk when the block ends."""
    with path.open("wb") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())
