"""The built-in data set "scenes": small pictures made on the spot, with known objects.

Every picture holds one textured object at a random place, size, pose and brightness over a muted,
cluttered background. Ten classes are told apart by three cues taken together:

* **shape**: disc, square, triangle, cross or ring;
* **texture**: bands, stripes, hatching, checks or dots, fixed to the object and of random phase;
* **palette**: a weak tint of the object, one of five hues.

Each value of a cue belongs to two classes and each *pair* of values to at most one, so no cue says
the class by itself and any two do. The cues are noisy too: the hue wanders, and every cue is now
and then replaced by a random one. Place, size, pose, brightness and background are drawn without
regard to the class. Edges are soft (coverage from a signed distance), so thin parts look right at
32 px. All draws come from one generator made from the seed and the name of the split.
"""

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SIDE = 32
SHAPES = ("disc", "square", "triangle", "cross", "ring")
TEXTURES = ("banded", "striped", "hatched", "checked", "dotted")
HUES = ("rose", "ochre", "green", "teal", "violet")

CUES = np.array(
    [[0, 1, 2, 3, 4, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 1, 2, 3, 4, 0], [0, 1, 2, 3, 4, 2, 3, 4, 0, 1]]
)
"""Shape, texture and hue of each class, (3, classes)."""
DEVELOPMENT = np.array(
    [[0, 1, 2, 3, 4, 0, 1, 2, 3, 4], [2, 3, 4, 0, 1, 3, 4, 0, 1, 2], [0, 1, 2, 3, 4, 4, 0, 1, 2, 3]]
)
"""Ten other classes that are never scored: no pair of shape and texture is one of ``CUES``."""

CLASSES: tuple[str, ...] = tuple(
    f"{TEXTURES[t]}-{SHAPES[s]}-{HUES[h]}" for s, t, h in CUES.T.tolist()
)

_RADIUS = (9.0, 14.0)  # px
_TURN = 0.3  # rad, either way
_PERIOD = (4.5, 5.5)  # px between two bands
_CONTRAST = (35.0, 55.0)  # grey levels, amplitude of the texture
_LEVEL = (70.0, 185.0)  # grey levels, brightness of an object or a background
_TINT = 17.0  # grey levels, amplitude of the class hue
_HUE_NOISE = 0.3  # rad, standard deviation
_REPLACED = 0.02  # chance that a cue is drawn anew
_CLUTTER = 8  # background shapes per picture
_SHADE = 25.0  # grey levels, standard deviation between a background shape and its ground
_MUTED = 6.0  # grey levels, amplitude of background hues
_GRAIN = 1.5  # grey levels, standard deviation of pixel noise
_BLOCK = 125  # pictures drawn at a time, which keeps them in the processor's cache


class Scenes(NamedTuple):
    """Pictures with their labels and everything that is known about them.

    Attributes:
        images: (N, 32, 32, 3), RGB, 0 to 255.
        labels: (N,), index into CLASSES; balanced, in a shuffled order.
        objects: (N, 32, 32), True on the object.
        contours: (N, 32, 32), True on the object's outermost pixels.
        position_size: (N, 3), centre row, centre column and radius of the object in pixels.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    objects: NDArray[np.bool_]
    contours: NDArray[np.bool_]
    position_size: Floats


def generate(count: int, split: str, seed: int = 0, cues: NDArray[np.int64] = CUES) -> Scenes:
    """Generates `count` scenes; the same arguments always give the same pictures.

    Args:
        count: Number of pictures.
        split: Name of the split, such as "train" or "test"; each has a stream of its own.
        seed: Seed of the data set, at least 0.
        cues: What the classes look like; ``DEVELOPMENT`` for others.

    Returns:
        The pictures with labels, object masks, contours, and positions and sizes.
    """
    rng = np.random.default_rng([seed, zlib.crc32(split.encode())])
    labels = rng.permutation(np.arange(count, dtype=np.int64) % cues.shape[1])
    radius = rng.uniform(*_RADIUS, count)
    centre = radius[:, None] + rng.random((count, 2)) * (SIDE - 1 - 2 * radius[:, None])
    position_size = np.column_stack([centre, radius])
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    objects = np.empty((count, SIDE, SIDE), np.bool_)
    for start in range(0, count, _BLOCK):
        part = slice(start, start + _BLOCK)
        images[part], objects[part] = _draw(rng, cues[:, labels[part]], position_size[part])
    return Scenes(images, labels, objects, objects & ~_eroded(objects), position_size)


def _draw(
    rng: np.random.Generator, cues: NDArray[np.int64], position_size: Floats
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draws a block of pictures (N, 32, 32, 3) and says where their objects are (N, 32, 32)."""
    count = len(position_size)
    u, v = _object_frame(position_size, rng.uniform(-_TURN, _TURN, count))
    distance = _distance(u, v, _cue(rng, cues[0]), position_size[:, 2, None, None])
    cover = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
    surface = _texture(rng, u, v, _cue(rng, cues[1]))[..., None]
    surface = surface + _tint(rng, _cue(rng, cues[2]))[:, None, None, :]
    surface += rng.uniform(*_LEVEL, count)[:, None, None, None]
    image = _background(rng, count)
    image += cover * (surface - image)
    image += rng.normal(0.0, _GRAIN, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), distance < 0.0


