"""A strategy's own optimiser: its net moves by its own loss, at its own rate."""

import copy
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from maskbench.strategy import Context

Rate = Literal["constant", "cosine", "model"]
RATE = (
    "constant after the warm-up; cosine: from there down to a tenth; "
    "model: decays to nothing with the model's (published)"
)
FLOOR = 0.1


def rate(kind: Rate, context: Context) -> float:
    """Learning rate of a private optimiser; warms up with the model's.

    Args:
        kind: ``"constant"``, ``"cosine"`` (half a cosine over the budget, down to a tenth of the
            peak), or ``"model"`` (the model's own, which ends at zero).
        context: Where the run stands.
    """
    if kind == "model" or context.warming_up:
        return context.learning_rate
    if kind == "constant":
        return context.peak_learning_rate
    share = (1 + math.cos(math.pi * context.progress)) / 2
    return context.peak_learning_rate * (FLOOR + (1 - FLOOR) * share)


class PrivateAdamW(nn.Module):
    """Fused AdamW, betas (0.9, 0.95); a module, so that its state is saved with the strategy's.

    Args:
        net: What it trains; matrices and convolutions decay, vectors and tokens do not.
        weight_decay: Of matrices and convolutions.
    """

    def __init__(self, net: nn.Module, weight_decay: float = 0.05) -> None:
        super().__init__()
        self._trained = list(net.parameters())
        plain = [p for p in self._trained if p.ndim < 2 or p.shape[:2] == (1, 1)]
        marked = {id(p) for p in plain}
        decayed = [p for p in self._trained if id(p) not in marked]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.95),
            fused=True,
        )

    def step(self, loss: Tensor, learning_rate: float, context: Context) -> None:
        """One update; differentiates with respect to the net alone, so the model is untouched."""
        gradients = torch.autograd.grad(loss, self._trained)
        context.average(gradients)
        for parameter, gradient in zip(self._trained, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.get_total_norm(gradients)
        optimizer: Any = self.optimizer
        optimizer.found_inf = (~norm.isfinite()).float()  # then the kernel leaves the net alone
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser's state."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore it (from a copy: torch would share the tensors)."""
        self.optimizer.load_state_dict(copy.deepcopy(state))
