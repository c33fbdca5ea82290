"""Lambda, the factor that turns a partner (+1) into an adversary (-1), over the budget."""

import math
from typing import Literal

from maskbench.strategy import Context, Field, StrategySettings

Schedule = Literal["linear", "epoch", "cosine", "step", "constant"]


class CurriculumSettings(StrategySettings):
    """How lambda moves."""

    schedule: Schedule = Field(
        "linear",
        description="lambda from first to last: linear per step, per epoch (published; jumps over "
        "the middle), cosine, step (at half of the budget), constant (first throughout)",
    )
    first: float = Field(1.0, ge=-1, le=1, description="lambda at the start (+1 partner)")
    last: float = Field(-1.0, ge=-1, le=1, description="lambda at the end (-1 adversary)")

    def factor(self, context: Context) -> float:
        """Lambda now."""
        return self.first + (self.last - self.first) * share(self.schedule, context)


def share(schedule: Schedule, context: Context) -> float:
    """How far a schedule has come, 0 to 1."""
    progress, epoch, epochs = context.progress, context.epoch, context.epochs
    if schedule == "linear":
        return progress
    if schedule == "cosine":
        return (1 - math.cos(math.pi * progress)) / 2
    if schedule == "step":
        return float(progress >= 0.5)
    if schedule == "epoch":
        return (epoch if epoch < epochs / 2 else epoch + 1) / epochs
    return 0.0
