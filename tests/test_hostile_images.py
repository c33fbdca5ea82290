"""Hostile image files and links: each is skipped and named, none is decoded beyond the limits."""

import io
import os
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import SIDE, flat, put
from PIL import Image

from maskbench.data import decode
from maskbench.data.source import Images
from maskbench.errors import DataError


def chunk(kind: bytes, body: bytes) -> bytes:
    mark = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + mark


def png(width: int, height: int, body: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG that says these sizes, whatever is in it."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    end = chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + extra + end


def black(width: int, height: int) -> bytes:
    return zlib.compress(bytes((1 + 3 * width) * height), 9)


def jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose header says another size."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    found = bytearray(buffer.getvalue())
    start = found.index(b"\xff\xc0") + 5
    found[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(found)


def tiff(**tags: int) -> bytes:
    """A 64 x 64 deflated TIFF of long tags, without a pixel."""
    known = {"width": 256, "length": 257, "tile": 322, "tile_length": 323, "rows": 278, "size": 279}
    plain = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 273: 200, 279: 600}
    plain |= {known[name]: value for name, value in tags.items()}
    if "tile" in tags:
        plain |= {324: plain.pop(273), 325: plain.pop(279)}
    body = b"".join(struct.pack("<HHII", tag, 4, 1, plain[tag]) for tag in sorted(plain))
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(plain))
    return head + body + bytes(1004)


BOMB = b"x\0\0" + zlib.compress(bytes(200_000_000), 9)
MANY, LONG = "too many pixels", "px long, more than 32,768"
FILES: dict[str, tuple[bytes, str]] = {
    "wide.png": (png(100_000, 64, black(100_000, 64)), LONG),
    "tall.png": (png(64, 100_000, black(64, 100_000)), LONG),
    "bomb.png": (png(50_000, 50_000, black(64, 64)), MANY),
    "squares.png": (png(9_000, 9_000, black(64, 64)), MANY),
    "most.png": (png(2**32 - 1, 2**32 - 1), MANY),
    "zero.png": (png(0, 0), "not an image"),
    "profile.png": (png(64, 64, black(64, 64), chunk(b"iCCP", BOMB)), "Decompressed data too"),
    "words.png": (png(64, 64, black(64, 64), chunk(b"zTXt", BOMB)), "Decompressed data too"),
    "lies.jpg": (jpeg(65_500, 65_500), MANY),
    "nothing.jpg": (jpeg(0, 0), "not an image"),
    "half.jpg": (jpeg(64, 64)[:300], "runcated"),
    "text.jpg": (b"hello", "not an image"),
    "empty.jpg": (b"", "empty file"),
    "script.png": (b"<svg onload='x'/>", "not an image"),
    "ghost.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "not an image"),
    "tile.tif": (tiff(tile=40_000, tile_length=40_000), MANY),
    "strip.tif": (tiff(rows=2**32 - 1, size=2**31), ""),
    "loop.tif": (b"II*\0" + struct.pack("<IHI", 8, 0, 8), "not an image"),
    "huge.gif": (b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(20), "not an image"),
    "huge.ppm": (b"P6 100000 100000 255\n", MANY),
    "huge.bmp": (b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 2**30, 2**30, 1, 24,
                                     0, 0, 0, 0, 0, 0), MANY),
    "\x1b]0;x\x07<b>[red]\n\u202e.png": (b"x", "not an image"),
}  # fmt: skip


def skipped(images: Images) -> dict[str, str]:
    return {bad["path"]: bad["reason"] for bad in images.notes["skipped"]["files"]}


def test_hostile_files_are_skipped_named_and_counted(
    data: Path, opened: Callable[..., Images]
) -> None:
    flat(data, 10)
    for name, (content, _) in FILES.items():
        (data / name).write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = opened(max_bad=0.9)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 300  # MiB
    found = skipped(images)
    assert len(found) == len(FILES) == images.notes["skipped"]["count"]
    assert all(path.isprintable() and why.isprintable() for path, why in found.items())
    for name, (_, why) in FILES.items():
        if name.isprintable():
            assert why in found[name], name
    assert list(images.train.ids) == [f"{i:03}.png" for i in range(10)]
    with pytest.raises(DataError, match="22 of 32 files") as caught:
        opened()
    assert str(caught.value).isprintable()


