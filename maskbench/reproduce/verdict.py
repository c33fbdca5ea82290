"""From numbers to a verdict, by a rule that was written down before the runs. Pure functions.

A claim is a difference that lies above 0. With its 95 % interval [low, high] over training seeds
(and images, crossed: ``maskbench.analysis.intervals``) and a smallest difference of interest:

* *reproduced* if low > 0 (and, of several decisive ones, p < 0.05 after Holm's correction);
* *reproduced, but smaller than* the smallest difference if high lies below that, too;
* *not reproduced* if high < smallest: a difference of the claimed size is excluded;
* *undecided at this scale* otherwise: below three seeds, where a number is missing, and where all
  differences are equal (such as accuracies of 100 %): nothing then tells their spread, and an
  interval without width would claim certainty.

Several decisive differences are one claim: it is reproduced if all are, and not if one is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from maskbench.analysis.intervals import Interval, two_level
from maskbench.statistics import FOR_INTERVAL, LEVEL

NOTHING = 1e-12
"""An interval narrower than this is rounding."""
REPRODUCED, NOT, UNDECIDED = "reproduced", "not reproduced", "undecided at this scale"


@dataclass(frozen=True)
class Reading:
    """One quantity of several runs.

    Args:
        values: (seeds, images), NaN where an image has none; (seeds, 1) for numbers of whole runs.
        most: Whether true values may lie below some of these.
        least: Whether true values may lie above some of these.
        missing: Why there is nothing; empty where there is.
    """

    values: NDArray[np.float64]
    most: bool = False
    least: bool = False
    missing: str = ""

    @classmethod
    def none(cls, why: str) -> "Reading":
        """Nothing, and why."""
        return cls(np.empty((0, 0)), missing=why)

    def minus(self, other: "Reading") -> "Reading":
        """The paired difference; what either lacks is missing."""
        if self.missing or other.missing:
            whys = dict.fromkeys(why for why in (self.missing, other.missing) if why)
            return Reading.none("; ".join(whys))
        if self.values.shape != other.values.shape:
            return Reading.none("the two sides are not of the same seeds and images")
        return Reading(
            self.values - other.values,
            most=self.most or other.least,
            least=self.least or other.most,
        )


@dataclass(frozen=True)
class Finding:
    """What one comparison found.

    Args:
        what: In words.
        quantity: What was compared.
        decisive: Whether the verdict depends on it.
        smallest: Difference of interest.
        value: Mean difference; None where it is missing, like the others.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Two-sided, of no difference; of the t-distribution that the interval comes from.
        p_holm: The same, corrected for the decisive comparisons; None where there is one alone.
        seeds: Pairs.
        images: Of each seed; 1 for numbers of whole runs.
        verdict: ``REPRODUCED``, ``NOT`` or ``UNDECIDED``.
        why: In a clause.
    """

    what: str
    quantity: str
    decisive: bool
    smallest: float
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    seeds: int
    images: int
    verdict: str
    why: str


def finding(
    what: str, quantity: str, difference: Reading, *, smallest: float, decisive: bool
) -> Finding:
    """Judge one comparison by itself; ``together`` corrects several.

    Args:
        what: In words.
        quantity: What is compared.
        difference: Claimed to lie above 0.
        smallest: Difference of interest, above 0.
        decisive: Whether the verdict depends on it.
    """
    found = two_level(difference.values) if difference.values.size else None
    if found is None or found.mean is None:
        why = difference.missing or "no image has a value in all runs"
        empty = Interval(None, None, None, len(difference.values), 0)
        verdict, found = UNDECIDED, empty
    else:
        verdict, why = judged(found, difference, smallest)
    return Finding(
        what, quantity, decisive, smallest, found.mean, found.low, found.high, p_of(found), None,
        found.seeds, found.images, verdict, why,
    )  # fmt: skip


def p_of(found: Interval) -> float | None:
    """Its p-value; 0 or 1 where nothing varies; None where there is no interval."""
    if found.p is not None or found.low is None:
        return found.p
    return float(found.mean == 0)


def judged(found: Interval, difference: Reading, smallest: float) -> tuple[str, str]:
    """The rule of the module's text, and why it says so."""
    low, high = found.low, found.high
    if found.seeds < FOR_INTERVAL or low is None or high is None:
        return UNDECIDED, f"{found.seeds} of at least {FOR_INTERVAL} seeds: --seeds {FOR_INTERVAL}"
    if high - low < NOTHING:
        return UNDECIDED, "all differences are equal: nothing tells their spread"
    if low > 0:
        if difference.most:
            return UNDECIDED, "above 0, but some of these differences are upper ends"
        if high < smallest and not difference.least:
            return REPRODUCED, f"but smaller than {smallest:g}"
        return REPRODUCED, "the interval lies above 0"
    if high < smallest:
        if difference.least:
            return UNDECIDED, f"below {smallest:g}, but some of these differences are lower ends"
        side = ", and lies below 0" if high < 0 else ""
        return NOT, f"the interval excludes {smallest:g}{side}"
    return UNDECIDED, f"the interval holds both 0 and {smallest:g}"


def together(findings: Sequence[Finding]) -> list[Finding]:
    """The findings with Holm's correction over the decisive ones (Holm, Scand. J. Stat. 1979).

    One that is then no longer below 0.05 is undecided.
    """
    found = list(findings)
    family = [i for i, one in enumerate(found) if one.decisive and one.p is not None]
    if len(family) < 2:
        return found
    adjusted: Any = multipletests([found[i].p for i in family], method="holm")[1]
    for i, p in zip(family, adjusted, strict=True):
        one = replace(found[i], p_holm=float(p))
        if one.verdict == REPRODUCED and p >= LEVEL:
            why = f"above 0, but not after Holm's correction for {len(family)} comparisons"
            one = replace(one, verdict=UNDECIDED, why=why)
        found[i] = one
    return found


def overall(findings: Sequence[Finding]) -> tuple[str, str]:
    """The verdict of a claim from all its findings, and why.

    Raises:
        ValueError: None is decisive.
    """
    decisive = [one for one in findings if one.decisive]
    if not decisive:
        raise ValueError("no finding is decisive")
    verdicts = {one.verdict for one in decisive}
    if verdicts == {REPRODUCED}:
        small = [one for one in decisive if one.why.startswith("but smaller")]
        return REPRODUCED, "; ".join(_because(one) for one in small or decisive)
    verdict = NOT if NOT in verdicts else UNDECIDED
    return verdict, "; ".join(_because(one) for one in decisive if one.verdict == verdict)


def _because(one: Finding) -> str:
    return f"{one.what}: {one.why}"
