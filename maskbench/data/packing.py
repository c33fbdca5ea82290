"""Packing: every image decoded once, into a folder that takes its name when it is whole.

What is being packed lies in ``.packing/NAME-KEY/`` beside the packs: a lock, so that two processes
do not pack the same; a journal; and the pack as far as it is. The images of a split are appended to
one file. Every few seconds what is there is forced to the disk and noted in the journal as a range;
after a kill the next process reads the ranges back, compares digests, and goes on behind them.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL

from maskbench.data import decode, packed
from maskbench.data.journal import Journal, Range
from maskbench.data.judging import accept, judge, judged
from maskbench.data.packed import Bad, File, Pack, Plan
from maskbench.data.source import Images
from maskbench.errors import BusyError, DataError, StoreError, UsageError
from maskbench.events import Progress
from maskbench.lock import hold
from maskbench.trust import plain

RULES = 2  # raise it when the same files would be packed differently
SHOWN = 1000  # skipped files named in the record
SAVE = 5.0  # seconds of work that a kill costs, about
_PIECE = 2**24  # bytes read back at a time


def opened(plan: Plan, side: int, cache: Path, max_bad: float, progress: Progress) -> Images:
    """The images of a plan, packed on first use.

    Args:
        plan: What was found.
        side: Side of the model's input in pixels.
        cache: Folder for packed data sets; created when needed.
        max_bad: Largest share of all files that may be unusable, 0 to 1.
        progress: Told about packing.

    Raises:
        DataError: Too little of it can be used.
        StoreError: The packed images cannot be written.
        UsageError: ``max_bad`` is not a share.
    """
    if not 0 <= max_bad <= 1:
        raise UsageError(f"--max-bad is a share from 0 to 1, such as 0.01, not {max_bad}.")
    target = cache / f"{plan.name}-{_key(plan, side)}"
    pack = packed.read(target)
    if pack is None:
        try:
            pack = _packed(target, plan, side, max_bad, progress)
        except OSError as error:
            most = sum(map(len, plan.splits.values())) * (side * 8 // 7) ** 2 * 3
            raise StoreError(
                f"The packed images of {plan.name} cannot be written to {cache}: "
                f"{error.strerror or error}. They take up to {most / 1e6:.1f} MB there; make room "
                "(what is packed is kept, the same command goes on from there), or choose another "
                "run store."
            ) from error
    accept(plan, pack.labels, pack.skipped, max_bad, side)
    return pack.images


def _key(plan: Plan, side: int) -> str:
    """Twelve hex digits that change with the files, their times, the layout and the side.

    The place of the folder counts too: archives often give all files one time, and two folders of
    the same name may then be told apart by nothing else.
    """
    files = [[f.path, f.size, f.changed] for split in plan.splits.values() for f in split]
    facts = [RULES, packed.SCHEMA, side, str(plan.root), plan.layout, plan.classes, files]
    marks = [plan.kind, plan.mark] if plan.mark else []
    return hashlib.sha256(json.dumps([facts, plan.skipped, *marks]).encode()).hexdigest()[:12]


def _packed(target: Path, plan: Plan, side: int, max_bad: float, progress: Progress) -> Pack:
    """Pack, or wait for the process that does."""
    part = target.parent / ".packing" / target.name
    part.mkdir(parents=True, exist_ok=True)
    with _alone(part, progress):
        pack = packed.read(target)  # of a process that was waited for
        if pack is not None:
            return pack
        if target.exists():
            progress.message(f"The packed images in {target} are damaged; packing them anew.")
        terms = {"pillow": PIL.__version__, "numpy": np.__version__}
        journal = Journal(part / "journal.jsonl", terms)
        if journal.judged() is None:
            journal.begin(*judge(plan, side, progress))
        plan = judged(plan, *(journal.judged() or (side, {})))
        try:
            accept(plan, plan.labels, plan.skipped, max_bad, side)
        except DataError:
            (part / "journal.jsonl").unlink()
            raise
        _Filling(part / "pack", plan, journal, progress).fill()
        shutil.rmtree(target, ignore_errors=True)  # a damaged one is in the way
        (part / "pack").rename(target)
        (part / "journal.jsonl").unlink()
    pack = packed.read(target)
    if pack is None:
        raise StoreError(
            f"The packed images in {target} cannot be read back after writing. Check that disk, or "
            f"choose another run store."
        )
    return pack


@contextlib.contextmanager
def _alone(part: Path, progress: Progress) -> Iterator[None]:
    """Be the only process that packs this."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(part))
        except BusyError:
            progress.message("Another process is packing the same images; waiting for it.")
            stack.enter_context(hold(part, patience=-1))
        yield


