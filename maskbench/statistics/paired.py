"""A strategy against random masking: everything its paired seeds have earned to say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from maskbench.statistics import scores
from maskbench.statistics.tiers import FOR_EFFECT, FOR_INTERVAL, FOR_TEST, Tier, tier

MARGIN = 0.01
"""Differences of less than one point (FS-AULC) are called none, if two one-sided tests agree."""


@dataclass(frozen=True)
class Contrast:
    """Paired differences of two strategies; what the number of seeds does not earn is None.

    Args:
        seeds: Pairs.
        tier: What so many may say.
        differences: By seed.
        value: Their mean.
        low: Lower end of the 95 % t-interval; from three seeds on.
        high: Upper end.
        correlation: Of the paired scores; from three seeds on.
        detectable: Difference that so many seeds of this spread show four times in five.
        d_z: Mean over standard deviation; from five seeds on.
        above: Share of seeds with a difference above zero: the paired probability of improvement.
        above_low: Lower end of its 95 % Wilson interval.
        above_high: Upper end.
        p: Exact two-sided sign-flip p-value; from six seeds on.
        p_adjusted: The same, corrected for its family.
        p_equivalent: That the difference is within the margin: two one-sided t-tests; from six
            seeds on, corrected for its family too.
        margin: In the differences' unit.
    """

    seeds: int
    tier: Tier
    differences: tuple[float, ...]
    value: float
    low: float | None = None
    high: float | None = None
    correlation: float | None = None
    detectable: float | None = None
    d_z: float | None = None
    above: float | None = None
    above_low: float | None = None
    above_high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    p_equivalent: float | None = None
    margin: float = MARGIN

    @property
    def band(self) -> tuple[float, float] | None:
        """Both ends of the interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def side(self) -> int:
        """1 or -1 where the interval lies on that side of zero; else 0."""
        low, high = self.band or (0.0, 0.0)
        return int(low > 0) - int(high < 0)


def contrast(
    ours: ArrayLike, theirs: ArrayLike, rng: np.random.Generator, margin: float = MARGIN
) -> Contrast:
    """Compare two strategies seed by seed.

    Args:
        ours: Seed scores, shape (seeds,); draws and data sets averaged.
        theirs: The same seeds' scores of the other strategy, in the same order.
        rng: For the sign-flip test above sixteen seeds.
        margin: Of equivalence, in the scores' unit.

    Raises:
        ValueError: There is no pair, or the shapes differ.
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"scores of the same seeds are needed, not {a.shape} and {b.shape}")
    d, n = a - b, len(a)
    found = Contrast(n, tier(n), tuple(d.tolist()), float(d.mean()), margin=margin)
    if n >= FOR_INTERVAL:
        found = replace(found, **_interval(a, b))
    if n >= FOR_EFFECT:
        found = replace(found, **_effect(d))
    if n >= FOR_TEST:
        p, within = scores.sign_flip(d, rng), scores.equivalence(d, margin)
        found = replace(found, p=float(p), p_adjusted=float(p), p_equivalent=float(within))
    return found


def _interval(a: scores.Array, b: scores.Array) -> dict[str, Any]:
    d = a - b
    centre, half = float(d.mean()), float(scores.half_width(d))
    return {
        "low": centre - half,
        "high": centre + half,
        "correlation": scores.correlation(a, b),
        "detectable": scores.detectable(len(d)) * float(d.std(ddof=1)),
    }


def _effect(d: scores.Array) -> dict[str, Any]:
    above = int((d > 0).sum())
    low, high = scores.wilson(above, len(d))
    share = {"above": above / len(d), "above_low": low, "above_high": high}
    return {"d_z": scores.effect_size(d), **share}


def holm(family: Sequence[Contrast]) -> list[Contrast]:
    """Contrasts whose p-values are corrected by Holm's method; those without one stay out."""

    def correct(p: Sequence[float]) -> Any:
        from statsmodels.stats.multitest import multipletests

        return multipletests(p, method="holm")[1]

    return _corrected(family, correct)


def benjamini_hochberg(family: Sequence[Contrast]) -> list[Contrast]:
    """The same by Benjamini and Hochberg's: for exploratory endpoints."""
    return _corrected(family, lambda p: scipy.stats.false_discovery_control(p, method="bh"))


def _corrected(family: Sequence[Contrast], correct: Callable[[Any], Any]) -> list[Contrast]:
    tested = [i for i, one in enumerate(family) if one.p is not None]
    found = list(family)
    if tested:
        adjusted = correct([found[i].p for i in tested])
        within = correct([found[i].p_equivalent for i in tested])
        for i, p, equivalent in zip(tested, adjusted, within, strict=True):
            found[i] = replace(found[i], p_adjusted=float(p), p_equivalent=float(equivalent))
    return found


def finding(one: Contrast) -> str | None:
    """What a corrected contrast has shown; None below the claim tier, or where it shows nothing.

    Returns:
        ``better`` or ``worse`` where the interval excludes zero and the corrected exact p is below
        0.05; ``within`` where the difference is shown to be smaller than the margin.
    """
    if one.tier is not Tier.CLAIM:
        return None
    if one.side and _shown(one.p_adjusted):
        return "better" if one.side > 0 else "worse"
    return "within" if _shown(one.p_equivalent) else None


def _shown(p: float | None) -> bool:
    return p is not None and p < scores.LEVEL
