r"""Two-level intervals: training seeds first, then images.

All seeds are looked at on the same images, so the design is crossed: :math:`y_{si} = \mu + a_s +
b_i + e_{si}` with random seeds and images (Searle, Casella and McCulloch, Variance Components, ch.
4). The variance of the grand mean is :math:`(MS_a + (MS_b - MS_e)) / SM`; each of the two parts
gets the t-quantile of its own degrees of freedom, :math:`h^2 = (t_{S-1}^2 MS_a + t_{M-1}^2
\max(MS_b - MS_e, 0)) / SM`, which keeps its level where either of them rules (in between it is a
little wide).
With few seeds it is nearly the t-interval over seeds; with one seed the t-interval over images,
which says nothing of other seeds. A bootstrap of three seeds would be too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

Parts = tuple[tuple[float, int], ...]
LEVEL, LEAST = 0.05, 1e-100
"""Of the intervals; and p-values below are given as this."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Args:
        mean: Over seeds and images; None where there is nothing to average.
        low: None where one number alone is known.
        high: Like ``low``.
        seeds: How many.
        images: How many.
    """

    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    images: int
    _parts: Parts = field(default=(), repr=False, compare=False)
    _distance: float = field(default=0.0, repr=False, compare=False)

    @cached_property
    def p(self) -> float | None:
        """Two-sided p-value of the neutral mean; None where nothing varies."""
        return _p(self._parts, self._distance)


def two_level(values: NDArray[np.float64], neutral: float = 0.0) -> Interval:
    """Mean over seeds and images with its interval.

    Args:
        values: (seeds, images); NaN where an image has no value. An image without a value for one
            seed is left out for all.
        neutral: What ``p`` tests the mean against.
    """
    return two_levels(values[None], [neutral])[0]


def two_levels(values: NDArray[np.float64], neutral: Sequence[float]) -> list[Interval]:
    """Means of many quantities of the same seeds and images; what ``two_level`` gives of each.

    Args:
        values: (quantities, seeds, images); NaN where an image has no value.
        neutral: What each is tested against.
    """
    known: NDArray[np.bool_] = np.array(np.isfinite(values).all(axis=1))
    alike: dict[bytes, list[int]] = {}
    for row, images in enumerate(known):
        alike.setdefault(images.tobytes(), []).append(row)
    found: dict[int, Interval] = {}
    for rows in alike.values():
        kept = np.ascontiguousarray(values[rows][:, :, known[rows[0]]])
        found |= zip(rows, _whole(kept, [neutral[row] for row in rows]), strict=True)
    return [found[row] for row in range(len(values))]


def _whole(values: NDArray[np.float64], neutral: Sequence[float]) -> list[Interval]:
    """The same of quantities that are known of every image."""
    count, seeds, images = values.shape
    if values.size == 0:
        return [Interval(None, None, None, seeds, images)] * count
    means: list[float] = values.reshape(count, -1).mean(axis=1).tolist()
    if images == 1 and seeds == 1:
        return [Interval(mean, None, None, 1, 1) for mean in means]
    found = []
    for mean, none, parts in zip(means, neutral, _parts(values), strict=True):
        half, distance = _half(parts, LEVEL), abs(mean - none)
        found.append(Interval(mean, mean - half, mean + half, seeds, images, parts, distance))
    return found


def _parts(values: NDArray[np.float64]) -> list[Parts]:
    """The parts of the variance of the grand means, each with its degrees of freedom."""
    count, seeds, images = values.shape
    over_images, over_seeds = values.mean(axis=1), values.mean(axis=2)
    if seeds == 1:
        own = over_images.var(axis=1, ddof=1) / images
        return [((part, images - 1),) for part in own.tolist()]
    of_seeds: list[float] = (over_seeds.var(axis=1, ddof=1) / seeds).tolist()
    if images == 1:
        return [((part, seeds - 1),) for part in of_seeds]
    rest = values - over_images[:, None] - over_seeds[:, :, None]
    rest += values.reshape(count, -1).mean(axis=1)[:, None, None]
    of_rest = (rest**2).sum(axis=(1, 2)) / ((seeds - 1) * (images - 1))
    of_images = seeds * over_images.var(axis=1, ddof=1)
    both = np.maximum(of_images - of_rest, 0.0) / (seeds * images)
    return [
        ((one, seeds - 1), (other, images - 1))
        for one, other in zip(of_seeds, both.tolist(), strict=True)
    ]


@lru_cache(maxsize=4096)
def _quantile(free: int, level: float) -> float:
    return float(scipy.special.stdtrit(free, level / 2))


def _half(parts: Parts, level: float) -> float:
    """Half of an interval that misses with this probability."""
    square = sum(_quantile(free, level) ** 2 * v for v, free in parts)
    return float(square**0.5)


def _p(parts: Parts, distance: float) -> float | None:
    """The level at which the interval just reaches so far; None where nothing varies."""
    if not any(variance for variance, _ in parts):
        return None
    if _half(parts, LEAST) <= distance:
        return LEAST
    if not distance:
        return 1.0
    found: Any = scipy.optimize.brentq(
        lambda power: _half(parts, 10**power) - distance, np.log10(LEAST), 0, xtol=1e-6
    )
    return float(10**found)
