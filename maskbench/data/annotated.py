"""Human contours of BSDS500, as MATLAB wrote them: as much of the MAT 5 format as they need.

A file holds a cell ``groundTruth`` of one struct per annotator with a matrix ``Boundaries`` (and
others). ``scipy.io.loadmat`` would read it, but cells inside cells, as few as a file of some MB
can hold, overflow its C stack and end the process. Here nothing recurses, and no more is made than
the file's inflated bytes.
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskbench.trust import MAX_BYTES

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT = 1, 2
_NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8",
            12: "<i8", 13: "<u8"}  # fmt: skip
_PARTS = 200  # of one cell or struct: more annotators or fields nobody has
_ODD = "damaged, or not as BSDS500 is written"


class _RefusedError(ValueError):
    """Words for a person."""


class _Matrix(NamedTuple):
    """A MATLAB array: what it is made of follows its header."""

    kind: int
    shape: tuple[int, int]
    name: str
    parts: list[tuple[int, memoryview]]


def boundaries(data: bytes) -> list[NDArray[np.bool_]]:
    """Contours of every annotator.

    Args:
        data: A MAT 5 file, at most 64 MiB when inflated.

    Returns:
        One array per annotator, (height, width), True where a boundary was drawn.

    Raises:
        ValueError: It is no such file; says why in a few words.
    """
    if data.startswith((b"\x89HDF", b"MATLAB 7.3")):
        raise _RefusedError("MATLAB 7.3 (HDF5); save it with -v7")
    if data[124:_HEADER] != b"\0\1IM":
        raise _RefusedError("not a MATLAB 5 file")
    try:
        cell = next((m for m in _variables(data) if m.name == "groundTruth"), None)
        if cell is None:
            raise _RefusedError("no groundTruth in it")
        if cell.kind != _CELL or not cell.parts:
            raise _RefusedError("groundTruth is not a cell of annotators")
        return [_boundaries(_matrix(*part)) for part in cell.parts]
    except _RefusedError:
        raise
    except (struct.error, zlib.error, LookupError, ValueError) as error:
        raise _RefusedError(_ODD) from error


def _boundaries(annotator: _Matrix) -> NDArray[np.bool_]:
    """The field ``Boundaries`` of a 1 x 1 struct."""
    if annotator.kind != _STRUCT or annotator.shape != (1, 1):
        raise _RefusedError("an annotator is not a struct")
    (_, length), (_, names), *fields = annotator.parts
    width = struct.unpack("<i", length)[0]
    if width < 1 or len(names) > _PARTS * width:
        raise _RefusedError(_ODD)
    known = [bytes(names[i : i + width]).rstrip(b"\0") for i in range(0, len(names), width)]
    if b"Boundaries" not in known:
        raise _RefusedError("an annotator has no Boundaries")
    found = _matrix(*fields[known.index(b"Boundaries")])
    kind, numbers = found.parts[0]
    values = np.frombuffer(numbers, _NUMBERS[kind]).reshape(found.shape, order="F")
    return np.asarray(values != 0)


def _variables(data: bytes) -> Iterator[_Matrix]:
    """All arrays of a file by name, inflated one at a time."""
    left = MAX_BYTES
    for kind, body in _elements(memoryview(data)[_HEADER:]):
        if kind == _COMPRESSED:
            inflating = zlib.decompressobj()
            inflated = inflating.decompress(body, left + 1)
            if len(inflated) > left:
                raise _RefusedError(f"more than {MAX_BYTES:,} bytes when inflated")
            left -= len(inflated)
            yield _matrix(*next(_elements(memoryview(inflated)), (0, body)))
        else:
            yield _matrix(kind, body)


def _matrix(kind: int, body: memoryview) -> _Matrix:
    """Flags (the lowest byte is the array's class), dimensions, name; then the parts."""
    if kind != _MATRIX:
        raise _RefusedError(_ODD)
    (_, flags), (_, shape), (_, name), *parts = islice(_elements(body), _PARTS)
    rows, columns = struct.unpack("<2i", shape)
    return _Matrix(flags[0], (rows, columns), bytes(name).decode("ascii", "replace"), parts)


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and bytes of the elements that follow each other.

    Up to four bytes may share the tag's eight; compressed elements alone are not padded to eight.
    """
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        start, step = at + 8, 8 + size + (-size % 8 if kind != _COMPRESSED else 0)
        if kind >> 16:
            kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 8
        body = data[start : start + size]
        if len(body) != size:
            raise _RefusedError("cut short")
        yield kind, body
        at += step
