"""The main optimiser, its schedule as a function of the budget fraction, and precision."""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

WARMUP_FLOOR = 10


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then half a cosine down to zero at the end of the budget.

    Args:
        peak: Highest learning rate (base rate x batch / 256).
        warmup: Share of the budget spent warming up, in [0, 1).
    """

    peak: float
    warmup: float

    @classmethod
    def of(cls, base_lr: float, batch: int, warmup: float, steps: int) -> "Schedule":
        """A schedule whose warm-up lasts at least ten steps, but never over half of the run."""
        floor = min(WARMUP_FLOOR / max(steps, 1), 0.5)
        return cls(base_lr * batch / 256, max(warmup, floor))

    def warming_up(self, progress: float) -> bool:
        """Whether the rate is still rising."""
        return progress < self.warmup

    def rate(self, progress: float) -> float:
        """Learning rate at a share of the budget."""
        if self.warming_up(progress):
            return self.peak * progress / self.warmup
        decayed = (progress - self.warmup) / max(1 - self.warmup, 1e-12)
        return self.peak * (1 + math.cos(math.pi * decayed)) / 2


def is_vector(parameter: nn.Parameter) -> bool:
    """Whether it is a bias, a norm's weight or a token, (1, 1, width): those do not decay."""
    return parameter.ndim < 2 or parameter.shape[:2] == (1, 1)


def adamw(
    model: nn.Module, joint: Iterable[nn.Parameter], weight_decay: float
) -> torch.optim.AdamW:
    """Fused AdamW, betas (0.9, 0.95); no decay on biases, norms and tokens.

    Args:
        model: The autoencoder.
        joint: A strategy's parameters to be trained along.
        weight_decay: Decay of matrices and convolutions.
    """
    parameters = [*model.parameters(), *joint]
    plain = [p for p in parameters if is_vector(p)]
    decayed = [p for p in parameters if not is_vector(p)]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=True)


def descent(optimizer: torch.optim.Optimizer) -> Callable[[float], None]:
    """One step of an optimiser at a learning rate that is given to it."""

    def descend(rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()

    return descend


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context a forward pass runs in: plain float32, or bfloat16 autocast."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
