"""MaskStrategy: what a contestant may do, and everything it is given to do it.

A strategy is a torch module (device moves and state saving come free) in one file. Only ``mask``
is required. The training loop knows no strategy by name; ``docs/strategies.md`` shows a whole one.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from maskbench import seeds
from maskbench.context import Batch, Context, DataView, Features, ModelView
from maskbench.errors import StrategyError, UsageError
from maskbench.mask import Grid, Mask, take
from maskbench.model import Encoder, Outcome
from maskbench.results import FLOP_PARTS
from maskbench.shape import (
    ModelShape,
    blocks_forward,
    blocks_input_gradient,
    conv_flops,
    linear_flops,
    soft_pass_flops,
)

__all__ = [
    "Batch",
    "Context",
    "DataView",
    "Encoder",
    "Features",
    "Field",
    "Grid",
    "Mask",
    "MaskStrategy",
    "ModelShape",
    "ModelView",
    "Outcome",
    "StrategySettings",
    "UsageError",
    "blocks_forward",
    "blocks_input_gradient",
    "conv_flops",
    "linear_flops",
    "soft_pass_flops",
    "take",
]


PRIOR = "prior pretraining"
"""Part of ``spent()`` that is listed but not added: it was paid before, outside of the budget."""
PARTS = {"cost": FLOP_PARTS, "spent": (*FLOP_PARTS, PRIOR)}
"""What a method that says FLOPs may name."""


class StrategySettings(BaseModel):
    """A strategy's own settings: frozen, typed, every field with a default and a description."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class MaskStrategy(nn.Module):
    """Base of every strategy; subclass it, say who you are, and write ``mask``.

    Class attributes (plain literals: they are read without importing the file):
        family: Which kind it is, such as ``"data-free"``.
        source: Where it comes from: authors, arXiv number, or ``"ours"``.
        summary: One line: what it hides, and why.

        modifier: True if it leaves the masks to another strategy: ``modifier+random``.

    ``Settings`` is a nested class derived from ``StrategySettings``.
    """

    family: ClassVar[str] = "unnamed"
    source: ClassVar[str] = "unnamed"
    summary: ClassVar[str] = ""
    modifier: ClassVar[bool] = False
    Settings: ClassVar[type[StrategySettings]] = StrategySettings

    def __init__(self, settings: Any = None) -> None:
        super().__init__()
        self.settings: Any = self.Settings() if settings is None else settings

    def setup(self, context: Context, data: DataView) -> None:
        """Build nets, EMA copies and private optimisers, once, before the first step.

        Args:
            context: The context at step 0.
            data: The training images.

        Raises:
            UsageError: The settings cannot be with this data or model.
        """

    def hidden(self, progress: float, grid: Grid) -> int:
        """How many patches are hidden at a share of the budget.

        Args:
            progress: Share of the budget consumed.
            grid: The patches, and how many of them the run asks to hide.
        """
        return grid.hidden

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Decide what is hidden (called without gradient; the only method that is required).

        Returns:
            A mask that hides exactly ``context.grid.hidden`` patches in every image.
        """
        raise NotImplementedError(f"{type(self).__name__} must define mask()")

    def keep(self, batch: Batch, context: Context) -> Tensor | None:
        """Keep-probabilities behind the masks, (images, patches) in [0, 1]; or nothing.

        Only for looks at a generator that learns such probabilities and is to hold their mean at
        the visible share: whether they have collapsed. Called without gradient; changes nothing.
        """
        return None

    def joint_parameters(self) -> list[nn.Parameter]:
        """Parameters that the *main* optimiser should also train."""
        return []

    def extra_loss(self, batch: Batch, outcome: Outcome, context: Context) -> Tensor | None:
        """A scalar added to the reconstruction loss before backward, or nothing."""
        return None

    def after_step(
        self, batch: Batch, outcome: Outcome, context: Context
    ) -> Mapping[str, Tensor | float]:
        """Private optimiser steps, EMA, tables; leaves the model's values and gradients alone.

        What is kept of ``outcome`` beyond the step is kept as a copy (``clone``): the next step
        overwrites it under ``--compile`` on a GPU. Numbers to log need no copy.

        Returns:
            Numbers to log. Tensors stay on the device; the loop reads them when it logs.
        """
        return {}

    def order(self, epoch: int, images: int, context: Context) -> Tensor:
        """Which images the epoch shows, in which order: long, (images,). Default: keyed shuffle."""
        stream = seeds.generator(context.seed, "order", epoch)
        return torch.randperm(images, generator=stream)

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """FLOPs per image on top of the plain step, by part; the closed form of the above.

        Parts: ``encoder``, ``decoder``, ``mask generator``, ``teacher``, ``feature extraction``,
        ``clustering``. Who costs nothing says so: without this method the cost is unknown.
        """
        return {}

    @classmethod
    def says_cost(cls) -> bool:
        """Whether the class says what it costs: whether it has a ``cost`` of its own."""
        return cls.cost is not MaskStrategy.cost

    def spent(self) -> Mapping[str, int]:
        """FLOPs spent so far beside the steps (``setup``, refreshes), by part; kept as state."""
        return {}

    def prior(self) -> str:
        """Knowledge from outside of the run that steers it, in words; empty if there is none."""
        return ""


def said_flops(strategy: MaskStrategy, method: str, said: Any) -> Mapping[str, int]:
    """What ``cost`` or ``spent`` returned, checked: a budget and a ranking are built on it.

    Args:
        strategy: Who said it.
        method: ``cost`` or ``spent``.
        said: What it returned.

    Raises:
        StrategyError: It is no mapping of known parts to whole numbers, 0 or more.
    """
    who = f"strategy {type(strategy).__name__}: {method}()"
    rule = f"a mapping of parts ({', '.join(PARTS[method])}) to FLOPs (int, 0 or more)"
    if not isinstance(said, Mapping):
        raise StrategyError(f"{who} returned {said!r}; the contract wants {rule}.")
    for part, flops in said.items():
        known = part in PARTS[method]
        if not known or isinstance(flops, bool) or not isinstance(flops, int) or flops < 0:
            why = "" if known else ", which is no part that is known"
            raise StrategyError(
                f"{who} says {flops!r} for {part!r}{why}; the contract wants {rule}."
            )
    return said
