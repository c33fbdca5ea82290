"""Single statistics of seed scores, by SciPy and statsmodels; vectorised over leading axes.

``scipy.stats`` and statsmodels take a second to import: they are when they are called, and what
few seeds need, an interval, a detectable difference and a share, is told without them. Up to ten
seeds, the first two need not even ``scipy.special`` and ``scipy.optimize``: half a second.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

CONFIDENCE, LEVEL, POWER = 0.95, 0.05, 0.8
MOST_FLIPS = 2**16
"""Sign flips are enumerated up to sixteen seeds; above, so many are drawn at random."""
QUANTILES = {
    2: 12.706204736174694,
    3: 4.302652729749462,
    4: 3.1824463052837078,
    5: 2.7764451051977934,
    6: 2.5705818356363146,
    7: 2.4469118511449786,
    8: 2.364624251592784,
    9: 2.306004135204166,
    10: 2.262157162798205,
}
"""Of t, for intervals over so many seeds."""
SOLVED = {
    3: 3.264043552819638,
    4: 2.1279493431921157,
    5: 1.6819970833232674,
    6: 1.4345451395119289,
    7: 1.2725666824633446,
    8: 1.156035271959959,
    9: 1.0669732445156874,
    10: 0.9960019107624178,
}
"""What ``detectable`` finds for the usual numbers of seeds."""
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
    quantile = QUANTILES.get(count) or scipy.special.stdtrit(count - 1, (1 + CONFIDENCE) / 2)
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
    found = scipy.stats.permutation_test(
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
    from statsmodels.stats.weightstats import DescrStatsW

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


@cache
def detectable(seeds: int) -> float:
    """d_z that a two-sided paired t-test at 5 % finds four times in five, with so many seeds.

    The power is that of the noncentral t (Cohen, Statistical Power Analysis, 1988, ch. 2), solved
    as statsmodels' ``TTestPower.solve_power`` does, without its imports: to the last bit up to 72
    seeds, from where on that one at times gives another root, or an array.

    Args:
        seeds: At least two.
    """
    return SOLVED.get(seeds) or _solved(seeds)


def _solved(seeds: int) -> float:
    free = seeds - 1
    critical = float(-scipy.special.stdtrit(free, LEVEL / 2))

    def surplus(d_z: float) -> float:
        away = d_z * seeds**0.5
        above = 1 - float(scipy.special.nctdtr(free, away, critical))
        power = above + float(scipy.special.nctdtr(free, away, -critical))
        return math.inf if math.isnan(power) else power - POWER  # NaN far away, where it is 1

    low, high = 1e-8, 1.0
    while surplus(high) < 0:
        low, high = high, 10 * high
    return float(scipy.optimize.brentq(surplus, low, high, xtol=1e-5))


def wilson(count: int, of: int) -> tuple[float, float]:
    """Ends of Wilson's 95 % interval of a share (JASA 1927, 22:209).

    statsmodels' ``proportion_confint(method="wilson")`` to the last bit, without its imports.

    Args:
        count: How many.
        of: Out of so many, at least one.
    """
    share, normal = count / of, float(-scipy.special.ndtri((1 - CONFIDENCE) / 2))
    square = normal**2
    scale = 1 + square / of
    centre = (share + square / (2 * of)) / scale
    half = normal * float(np.sqrt(share * (1 - share) / of + square / (4 * of**2))) / scale
    return max(centre - half, 0.0), min(centre + half, 1.0)