def test_unusual_images_within_the_limits_are_used(
    data: Path, opened: Callable[..., Images]
) -> None:
    data.mkdir()
    frames = [Image.new("RGB", (SIDE, SIDE), (i % 250, 0, 0)) for i in range(300)]
    for name in ("many.gif", "many.png"):
        frames[0].save(data / name, save_all=True, append_images=frames[1:])
    Image.new("I;16", (SIDE, SIDE)).save(data / "deep.png")
    Image.new("CMYK", (SIDE, SIDE)).save(data / "print.jpg")
    (data / "rest.png").write_bytes(png(SIDE, SIDE, black(SIDE, 100 * SIDE)))
    put(data / "a\x1b[31m\n<b>.png")
    os.link(data / "deep.png", os.fsencode(data) + b"/\xff\xfe.png")
    images = opened()
    assert len(images.train) == 7
    assert all(name.isprintable() for name in images.train.ids)


@pytest.mark.parametrize("inner", ["x", "/etc/passwd", "/dev/zero", "/etc", ".", "pipe", "missing"])
def test_links_and_devices_are_skipped_and_named(
    data: Path, opened: Callable[..., Images], inner: str
) -> None:
    flat(data, 2)
    os.mkfifo(data / "pipe")
    (data / "x").symlink_to(inner)
    found = skipped(opened(max_bad=0.5))
    assert set(found) == {"pipe", "x"}
    assert found["pipe"] == "not a regular file"
    expected = {"x": "loop of links", "pipe": "not a regular", "missing": "not a regular"}
    assert found["x"].startswith(expected.get(inner, "not a" if inner == "." else "link out"))


def test_a_folder_that_is_a_loop_of_links_or_nobodys_home(opened: Callable[..., Images]) -> None:
    with pytest.raises(DataError, match="cannot be found"):
        opened(path=Path("~no such user/x"))


def test_deep_folders_do_not_exhaust_the_stack(data: Path, opened: Callable[..., Images]) -> None:
    flat(data / "train" / "cat", 1)
    for name in ("train/dog", "test/cat", "test/dog"):
        flat(data / name, 1)
    deep = data / "train" / "cat"
    for _ in range(1200):
        deep = deep / "d"
        deep.mkdir()
    put(deep / "x.png")
    try:
        assert len(opened().train) == 3
    finally:
        (deep / "x.png").unlink()
        for _ in range(1200):  # shutil's own removal would exhaust it
            deep.rmdir()
            deep = deep.parent


def test_one_percent_of_cut_files_is_skipped_and_the_order_stays(
    data: Path, opened: Callable[..., Images]
) -> None:
    flat(data, 300)
    names = [f"{i:03}.jpg" for i in (7, 150, 299)]
    for i in range(300):
        png_ = data / f"{i:03}.png"
        Image.open(png_).save(png_.with_suffix(".jpg"))
        png_.unlink()
    for name in names:
        whole = (data / name).read_bytes()
        (data / name).write_bytes(whole[: len(whole) * 2 // 3])
    images = opened()
    assert set(skipped(images)) == set(names)
    kept = [f"{i:03}.jpg" for i in range(300) if f"{i:03}.jpg" not in names]
    assert list(images.train.ids) == kept
    for i in (0, 6, 7, 149, 296):
        expected = np.asarray(Image.open(data / kept[i]))
        np.testing.assert_array_equal(images.train.images[i], expected)
    (data / "000.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="4 of 300 files"):
        opened()


def test_the_limits_are_those_of_the_documents() -> None:
    assert (decode.MAX_PIXELS, decode.MAX_SIDE) == (67_108_864, 32_768)
