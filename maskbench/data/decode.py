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
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from typing import IO, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from maskbench.events import Progress
from maskbench.trust import plain

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 2**26
MAX_SIDE = 2**15
"""Larger images are refused by their header, before anything is decoded."""

_TASK = 8  # images a thread takes at once
_THREADS = 16  # at most
_AHEAD = 2  # tasks per thread that are begun before the first is taken: bounds the memory
_LEAST = 16  # tasks, where threads are few: they work on while results are taken
_ALONE = threading.Lock()
LARGE = 2**24  # pixels; larger images are decoded one at a time: bounds the memory
ONE_LARGE = threading.Lock()
_TILE = (322, 323)  # width and length of a TIFF's tiles, which may be larger than the image

Size = tuple[int, int]
Source = str | IO[bytes]
"""A path, or a file in memory."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def size(source: Source) -> Size | str:
    """Width and height in pixels, or why the file cannot be used; pixels are not decoded."""
    try:
        with Image.open(source, formats=FORMATS) as image:
            return _too_large(image) or image.size
    except Exception as error:
        return reason(error)


def pixels(source: Source, side: int) -> bytes | str:
    """The middle square of an image, (side, side, 3), or why it cannot be decoded."""
    try:
        with Image.open(source, formats=FORMATS) as image:
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
    if rgb.size == (side, side):
        return rgb.tobytes()
    box = (left, top, left + short, top + short)
    return rgb.resize((side, side), Image.Resampling.BICUBIC, box).tobytes()


def in_threads(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    label: str,
    progress: Progress,
    take: Callable[[Sequence[Result]], None],
    *,
    done: int = 0,
) -> None:
    """Do ``work`` for every item, and ``take`` the results in order, a bounded number at a time.

    Pillow warns of big images and odd metadata; sizes are checked and failures reported anyway.
    Warning filters belong to the process, so they are set around all threads, by one call at a
    time.

    Args:
        work: Done in threads; what it raises is raised here.
        items: Files, or what ``work`` takes for one.
        label: What the progress calls it.
        progress: Told how far it is.
        take: Takes the results of some items, in this thread.
        done: How many of the first items are left out, because they were done before.
    """
    Image.init()
    progress.start(label, len(items), "images")
    try:
        with (
            _ALONE,
            warnings.catch_warnings(),
            closing(_in_order(work, items, done)) as parts,
        ):
            warnings.simplefilter("ignore")
            for part in parts:
                take(part)
                done += len(part)
                progress.advance(done)
    finally:
        progress.finish()


def _in_order(
    work: Callable[[Item], Result], items: Sequence[Item], first: int
) -> Generator[list[Result]]:
    """Results of tasks, in order; those that nobody waits for any more are not begun."""

    def task(start: int) -> list[Result]:
        return [work(item) for item in items[start : start + _TASK]]

    threads = min(_THREADS, os.cpu_count() or 1)
    begun: deque[Future[list[Result]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for start in range(first, len(items), _TASK):
            begun.append(pool.submit(task, start))
            if len(begun) >= max(_LEAST, _AHEAD * threads):
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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
