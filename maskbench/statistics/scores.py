"""Single statistics of seed scores, by SciPy and statsmodels; vectorised over leading axes."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

CONFIDENCE, LEVEL, POWER = 0.95, 0.05, 0.8
MOST_FLIPS = 2**16
"""Sign flips are enumerated up to sixteen seeds; above, so many are drawn at random."""
NOTHING = 1e-12
"""A standard deviation below this is rounding: accuracies are counts over a test set."""

Array = NDArray[np.float64]


def half_width(scores: ArrayLike, axis: int = -1) -> Any:
    """Half-width of the 95 % t-interval of the mean over seeds.

    Args:
        scores: One number per seed along ``axis``; at least two.
        axis: The seeds.

    Returns:
        In the scores' unit, without that axis.
    """
    values = np.asarray(scores, dtype=np.float64)
    count = values.shape[axis]
    quantile = special.stdtrit(count - 1, (1 + CONFIDENCE) / 2)
    return quantile * (values.std(axis=axis, ddof=1) / count**0.5)


def sign_flip(differences: ArrayLike, rng: np.random.Generator, axis: int = -1) -> Any:
    """Two-sided p-value of the exact sign-flip permutation test of paired differences.

    Args:
        differences: One per seed along ``axis``; symmetric about zero under the null.
        rng: Drawn from only above sixteen seeds, where not all flips are tried.
        axis: The seeds.

    Returns:
        p, without that axis.
    """
    found = stats.permutation_test(
        (np.asarray(differences, dtype=np.float64),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        axis=axis,
        n_resamples=MOST_FLIPS,
        batch=256,
        rng=rng,
    )
    return found.pvalue


def equivalence(differences: ArrayLike, margin: float) -> Any:
    """p-value of two one-sided t-tests that the mean difference lies within ± a margin.

    Args:
        differences: One per seed along the first axis, at least two.
        margin: In the differences' unit.
    """
    values = np.asarray(differences, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # equal differences: t is infinite or NaN
        return np.nan_to_num(DescrStatsW(values).ttost_mean(-margin, margin)[0], nan=1.0)


def effect_size(differences: ArrayLike) -> float | None:
    """d_z: mean over standard deviation of paired differences; None where they are all equal."""
    values = np.asarray(differences, dtype=np.float64)
    spread = float(values.std(ddof=1))
    return float(values.mean()) / spread if spread > NOTHING else None


def correlation(ours: ArrayLike, theirs: ArrayLike) -> float | None:
    """Pearson's correlation of paired scores; None where one side does not vary."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if min(a.std(), b.std()) <= NOTHING:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def detectable(seeds: int) -> float:
    """d_z that a two-sided paired t-test at 5 % finds four times in five, with so many seeds."""
    return float(TTestPower().solve_power(nobs=seeds, alpha=LEVEL, power=POWER))
