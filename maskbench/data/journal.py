"""What of a pack is finished and on the disk, so that a killed packing goes on behind it.

One line of JSON each: first what was judged, then ranges of finished images. A range is noted when
its pixels are on the disk, and holds the fingerprint's digest at its end, so that what is taken
over was read back and compared. A torn last line counts for nothing.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maskbench.files import replacing


@dataclass(frozen=True)
class Range:
    """Files that were decoded one after the other.

    Args:
        split: Theirs.
        files: How many files of the split are done at its end.
        images: How many of them became images.
        digest: SHA-256 of all pixels, labels and ids of the pack so far, in hex.
        bad: Number in the split and reason of this range's files that did not.
    """

    split: str
    files: int
    images: int
    digest: str
    bad: list[tuple[int, str]]


class Journal:
    """The lines of one packing; empty where there are none, or where they hold no longer.

    Args:
        path: Where it lies.
        terms: What has to be the same for its ranges to hold: versions of what decodes.

    Raises:
        StoreError: It cannot be written.
    """

    def __init__(self, path: Path, terms: Mapping[str, Any]) -> None:
        self._path, self._terms = path, dict(terms)
        self._judged: tuple[int, dict[str, str]] | None = None
        self._ranges: list[Range] = []
        self._read()
        self._write()  # without what was not whole

    def judged(self) -> tuple[int, dict[str, str]] | None:
        """Side of the packed images in pixels, and reasons by path; None if not known yet."""
        return self._judged

    def begin(self, stored: int, bad: Mapping[str, str]) -> None:
        """Keep what was judged: side of the packed images in pixels, and reasons by path."""
        self._judged = stored, dict(bad)
        self._add()

    def ranges(self, split: str) -> list[Range]:
        """Finished ranges of a split, in order."""
        return [one for one in self._ranges if one.split == split]

    def add(self, finished: Range) -> None:
        """Keep a range whose pixels are on the disk."""
        self._ranges.append(finished)
        self._add()

    def cut(self, first: Range) -> None:
        """Forget a range that does not hold, and all behind it."""
        del self._ranges[self._ranges.index(first) :]
        self._write()

    def _read(self) -> None:
        """Take the lines up to the first that is not whole."""
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return
        with suppress(ValueError, TypeError, KeyError, IndexError, RecursionError):
            head = json.loads(lines[0])
            if head["terms"] != self._terms or not lines[0].endswith(b"\n"):
                return
            self._judged = int(head["stored"]), {str(p): str(why) for p, why in head["bad"]}
            self._ranges += (_range(json.loads(ln)) for ln in lines[1:] if ln.endswith(b"\n"))

    def _write(self) -> None:
        with replacing(self._path) as out:
            out.writelines(json.dumps(row).encode() + b"\n" for row in self._rows())

    def _rows(self) -> Iterator[dict[str, Any]]:
        if self._judged is not None:
            stored, bad = self._judged
            yield {"terms": self._terms, "stored": stored, "bad": list(bad.items())}
        yield from map(asdict, self._ranges)

    def _add(self) -> None:
        """Append the newest row."""
        *_, row = self._rows()
        with self._path.open("ab") as out:
            out.write(json.dumps(row).encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())


def _range(row: Mapping[str, Any]) -> Range:
    """A range as read; ValueError or the like if it is none."""
    bad = [(int(number), str(why)) for number, why in row["bad"]]
    files, images = int(row["files"]), int(row["images"])
    return Range(str(row["split"]), files, images, str(row["digest"]), bad)
