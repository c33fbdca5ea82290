"""Over several strategies (rank letters) and over several data sets (aggregates)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from string import ascii_lowercase

import numpy as np
import scipy
from numpy.typing import ArrayLike

from maskbench.statistics.scores import CONFIDENCE, Array, half_width
from maskbench.statistics.tiers import FOR_INTERVAL

RESAMPLES = 5000


@dataclass(frozen=True)
class Aggregate:
    """A mean over data sets; intervals are None below three seeds.

    Args:
        value: Mean over seeds and data sets.
        low: Lower end of the 95 % t-interval over the seeds' means.
        high: Upper end.
        resampled_low: Lower end of the 95 % percentile interval of whole seeds, resampled.
        resampled_high: Upper end.
        seeds: Pretraining runs.
        sets: Data sets.
    """

    value: float
    low: float | None
    high: float | None
    resampled_low: float | None
    resampled_high: float | None
    seeds: int
    sets: int


def normalised(accuracy: ArrayLike, chance: ArrayLike) -> Array:
    """Share of the way from chance to 1, so that data sets of many and few classes can be averaged.

    Args:
        accuracy: From 0 to 1.
        chance: Accuracy of guessing, below 1; broadcast.
    """
    low = np.asarray(chance, dtype=np.float64)
    return np.asarray((np.asarray(accuracy, dtype=np.float64) - low) / (1 - low))


def aggregate(scores: ArrayLike, rng: np.random.Generator) -> Aggregate:
    """Average over data sets, with seeds as the unit.

    One pretrained encoder is scored on every data set, so a lucky run is lucky everywhere: whole
    rows are resampled. Resampling each data set by itself is far too narrow.

    Args:
        scores: Shape (seeds, data sets), normalised by chance, nothing missing.
        rng: For the resampling.

    Raises:
        ValueError: The shape is another, or a score is missing.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise ValueError("a score per seed and data set is needed, nothing missing")
    seeds, sets = table.shape
    value = float(table.mean())
    if seeds < FOR_INTERVAL:
        return Aggregate(value, None, None, None, None, seeds, sets)
    half = float(half_width(table.mean(axis=1)))
    found = scipy.stats.bootstrap(
        tuple(table.T),
        lambda *columns, axis: np.mean(columns, axis=(0, axis)),
        paired=True,
        vectorized=True,
        axis=-1,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=rng,
    ).confidence_interval
    return Aggregate(
        value, value - half, value + half, float(found.low), float(found.high), seeds, sets
    )


def letters(scores: ArrayLike) -> list[str | None]:
    """Rank letters that draw ties as ties.

    The first row takes ``a``, and so does every row whose paired 95 % interval against it includes
    zero, or that shares fewer than three seeds with it; the first of the rest takes ``b``, and so
    on. The intervals are not corrected for being several.

    Args:
        scores: Shape (strategies, seeds); NaN where a strategy lacks a seed.

    Returns:
        A letter per strategy; None with fewer than three seeds.
    """
    table = np.asarray(scores, dtype=np.float64)
    known = np.isfinite(table).sum(axis=1) >= FOR_INTERVAL
    found: list[str | None] = [None] * len(table)
    left = [int(i) for i in np.flatnonzero(known)]
    left.sort(key=lambda i: -float(np.nanmean(table[i])))
    names = _names()
    while left:
        top, name = left[0], next(names)
        tied = [i for i in left if i == top or not _apart(table[top], table[i])]
        for i in tied:
            found[i] = name
        left = [i for i in left if i not in tied]
    return found


def _apart(top: Array, other: Array) -> bool:
    differences = top - other
    differences = differences[np.isfinite(differences)]
    if len(differences) < FOR_INTERVAL:
        return False
    return bool(abs(differences.mean()) > half_width(differences))


def _names() -> Iterator[str]:
    """a, b ... z, aa, ab ..."""
    return ("".join(parts) for n in count(1) for parts in product(ascii_lowercase, repeat=n))
