r"""Two-level intervals: training seeds first, then images.

All seeds are looked at on the same images, so the design is crossed: :math:`y_{si} = \mu + a_s +
b_i + e_{si}` with random seeds and images. The variance of the grand mean is estimated by
:math:`(MS_a + MS_b - MS_e) / SM` with Satterthwaite's degrees of freedom (Satterthwaite, Biometrics
Bulletin 1946; Searle, Casella and McCulloch, Variance Components, ch. 4). With few seeds it is then
nearly a t-interval over seeds, with one seed the t-interval over images, which says nothing of
other seeds. A bootstrap of three seeds would be too narrow.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Args:
        mean: Over seeds and images; None where there is nothing to average.
        low: None where one number alone is known.
        high: Like ``low``.
        seeds: How many.
        images: How many.
        p: Two-sided, of a mean of 0; None like ``low``.
    """

    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    images: int
    p: float | None = None


def two_level(values: NDArray[np.float64], neutral: float = 0.0) -> Interval:
    """Mean over seeds and images with its interval.

    Args:
        values: (seeds, images); NaN where an image has no value. An image without a value for one
            seed is left out for all.
        neutral: What ``p`` tests the mean against.
    """
    kept = values[:, np.isfinite(values).all(axis=0)]
    seeds, images = kept.shape
    if kept.size == 0:
        return Interval(None, None, None, seeds, images)
    mean = float(kept.mean())
    if images == 1 and seeds == 1:
        return Interval(mean, None, None, 1, 1)
    variance, freedom = _of_mean(kept)
    half = float(stats.t.ppf(0.975, freedom)) * variance**0.5
    p = None
    if variance:
        p = float(2 * stats.t.sf(abs(mean - neutral) / variance**0.5, freedom))
    return Interval(mean, mean - half, mean + half, seeds, images, p)


def _of_mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """Variance of the grand mean, and its degrees of freedom."""
    seeds, images = values.shape
    mean = values.mean()
    over_images, over_seeds = values.mean(axis=0), values.mean(axis=1)
    if seeds == 1:
        return float(over_images.var(ddof=1)) / images, images - 1
    if images == 1:
        return float(over_seeds.var(ddof=1)) / seeds, seeds - 1
    of_seeds = images * float(over_seeds.var(ddof=1))
    of_images = seeds * float(over_images.var(ddof=1))
    rest = values - over_images - over_seeds[:, None] + mean
    free = (seeds - 1) * (images - 1)
    of_rest = float((rest**2).sum()) / free
    total = max(of_seeds + of_images - of_rest, of_seeds, of_images)
    if not total:
        return 0.0, float(free)
    spread = of_seeds**2 / (seeds - 1) + of_images**2 / (images - 1) + of_rest**2 / free
    freedom = min(max(total**2 / spread, seeds - 1), images - 1 + seeds - 1)
    return total / (seeds * images), float(freedom)
