"""Contours as MATLAB writes them: scipy as the oracle, hostile files, and BSDS500 itself."""

import contextlib
import re
import struct
import tarfile
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat, savemat
from scipy.stats import rankdata

from maskbench.analysis import sources
from maskbench.data import annotated, truth
from maskbench.data.folder import open_folder


def annotate(path: Path, *drawn: NDArray[Any], name: str = "groundTruth", **options: Any) -> Path:
    """A file as BSDS500's are."""
    cell = np.empty((1, len(drawn)), object)
    for i, one in enumerate(drawn):
        cell[0, i] = {"Segmentation": np.ones(one.shape, np.uint16), "Boundaries": one}
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"other": np.arange(3.0), name: cell}, **options)
    return path


def element(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)


def head(kind: int, rows: int = 1, columns: int = 1, name: bytes = b"") -> bytes:
    """The header of an array of some class."""
    flags, shape = struct.pack("<II", kind, 0), struct.pack("<ii", rows, columns)
    return element(6, flags) + element(5, shape) + element(1, name)


def matlab(*elements: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + b"".join(elements)


def packed(inflated: bytes) -> bytes:
    body = zlib.compress(inflated, 9)
    return struct.pack("<II", 15, len(body)) + body


def cells(*parts: bytes) -> bytes:
    return element(14, head(1, 1, len(parts), b"groundTruth") + b"".join(parts))


def annotator(fields: bytes, *parts: bytes, length: int = 12) -> bytes:
    width = struct.pack("<HHi", 5, 4, length)
    return element(14, head(2) + width + element(1, fields) + b"".join(parts))


BARE = element(14, head(9, 2, 3) + element(2, bytes([1, 0, 0, 1, 1, 0])))
EMPTY = element(14, head(1))
FIELD = b"Boundaries\0\0"


def test_a_file_by_hand() -> None:
    """Column by column, as MATLAB keeps matrices."""
    for whole in (cells(annotator(FIELD, BARE)), packed(cells(annotator(FIELD, BARE)))):
        (found,) = annotated.boundaries(matlab(whole))
        assert found.tolist() == [[True, False, True], [False, True, False]]


@pytest.mark.parametrize("kind", ["u1", "?", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_kind_of_number(tmp_path: Path, kind: str, compressed: bool) -> None:
    drawn = [np.random.default_rng(i).random((5, 7)) < 0.3 for i in range(3)]
    path = tmp_path / "a.mat"
    annotate(path, *(one.astype(kind) for one in drawn), do_compression=compressed)
    np.testing.assert_array_equal(annotated.boundaries(path.read_bytes()), drawn)


DAMAGED = "damaged, or not as BSDS500 is written"
BIG = head(1, 2**31 - 1, 2**31 - 1, b"groundTruth")
HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a MATLAB 5 file"),
    "text": (b"hello" * 100, "not a MATLAB 5 file"),
    "hdf": (b"\x89HDF\r\n\x1a\n" + bytes(600), "MATLAB 7.3"),
    "new": (b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400), "MATLAB 7.3"),
    "big endian": (b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI", "not a MATLAB 5 file"),
    "no array": (matlab(), "no groundTruth in it"),
    "another": (matlab(element(14, head(9, name=b"x"))), "no groundTruth in it"),
    "tail": (matlab(b"\1"), DAMAGED),
    "number": (matlab(element(14, head(9, name=b"groundTruth") + BARE)), "groundTruth is not a c"),
    "none": (matlab(cells()), "groundTruth is not a cell"),
    "empty": (matlab(cells(element(14, b""))), DAMAGED),
    "cells": (matlab(cells(EMPTY)), "an annotator is not a struct"),
    "deep": (matlab(element(14, head(1, name=b"groundTruth") + EMPTY * 500_000)), "an annotator"),
    "wide": (matlab(element(14, BIG + annotator(FIELD))), DAMAGED),
    "no field": (matlab(cells(annotator(b"Segmentation", BARE))), "an annotator has no Bound"),
    "endless": (matlab(cells(annotator(bytes(10_000_000), BARE, length=1))), DAMAGED),
    "zero": (matlab(cells(annotator(FIELD, BARE, length=0))), DAMAGED),
    "short": (matlab(cells(annotator(FIELD, BARE)))[:-3], "cut short"),
    "lies": (matlab(struct.pack("<II", 14, 2**32 - 1) + head(1)), "cut short"),
    "pixels": (matlab(cells(annotator(FIELD, element(14, head(9, 9, 9)
              + element(2, bytes(6)))))), DAMAGED),
    "kind": (matlab(cells(annotator(FIELD, element(14, head(9) + element(99, b""))))), DAMAGED),
    "not zip": (matlab(struct.pack("<II", 15, 8) + bytes(8)), DAMAGED),
    "no zip": (matlab(packed(b"")), DAMAGED),
    "zip in zip": (matlab(packed(packed(cells(annotator(FIELD, BARE))))), DAMAGED),
    "bomb": (matlab(packed(bytes(70_000_000))), "more than 67,108,864 bytes when inflated"),
    "bombs": (matlab(*[packed(element(14, head(9) + bytes(2**25)))] * 3), "more than 67,108,864"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_words(name: str) -> None:
    content, why = HOSTILE[name]
    tracemalloc.start()
    with pytest.raises(ValueError, match=re.escape(why)) as caught:
        annotated.boundaries(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(caught.value).startswith(why)
    assert peak < 200 * 2**20


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_damage_gives_contours_or_words(data: st.DataObject) -> None:
    whole = bytearray(matlab(cells(annotator(FIELD, BARE), annotator(FIELD, BARE))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(124, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(annotated._RefusedError):
        found = annotated.boundaries(bytes(whole[: data.draw(st.integers(0, 2 * len(whole)))]))
        assert all(one.ndim == 2 and one.dtype == np.bool_ for one in found)


def test_hostile_annotations_are_named_among_good_ones(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "truth"
    data.mkdir()
    contents = {name: made for name, (made, _) in HOSTILE.items()}
    for name in [*contents, "good", "turned", "drawn by nobody"]:
        Image.new("RGB", (9, 7)).save(data / f"{name}.png")
    annotate(folder / "good.mat", np.eye(7, 9), np.eye(7, 9))
    annotate(folder / "turned.mat", np.eye(7, 9), np.eye(9, 7))
    annotate(folder / "drawn by nobody.mat", np.zeros((7, 9)))
    for name, content in contents.items():
        (folder / f"{name}.mat").write_bytes(content)
    ids = sorted(path.name for path in data.iterdir())
    found = truth.read(folder, data, ids, 7)
    why = dict(found.missing)
    assert [ids[i] for i in np.flatnonzero(found.known_contours)] == ["good.png"]
    assert found.annotators.sum() == 2
    assert set(why) == set(ids) - {"good.png"}
    assert why.pop("turned.png") == ".mat: 7x9 px, its image has 9x7"
    assert why.pop("drawn by nobody.png") == "no contour"
    for name, (_, expected) in HOSTILE.items():
        assert why[f"{name}.png"].startswith(f".mat: {expected}")


# Real annotations


def auc(maps: NDArray[np.float64], drawn: NDArray[np.bool_]) -> float:
    """Mean over images of the Mann-Whitney statistic."""
    ranks, ones = rankdata(maps, axis=1), drawn.sum(1)
    above = (ranks * drawn).sum(1) - ones * (ones + 1) / 2
    return float(np.mean(above / (ones * (drawn.shape[1] - ones))))


@pytest.mark.slow
@pytest.mark.shared
def test_bsds500_lies_on_its_images(shared: Path, tmp_path: Path) -> None:
    """Edges find what people drew, much less so in a mirror or on another image."""
    with tarfile.open(shared / "data" / "bsds500-test.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    images, folder = tmp_path / "images" / "test", tmp_path / "groundTruth" / "test"
    split = open_folder(images, 224, tmp_path / "cache").train
    found = truth.read(folder, images, split.ids, split.side)
    assert len(split) == 200
    assert found.known_contours.all()
    assert not found.missing
    assert found.objects is None
    assert found.annotators.min() >= 4
    for name in split.ids[:20]:
        path = (folder / name).with_suffix(".mat")
        cell = loadmat(path)["groundTruth"].ravel()
        expected = [one["Boundaries"][0, 0] != 0 for one in cell]
        np.testing.assert_array_equal(annotated.boundaries(path.read_bytes()), expected)
    contours = truth.centred(found, 224).contours
    assert contours is not None
    drawn = sources.tokens(contours.astype(np.float64), 14, 14) > 0.03
    seen = np.asarray(split.images[:, 16:-16, 16:-16])
    for work in (sources.edge_energy, sources.spectral_residual):
        edges = sources.tokens(work(seen), 14, 14)
        mirrored = drawn.reshape(-1, 14, 14)[..., ::-1].reshape(-1, 196)
        assert auc(edges, drawn) > 0.65
        assert auc(edges, mirrored) < 0.6
        assert auc(edges, np.roll(drawn, 1, axis=0)) < 0.55
