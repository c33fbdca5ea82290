"""Neighbouring patches: join counts and Moran's I of every mask, with exact null moments.

Neighbours share an edge (rook). A join is a pair of neighbours; it is *mixed* if one is hidden and
the other visible. Cliff and Ord, Spatial Processes (1981), chapters 1 and 2.
"""

from collections.abc import Callable, Iterator
from itertools import product
from math import perm, sqrt

import numpy as np

from maskbench.analysis.quantity import Array, Band, Masks, normal_band

NAMES = (
    *("moran", "joins_mixed", "joins_hidden", "joins_visible"),
    *("joins_horizontal", "joins_vertical"),
)
Value = Callable[[int, int], float]
"""What a join of two patches adds to a sum; a patch is 1 if hidden, 0 if visible."""


def edges(rows: int, columns: int) -> tuple[int, int]:
    """How many horizontal and vertical joins a grid has."""
    return rows * (columns - 1), (rows - 1) * columns


def counts(masks: Masks) -> dict[str, Array]:
    """Joins and Moran's I of each mask.

    Moran's I with r the hidden share, z = m - r and E joins is sum z_i z_j / (E r (1 - r)); the sum
    follows from the join counts, since mixed joins touch one hidden patch and hidden ones two.

    Args:
        masks: Bool, shape (images, rows, columns); neither all hidden nor all visible.

    Returns:
        Shape (images,) each. A direction without joins is left out.
    """
    _, rows, columns = masks.shape
    left, right = masks[:, :, :-1], masks[:, :, 1:]
    upper, lower = masks[:, :-1], masks[:, 1:]
    horizontal, vertical = _count(left ^ right), _count(upper ^ lower)
    mixed, hidden = horizontal + vertical, _count(left & right) + _count(upper & lower)
    joins = sum(edges(rows, columns))
    r = _count(masks) / (rows * columns)
    found = {
        "moran": (hidden - r * (2 * hidden + mixed) + r**2 * joins) / (joins * r * (1 - r)),
        "joins_mixed": mixed,
        "joins_hidden": hidden,
        "joins_visible": joins - mixed - hidden,
    }
    if columns > 1:
        found["joins_horizontal"] = horizontal
    if rows > 1:
        found["joins_vertical"] = vertical
    return found


def _count(masks: Masks) -> Array:
    return np.asarray(np.count_nonzero(masks, axis=(1, 2)), dtype=np.float64)


class Moments:
    """Exact moments of sums over joins, for one uniformly random mask.

    Two joins are the same, share a patch, or are apart; the expectation of their product is a sum
    over the states of two, three or four patches drawn without replacement.

    Args:
        rows: Patch rows.
        columns: Patch columns.
        hidden: Hidden patches of the mask.
    """

    def __init__(self, rows: int, columns: int, hidden: int) -> None:
        self.patches, self.hidden = rows * columns, hidden
        row, column = np.arange(rows)[:, None], np.arange(columns)
        inner = [(at > 0).astype(int) + (at < at.size - 1) for at in (row, column)]
        self.vertical = np.broadcast_to(inner[0], (rows, columns))
        self.horizontal = np.broadcast_to(inner[1], (rows, columns))

    def mean(self, degrees: np.ndarray, value: Value) -> float:
        """Expectation of the sum over joins.

        Args:
            degrees: Joins of each patch, shape (rows, columns): which joins are meant.
            value: What a join adds.
        """
        return int(degrees.sum()) // 2 * self._expect(2, value)

    def covariance(self, one: np.ndarray, other: np.ndarray, value: Value) -> float:
        """Of two sums over joins that are the same (``one is other``) or have none in common."""
        total, more = int(one.sum()) // 2, int(other.sum()) // 2
        same = total if one is other else 0
        shared = int((one * other).sum()) - 2 * same
        expected = (
            same * self._expect(2, lambda a, b: value(a, b) ** 2)
            + shared * self._expect(3, lambda a, b, c: value(a, b) * value(b, c))
            + (total * more - shared - same)
            * self._expect(4, lambda a, b, c, d: value(a, b) * value(c, d))
        )
        return expected - self.mean(one, value) * self.mean(other, value)

    def _expect(self, size: int, of: Callable[..., float]) -> float:
        ways = perm(self.patches, size)
        return sum(of(*states) * n / ways for states, n in self._drawn(size)) if ways else 0.0

    def _drawn(self, size: int) -> Iterator[tuple[tuple[int, ...], int]]:
        for states in product((0, 1), repeat=size):
            ones = sum(states)
            yield states, perm(self.hidden, ones) * perm(self.patches - self.hidden, size - ones)


def bands(rows: int, columns: int, hidden: int, images: int) -> dict[str, Band]:
    """Exact expectations and standard deviations of means of ``counts``; normal bands.

    Args:
        rows: Patch rows.
        columns: Patch columns.
        hidden: Hidden patches per mask.
        images: Masks in a set.
    """
    moments = Moments(rows, columns, hidden)
    r = hidden / (rows * columns)
    both = moments.horizontal + moments.vertical
    scale = sum(edges(rows, columns)) * r * (1 - r)
    asked: dict[str, tuple[np.ndarray, Value]] = {
        "moran": (both, lambda a, b: (a - r) * (b - r) / scale),
        "joins_mixed": (both, _mixed),
        "joins_hidden": (both, lambda a, b: a * b),
        "joins_visible": (both, lambda a, b: (1 - a) * (1 - b)),
    }
    if columns > 1:
        asked["joins_horizontal"] = (moments.horizontal, _mixed)
    if rows > 1:
        asked["joins_vertical"] = (moments.vertical, _mixed)
    found = {}
    for name, (degrees, value) in asked.items():
        variance = max(0.0, moments.covariance(degrees, degrees, value))
        found[name] = normal_band(moments.mean(degrees, value), sqrt(variance / images))
    if columns > 1 and rows > 1:
        found["anisotropy"] = _anisotropy(moments, images)
    return found


def _mixed(a: int, b: int) -> float:
    return float(a != b)


def _anisotropy(moments: Moments, images: int) -> Band:
    """Ratio of two means: its logarithm is normal with the variance of the first order."""
    h, v = moments.horizontal, moments.vertical
    x, y = moments.mean(h, _mixed), moments.mean(v, _mixed)
    variance = (
        moments.covariance(h, h, _mixed) / x**2
        + moments.covariance(v, v, _mixed) / y**2
        - 2 * moments.covariance(h, v, _mixed) / (x * y)
    )
    log = normal_band(0.0, sqrt(max(0.0, variance) / images))
    return Band(*(float(np.exp(end)) for end in log))
