"""Pictures of masks: images with their hidden patches covered, and how often each is hidden."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskbench import figures
from maskbench.figures import canvas

COVER = (222, 222, 222)
COLOURS = 63
SIDE = 64
GAP = 3
DIVERGING = "PuOr"
LEAST_SPAN = 0.25

Bits = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


def strips(images: Bytes, hidden: Bits) -> list[str]:
    """The images under each other, once in full and once per moment with hidden patches covered.

    Args:
        images: (images, side, side, 3).
        hidden: (moments, images, rows, columns), True where a patch is hidden.

    Returns:
        PNG data URIs: the full images first, then one per moment.
    """
    tiles = _sized(images, hidden.shape[2])
    count, side = len(tiles), tiles.shape[1]
    flat = Image.fromarray(tiles.reshape(count * side, side, 3))
    reduced = flat.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette = bytes((reduced.getpalette() or [])[: 3 * COLOURS]).ljust(3 * COLOURS, b"\0")
    palette += bytes(COVER) + bytes(3)
    colours = np.asarray(reduced, dtype=np.uint8).reshape(count, side, side)
    found = [_strip(colours, palette)]
    for moment in hidden:
        covered = moment.repeat(side // moment.shape[1], axis=1)
        covered = covered.repeat(side // moment.shape[2], axis=2)
        found.append(_strip(np.where(covered, np.uint8(COLOURS), colours), palette))
    return found


def _sized(images: Bytes, rows: int) -> Bytes:
    """Tiles about ``SIDE`` wide, whole pixels per patch; small images grow without blurring."""
    side = images.shape[1]
    if side <= SIDE and side % rows == 0:
        factor = max(1, SIDE // side)
        return images.repeat(factor, axis=1).repeat(factor, axis=2)
    wanted = rows * max(1, SIDE // rows)
    box = Image.Resampling.BOX
    return np.stack([np.asarray(Image.fromarray(i).resize((wanted, wanted), box)) for i in images])


def _strip(colours: Bytes, palette: bytes) -> str:
    """Tiles under each other with transparent gaps."""
    count, side, _ = colours.shape
    canvas = np.full((count * (side + GAP) - GAP, side), COLOURS + 1, dtype=np.uint8)
    for row, tile in enumerate(colours):
        canvas[row * (side + GAP) : row * (side + GAP) + side] = tile
    image = Image.fromarray(canvas)
    image.putpalette(palette)
    image.info["transparency"] = COLOURS + 1
    return figures.as_png(image)


def reach(maps: Sequence[NDArray[np.float64]], centre: float) -> float:
    """The distance from the centre that the colours span, the same for all maps of a figure.

    Wide enough that the noise of some hundred masks does not look like structure.
    """
    farthest = max(float(np.abs(frequency - centre).max()) for frequency in maps)
    return max(LEAST_SPAN, math.ceil(20 * farthest) / 20)


def frequency_map(frequency: NDArray[np.float64], centre: float, span: float) -> str:
    """How often each patch is hidden, as a PNG data URI; the colour map's middle is ``centre``.

    Args:
        frequency: (rows, columns), 0 to 1.
        centre: The share of patches that is hidden.
        span: Distance from the centre at which the colours end.
    """
    place = np.clip((frequency - centre) / (2 * span) + 0.5, 0, 1)
    rgb = canvas.colormaps[DIVERGING](place, bytes=True)[..., :3]
    factor = max(1, 96 // frequency.shape[0])
    return figures.as_png(Image.fromarray(rgb.repeat(factor, axis=0).repeat(factor, axis=1)))


def scale_bar(low: float, high: float, centre: float, span: float) -> str:
    """The colours of a frequency map from ``low`` to ``high``, as a PNG data URI."""
    place = (np.linspace(low, high, 96) - centre) / (2 * span) + 0.5
    rgb = canvas.colormaps[DIVERGING](place[None].repeat(8, 0), bytes=True)
    return figures.as_png(Image.fromarray(np.ascontiguousarray(rgb[..., :3])))
