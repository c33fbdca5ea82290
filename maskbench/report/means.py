"""Means over seeds and their intervals."""

from collections.abc import Iterable
from dataclasses import dataclass

SEEDS_FOR_INTERVAL = 3
"""``maskbench.statistics.FOR_INTERVAL``, without importing SciPy at every start."""


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Args:
        value: The mean.
        half: Half-width of the 95 % t-interval; None below three seeds.
        n: Seeds.
    """

    value: float
    half: float | None
    n: int

    @property
    def band(self) -> tuple[float, float]:
        """Both ends of the interval; the mean itself where there is none."""
        return self.value - (self.half or 0), self.value + (self.half or 0)


def mean(values: Iterable[float | None]) -> Mean | None:
    """Mean and t-interval over seeds; None when there is nothing."""
    found = [value for value in values if value is not None]
    centre, n = middle(found), len(found)
    if centre is None:
        return None
    if n < SEEDS_FOR_INTERVAL:
        return Mean(centre, None, n)
    from maskbench.statistics import half_width

    return Mean(centre, float(half_width(found)), n)


def middle(values: Iterable[float | None]) -> float | None:
    """Mean alone; None when there is nothing."""
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None
