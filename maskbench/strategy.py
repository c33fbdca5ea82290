"""MaskStrategy: what a contestant may do, and everything it is given to do it.

A strategy is a torch module (device moves and state saving come free) in one file. Only ``mask``
is required. The training loop knows no strategy by name; ``docs/strategies.md`` shows a whole one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from maskbench import model as _model
from maskbench import seeds
from maskbench.mask import Grid, Mask
from maskbench.model import MaskedAutoencoder, Outcome
from maskbench.shape import ModelShape, blocks_forward, blocks_input_gradient, linear_flops

__all__ = [
    "Batch",
    "Context",
    "Field",
    "Grid",
    "Mask",
    "MaskStrategy",
    "ModelShape",
    "ModelView",
    "Outcome",
    "StrategySettings",
    "blocks_forward",
    "blocks_input_gradient",
    "linear_flops",
]

M = TypeVar("M", bound=nn.Module)


class StrategySettings(BaseModel):
    """A strategy's own settings: frozen, typed, every field with a default and a description."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


@dataclass(frozen=True)
class Batch:
    """Images and where they stand in the data set. Never labels.

    Args:
        images: Augmented and normalised floats, (images, 3, side, side).
        positions: Long, (images,): positions in the training set.
    """

    images: Tensor
    positions: Tensor


class ModelView:
    """Read-only abilities of the model. Nothing returned here can move its weights.

    Args:
        model: The live model.
    """

    def __init__(self, model: MaskedAutoencoder) -> None:
        self._model = model

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        return self._model.shape

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Patch embeddings plus positions, (images, patches, width), detached."""
        return self._model.embed(images)

    @torch.no_grad()
    def encode(self, tokens: Tensor) -> Tensor:
        """Encoder output for embedded patches: (B, n, width) to (B, n + 1, width), detached."""
        return self._model.encode(tokens)

    def soft_patch_loss(self, images: Tensor, keep: Tensor) -> Tensor:
        """Loss of every patch, (images, patches), with each patch scaled by its keep-weight.

        Differentiable with respect to ``keep``; ask ``torch.autograd.grad`` for the gradients of
        your own parameters and the model's stay untouched.
        """
        return self._model.soft_patch_loss(images, keep)

    @staticmethod
    def blocks(depth: int, width: int, heads: int, eps: float) -> nn.Sequential:
        """Transformer blocks of the model's kind (pre-norm, MLP ratio 4), for a strategy's net."""
        return _model.blocks(depth, width, heads, eps)

    @staticmethod
    def build(factory: Callable[[], M], generator: torch.Generator) -> M:
        """A strategy's net, initialised like the model from a keyed generator of the CPU."""
        return _model.build(factory, generator)


@dataclass(frozen=True)
class Context:
    """Where the run stands, and keyed randomness.

    Args:
        seed: The run's seed.
        step: Optimiser steps done so far.
        progress: Share of the budget consumed: 0 at the first step, 1 at the last.
        grid: How many patches there are and how many to hide.
        learning_rate: The main optimiser's learning rate at this step.
        warming_up: Whether the main learning rate is still rising.
        peak_learning_rate: Its maximum over the run.
        device: Where tensors live.
        model: What the model can do for a strategy.
        purpose: Prefix of every stream drawn here, so that a look at masks disturbs no training.
    """

    seed: int
    step: int
    progress: float
    grid: Grid
    learning_rate: float
    warming_up: bool
    peak_learning_rate: float
    device: torch.device
    model: ModelView
    purpose: str = "train"

    def generator(self, purpose: str, device: torch.device | str | None = None) -> torch.Generator:
        """A generator that depends on the seed, the purpose and the step alone.

        Args:
            purpose: What the numbers are for.
            device: Where they are drawn (default: the run's device).
        """
        where = self.device if device is None else device
        return seeds.generator(self.seed, f"{self.purpose}/{purpose}", self.step, device=where)


class MaskStrategy(nn.Module):
    """Base of every strategy; subclass it, say who you are, and write ``mask``.

    Class attributes (plain literals: they are read without importing the file):
        family: Which kind it is, such as ``"data-free"``.
        source: Where it comes from: authors, arXiv number, or ``"ours"``.
        summary: One line: what it hides, and why.

    ``Settings`` is a nested class derived from ``StrategySettings``.
    """

    family: ClassVar[str] = "unnamed"
    source: ClassVar[str] = "unnamed"
    summary: ClassVar[str] = ""
    Settings: ClassVar[type[StrategySettings]] = StrategySettings

    def __init__(self, settings: Any = None) -> None:
        super().__init__()
        self.settings: Any = self.Settings() if settings is None else settings

    def setup(self, context: Context, images: int) -> None:
        """Build nets, EMA copies and private optimisers, once, before the first step.

        Args:
            context: The context at step 0.
            images: Size of the training set.
        """

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Decide what is hidden (called without gradient; the only method that is required).

        Returns:
            A mask that hides exactly ``context.grid.hidden`` patches in every image.
        """
        raise NotImplementedError(f"{type(self).__name__} must define mask()")

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

        Returns:
            Numbers to log. Tensors stay on the device; the loop reads them when it logs.
        """
        return {}

    def order(self, epoch: int, images: int, context: Context) -> Tensor:
        """Which images the epoch shows, in which order: long, (images,). Default: keyed shuffle."""
        stream = seeds.generator(context.seed, "order", epoch)
        return torch.randperm(images, generator=stream)

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """FLOPs per image on top of the plain step, by part; the closed form of the above."""
        return {}