def _cue(rng: np.random.Generator, value: NDArray[np.int64]) -> NDArray[np.int64]:
    """Replaces a cue (N,) by a random one of five now and then."""
    other = rng.integers(0, 5, value.shape)
    return np.where(rng.random(value.shape) < _REPLACED, other, value)


def _object_frame(position_size: Floats, turn: Floats) -> tuple[Floats, Floats]:
    """Coordinates (N, 32, 32) in px along and across each object, from its centre."""
    grid = np.arange(SIDE, dtype=np.float64)
    row = (grid - position_size[:, :1])[:, :, None]
    column = (grid - position_size[:, 1:2])[:, None, :]
    cosine, sine = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    return cosine * column + sine * row, cosine * row - sine * column


def _distance(u: Floats, v: Floats, shape: NDArray[np.int64], radius: Floats) -> Floats:
    """Distance (N, 32, 32) to the object's edge in px, negative inside."""
    out = np.empty_like(u)
    for index in range(len(SHAPES)):
        rows = np.flatnonzero(shape == index)
        x, y, r = np.abs(u[rows]), v[rows], radius[rows]
        if index == 0:
            out[rows] = np.sqrt(x * x + y * y) - 0.9 * r
        elif index == 1:
            out[rows] = np.maximum(x, np.abs(y)) - 0.8 * r
        elif index == 2:
            out[rows] = np.maximum(0.894 * x - 0.447 * y - 0.42 * r, y - 0.8 * r)
        elif index == 3:
            y = np.abs(y)
            out[rows] = np.maximum(np.minimum(x, y) - 0.36 * r, np.maximum(x, y) - r)
        else:
            out[rows] = np.abs(np.sqrt(x * x + y * y) - 0.7 * r) - 0.3 * r
    return out


def _texture(rng: np.random.Generator, u: Floats, v: Floats, texture: NDArray[np.int64]) -> Floats:
    """Grey pattern (N, 32, 32) fixed to the object, in grey levels around 0."""
    count = len(u)
    scale = (2 * np.pi / rng.uniform(*_PERIOD, count))[:, None, None]
    phase = rng.uniform(0.0, 2 * np.pi, (2, count, 1, 1))
    out = np.empty_like(u)
    for index in range(len(TEXTURES)):
        rows = np.flatnonzero(texture == index)
        x, y = u[rows] * scale[rows], v[rows] * scale[rows]
        first, second = phase[0, rows], phase[1, rows]
        if index == 0:
            out[rows] = np.sin(y + first)
        elif index == 1:
            out[rows] = np.sin(x + first)
        elif index == 2:
            out[rows] = np.sin((x + y) * np.sqrt(0.5) + first)
        elif index == 3:
            out[rows] = 1.4 * np.sin(0.7 * x + first) * np.sin(0.7 * y + second)
        else:
            dots = np.maximum(np.sin(x + first) + np.sin(y + second), 0.0)
            out[rows] = 1.5 * dots - 0.6
    return out * rng.uniform(*_CONTRAST, count)[:, None, None]


def _tint(rng: np.random.Generator, hue: NDArray[np.int64]) -> Floats:
    """Colour offset (N, 3) of each object in grey levels, without a change of brightness."""
    angle = 2 * np.pi * hue / len(HUES) + rng.normal(0.0, _HUE_NOISE, hue.shape)
    return _TINT * _colour(angle)


def _colour(angle: Floats) -> Floats:
    """Unit-amplitude RGB offset (..., 3) of a hue angle; the three channels sum to 0."""
    offset: Floats = np.cos(angle[..., None] - 0.6 - 2 * np.pi / 3 * np.arange(3))
    return offset


def _background(rng: np.random.Generator, count: int) -> Floats:
    """Muted backgrounds (N, 32, 32, 3): a slope of light with soft-edged boxes and discs."""
    grid = (np.arange(SIDE) - (SIDE - 1) / 2) / SIDE
    slope = rng.normal(0.0, 25.0, (2, count, 1, 1))
    level = rng.uniform(*_LEVEL, (count, 1, 1))
    grey = level + slope[0] * grid[:, None] + slope[1] * grid
    image: Floats = (
        grey[..., None] + _MUTED * _colour(rng.uniform(0, 2 * np.pi, count))[:, None, None, :]
    )
    for _ in range(_CLUTTER):
        place = np.column_stack([rng.uniform(0, SIDE, (count, 2)), np.zeros(count)])
        u, v = _object_frame(place, rng.uniform(0, 2 * np.pi, count))
        half = rng.uniform(1.5, 7.0, (2, count, 1, 1))
        u, v = np.abs(u) / half[0], np.abs(v) / half[1]
        round_one = (rng.random(count) < 0.5)[:, None, None]
        reach = np.where(round_one, np.sqrt(u * u + v * v), np.maximum(u, v))
        cover = np.clip(0.5 - (reach - 1.0) * np.minimum(half[0], half[1]), 0.0, 1.0)
        tint = _MUTED * _colour(rng.uniform(0, 2 * np.pi, count))
        shade = rng.normal(0.0, _SHADE, (count, 1)) + tint
        image += cover[..., None] * shade[:, None, None, :]
    return image


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Erodes masks (N, 32, 32) by one pixel in four directions; outside counts as background."""
    pad = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    inner: NDArray[np.bool_] = mask & pad[:, :-2, 1:-1] & pad[:, 2:, 1:-1]
    inner &= pad[:, 1:-1, :-2] & pad[:, 1:-1, 2:]
    return inner
