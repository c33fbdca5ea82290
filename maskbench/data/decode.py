"""Image files to square uint8 pixels, in threads; a file that fails gives a reason, not a crash.

An image is converted to RGB (16-bit grey keeps its high byte, transparency is dropped) and its
middle square is resized with Pillow's antialiased bicubic filter; the pixels of an image that has
the wanted side already stay as they are. The EXIF orientation is not applied (as in torchvision's
ImageFolder).
"""

import math
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import chain
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from maskbench.events import Progress
from maskbench.trust import plain

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 2**26
MAX_SIDE = 2**15
"""Larger images are refused by their header, before anything is decoded."""

_BATCH = 256  # images decoded before they are handed on: bounds the memory
_TASK = 8  # images a thread takes at once
_THREADS = 16  # at most
_ALONE = threading.Lock()
LARGE = 2**24  # pixels; larger images are decoded one at a time: bounds the memory
ONE_LARGE = threading.Lock()
_TILE = (322, 323)  # width and length of a TIFF's tiles, which may be larger than the image

Size = tuple[int, int]
Result = TypeVar("Result")


def size(path: str) -> Size | str:
    """Width and height in pixels, or why the file cannot be used; pixels are not decoded."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return _too_large(image) or image.size
    except Exception as error:
        return reason(error)


def pixels(path: str, side: int) -> bytes | str:
    """The middle square of an image, (side, side, 3), or why it cannot be decoded."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if why := _too_large(image):
                return why
            with ONE_LARGE if image.width * image.height > LARGE else nullcontext():
                return _square(_rgb(image), side)
    except Exception as error:
        return reason(error)


def _too_large(image: Image.Image) -> str:
    """Why an opened image is not decoded; nothing if it may be."""
    tags = getattr(image, "tag_v2", {})
    tile = [tag for tag in map(tags.get, _TILE) if isinstance(tag, int)]
    if max(math.prod(image.size), math.prod(tile)) > MAX_PIXELS:
        return "too many pixels"
    longest = max(image.size)
    return f"{longest:,} px long, more than {MAX_SIDE:,}" if longest > MAX_SIDE else ""


def middle(size: Size) -> tuple[int, int, int]:
    """Left, top and side of the middle square of an image of this width and height, in pixels."""
    short = min(size)
    return (size[0] - short) // 2, (size[1] - short) // 2, short


def _square(rgb: Image.Image, side: int) -> bytes:
    """The middle square of an image, resized."""
    left, top, short = middle(rgb.size)
    box = (left, top, left + short, top + short)
    return rgb.resize((side, side), Image.Resampling.BICUBIC, box).tobytes()


def in_threads(
    work: Callable[[str], Result],
    paths: Sequence[str],
    label: str,
    progress: Progress,
    take: Callable[[Sequence[Result]], None],
) -> None:
    """Do ``work`` for every path, and ``take`` the results in order, a bounded number at a time.

    Pillow warns of big images and odd metadata; sizes are checked and failures reported anyway.
    Warning filters belong to the process, so they are set around all threads, by one call at a
    time.
    """

    def task(part: Sequence[str]) -> list[Result]:
        return [work(path) for path in part]

    Image.init()
    threads = min(_THREADS, os.cpu_count() or 1)
    progress.start(label, len(paths), "images")
    try:
        with _ALONE, warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
            warnings.simplefilter("ignore")
            for first in range(0, len(paths), _BATCH):
                batch = paths[first : first + _BATCH]
                parts = [batch[start : start + _TASK] for start in range(0, len(batch), _TASK)]
                take(list(chain.from_iterable(pool.map(task, parts))))
                progress.advance(first + len(batch))
    finally:
        progress.finish()


def _rgb(image: Image.Image) -> Image.Image:
    """An image of any kind as 8-bit RGB."""
    image.load()
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.mode.startswith("I"):  # Pillow would clip 16-bit grey at 255
        grey = np.clip(np.asarray(image), 0, 65535) >> 8
        image = Image.fromarray(grey.astype(np.uint8))
    return image.convert("RGB")


def reason(error: Exception) -> str:
    """A few words on why a file cannot be used, without machine paths."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return plain((str(error).splitlines() or [type(error).__name__])[0])[:80]
