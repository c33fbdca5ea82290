"""How masks change over training: turnover, drift of the frequency map, trends.

CL-MAE's story (arXiv 2308.16572) is a direction: masks that are easier than random ones while its
factor lambda is positive, harder once it is negative. ``agreement`` asks whether the measured
difficulty follows lambda; ``slope`` and ``trend`` whether something rises over the budget.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import scipy
from numpy.typing import NDArray

from maskbench.analysis.agreement import Bools, Floats


def turnover(before: Bools, after: Bools) -> Floats:
    """Share of patches that change sides, over what two independent random masks would change.

    Args:
        before: (images, patches).
        after: The same images at a later moment, (images, patches).

    Returns:
        (images,): 0 where nothing moved, 1 (expected) where the masks are drawn anew.
    """
    first, second = before.mean(axis=1), after.mean(axis=1)
    expected = first * (1 - second) + second * (1 - first)
    changed: Floats = (before != after).mean(axis=1) / expected
    return changed


def map_drift(before: Bools, after: Bools) -> tuple[float, float]:
    r"""Jensen-Shannon divergence of two moments' frequency maps, bits, and its null.

    The null is what two sets of independent uniformly random masks are apart by chance: to second
    order the divergence of two close distributions is :math:`\frac{1}{8} \sum (p-q)^2 / m`.

    Args:
        before: (images, patches).
        after: (images, patches).
    """
    maps = [masks.mean(axis=0) for masks in (before, after)]
    p, q = (frequency / frequency.sum() for frequency in maps)
    middle = (p + q) / 2
    found = sum(float(scipy.stats.entropy(one, middle, base=2)) for one in (p, q)) / 2
    odds = sum((1 - f.mean()) / f.mean() / len(before) for f in maps)
    return found, float(odds / 8 / np.log(2))


@dataclass(frozen=True)
class Following:
    """How a measured course follows a schedule.

    Args:
        rho: Spearman's rank correlation; None where one of them never changes.
        moments: How many.
    """

    rho: float | None
    moments: int


def logged(metrics: Iterable[Mapping[str, Any]]) -> dict[float, float]:
    """A strategy's lambda over its budget, as its run has logged it.

    Args:
        metrics: Lines of a metrics file, of whatever shape.

    Returns:
        Share of the budget to value, ascending; empty where no line has one, or where lines have
        several of different names.
    """
    rows = list(metrics)
    names = {name for row in rows for name in row if name.endswith("/lambda")}
    if len(names) != 1:
        return {}
    (name,) = names
    pairs = [(row.get("progress"), row.get(name)) for row in rows]
    return dict(sorted((float(x), float(y)) for x, y in pairs if _is_number(x) and _is_number(y)))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def following(schedule: Sequence[float], measured: Sequence[float]) -> Following:
    """Spearman's correlation of a schedule and what was measured under it; one run.

    Moments of one run depend on each other: a p-value comes from several seeds only.
    """
    if len(schedule) < 3 or np.ptp(schedule) == 0 or np.ptp(measured) == 0:
        return Following(None, len(schedule))
    found: Any = scipy.stats.spearmanr(schedule, measured)
    return Following(float(found.statistic), len(schedule))


def slope(shares: Sequence[float], values: Sequence[float]) -> float | None:
    """Least-squares change over the whole budget; None for fewer than two moments.

    Args:
        shares: Of the budget, 0 to 1.
        values: One per share.
    """
    if len(shares) < 2 or np.ptp(shares) == 0:
        return None
    found: Any = scipy.stats.linregress(shares, values)
    return float(found.slope)


def page(courses: NDArray[np.float64]) -> float | None:
    """Page's test that values rise with the moments, seeds as blocks; one-sided p-value.

    Args:
        courses: (seeds, moments).

    Returns:
        None for fewer than two seeds or three moments (Page, JASA 1963).
    """
    if courses.shape[0] < 2 or courses.shape[1] < 3:
        return None
    return float(scipy.stats.page_trend_test(courses).pvalue)


def gap(losses: Floats) -> tuple[float, float]:
    """Difficulty gap: mean loss under the masks over that under random masks, minus one.

    Below 0 the masks are easier than random ones, above 0 harder.

    Args:
        losses: Of each image under its own mask and under random ones, (2, images).

    Returns:
        The gap, and its standard error over images (of a ratio of means); NaN for one image.
    """
    own, random = losses
    found = own.mean() / random.mean() - 1
    spread = (own - (1 + found) * random).std(ddof=1) if len(own) > 1 else np.nan
    return float(found), float(spread / len(own) ** 0.5 / random.mean())
