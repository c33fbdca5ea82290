r"""A schedule of how many patches are hidden, over any strategy: ``ratio+clmae``.

With :math:`u` the share of the budget, :math:`a` and :math:`b` the first and last count and
:math:`f(u) = u` (linear), :math:`(1 - \cos \pi u)/2` (cosine) or :math:`[u \ge 1/2]` (step), the
count is :math:`a + (b - a) f(u)`, moved to the nearest of at most ``levels`` evenly spaced whole
numbers from :math:`a` to :math:`b`. Both ends are exact, the count never turns back, and the mean
over a linear run is that of the schedule itself: :math:`(a + b)/2`.

The idea is nobody's in particular. For orientation only: MAE (arXiv 2111.06377, figure 5) finds
fine-tuning rather flat in the hidden share and linear probing best at high shares. We know of no
verified result for a schedule of the share alone in masked autoencoders. A step costs more the
fewer patches are hidden; the ledger follows the schedule, so compare at equal FLOPs too.
"""

import math
from collections.abc import Mapping
from typing import Literal

from maskbench.mask import Grid
from maskbench.strategy import Field, MaskStrategy, ModelShape, StrategySettings


class Ratio(MaskStrategy):
    """Schedules the number of hidden patches; see the module's text for the equations."""

    family = "ratio schedule"
    source = "ours"
    summary = "hides fewer (or more) patches early than late; which ones is another's choice"
    modifier = True

    class Settings(StrategySettings):
        """What can be set with ``--set``."""

        schedule: Literal["constant", "linear", "cosine", "step"] = Field(
            "linear", description="constant: the run's own count; step: one jump half-way"
        )
        first: float = Field(0.5, gt=0, lt=1, description="share of patches hidden at the start")
        last: float | None = Field(
            None, gt=0, lt=1, description="share hidden at the end; default: what the run asks for"
        )
        levels: int = Field(8, ge=2, description="different counts, at most")

    def hidden(self, progress: float, grid: Grid) -> int:
        """The scheduled number of hidden patches.

        Args:
            progress: Share of the budget consumed.
            grid: The run's own.
        """
        if self.settings.schedule == "constant":
            return grid.hidden
        first = count(self.settings.first, grid.patches)
        last = self.settings.last
        last = grid.hidden if last is None else count(last, grid.patches)
        steps = min(self.settings.levels - 1, abs(last - first))
        steps -= steps % 2 == 0 and (last - first) % 2  # no middle level between two whole numbers
        if not steps:
            return first
        risen = self.risen(progress)
        place = math.ceil(risen * steps - 0.5) if risen < 0.5 else math.floor(risen * steps + 0.5)
        return level(first, last, place, steps)

    def risen(self, progress: float) -> float:
        """How far the schedule has come, 0 to 1."""
        if self.settings.schedule == "cosine":
            return (1 - math.cos(math.pi * progress)) / 2
        return progress if self.settings.schedule == "linear" else float(progress >= 0.5)

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """Nothing of its own: what fewer hidden patches cost is in the plain step."""
        return {}


def count(share: float, patches: int) -> int:
    """A share of the patches as a whole number, at least one and not all."""
    return min(max(round(share * patches), 1), patches - 1)


def level(first: int, last: int, step: int, steps: int) -> int:
    """The whole number at ``step`` of ``steps`` from first to last.

    Rounding is mirrored about the middle, so that it leaves the mean alone.
    """
    if 2 * step > steps:
        return level(last, first, steps - step, steps)
    way = math.floor(step * abs(last - first) / steps + 0.5)
    return first + way if last > first else first - way