class _Filling:
    """Writes all files of a pack, behind those that are there.

    Args:
        folder: The pack's, perhaps with images of a packing that was cut short.
        plan: With ``stored`` set.
        journal: What of the images is whole.
        progress: Told about every split.
    """

    def __init__(self, folder: Path, plan: Plan, journal: Journal, progress: Progress) -> None:
        self._folder, self._plan = folder, plan
        self._journal, self._progress = journal, progress
        self._bytes = plan.stored**2 * 3
        self._digest = hashlib.sha256()
        self._reasons: list[str] = []

    def fill(self) -> None:
        """Do it."""
        plan, counts, skipped = self._plan, {}, list(self._plan.skipped)
        for name, files in plan.splits.items():
            (self._folder / name).mkdir(parents=True, exist_ok=True)
            self._pixels(name, files)
            reasons = self._reasons
            good = [file for file, why in zip(files, reasons, strict=True) if not why]
            skipped += [
                Bad(plain(file.path), why) for file, why in zip(files, reasons, strict=True) if why
            ]
            ids = json.dumps([plain(file.path) for file in good]).encode()
            labels = np.array([file.label for file in good], np.int64)
            self._digest.update(labels.astype("<i8").tobytes() + ids)
            with _durable(self._folder / name / "ids.json") as out:
                out.write(ids)
            if plan.classes:
                with _durable(self._folder / name / "labels.npy") as out:
                    np.save(out, labels)
            counts[name] = len(good)
        with _durable(self._folder / "pack.json") as out:
            facts = _facts(plan, counts, sorted(skipped), self._digest.hexdigest())
            out.write(json.dumps(facts, indent=1).encode())

    def _pixels(self, split: str, files: Sequence[File]) -> None:
        """Decode one split into its file; per file "" or why it was left out in ``_reasons``."""
        path = self._folder / split / "images.u8"
        path.touch()
        with path.open("r+b") as out:
            images = self._kept(split, out)
            done = len(self._reasons)
            if done:
                told = f"{done:,} of {len(files):,} images of {split} are packed already"
                self._progress.message(f"{told}; going on after them.")
            out.truncate(images * self._bytes)
            out.seek(images * self._bytes)
            saved = time.monotonic()

            def take(results: Sequence[bytes | str]) -> None:
                nonlocal saved
                pixels = b"".join(found for found in results if isinstance(found, bytes))
                out.write(pixels)
                self._digest.update(pixels)
                self._reasons += ["" if isinstance(found, bytes) else found for found in results]
                if time.monotonic() - saved >= SAVE:
                    self._save(split, out)
                    saved = time.monotonic()

            decode.in_threads(
                self._image, files, f"packing {split}", self._progress, take, done=done
            )
            self._save(split, out)

    def _image(self, file: File) -> bytes | str:
        """Pixels of one file, or why there are none."""
        try:
            source = self._plan.source(file)
        except Exception as error:
            return decode.reason(error)
        return decode.pixels(source, self._plan.stored)

    def _kept(self, split: str, file: IO[bytes]) -> int:
        """Read back the ranges of a split that hold; how many images they are."""
        self._reasons, images = [], 0
        for found in self._journal.ranges(split):
            digest, first = self._digest.copy(), len(self._reasons)
            left = (found.images - images) * self._bytes
            while left > 0 and (piece := file.read(min(left, _PIECE))):
                digest.update(piece)
                left -= len(piece)
            bad = dict(found.bad)
            reasons = [bad.get(number, "") for number in range(first, found.files)]
            fits = reasons.count("") == found.images - images
            if left or not fits or digest.hexdigest() != found.digest:
                self._journal.cut(found)
                break
            self._digest, images = digest, found.images
            self._reasons += reasons
        return images

    def _save(self, split: str, out: IO[bytes]) -> None:
        """Force the images to the disk, then say so in the journal."""
        known = self._journal.ranges(split)
        first, files = known[-1].files if known else 0, len(self._reasons)
        if files == first:
            return
        out.flush()
        os.fsync(out.fileno())
        bad = [(n, self._reasons[n]) for n in range(first, files) if self._reasons[n]]
        images = out.tell() // self._bytes
        self._journal.add(Range(split, files, images, self._digest.hexdigest(), bad))


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
        "schema": packed.SCHEMA,
        "kind": plan.kind,
        "name": plan.name,
        "classes": plan.classes,
        "stored_side": plan.stored,
        "counts": counts,
        "fingerprint": fingerprint,
        "notes": notes,
        "skipped": skipped,
    }


@contextlib.contextmanager
def _durable(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, on the disk when the block ends."""
    with path.open("wb") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())
