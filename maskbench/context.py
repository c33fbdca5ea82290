"""What a strategy is given: the batch, the model, the data, where the run stands, randomness."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from maskbench import blocks as _blocks
from maskbench import distributed, seeds, weights
from maskbench import model as _model
from maskbench.mask import Grid, Mask
from maskbench.model import Encoder, MaskedAutoencoder, Outcome
from maskbench.shape import ModelShape

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Images and where they stand in the data set. Never labels.

    Args:
        images: Augmented and normalised floats, (images, 3, side, side).
        positions: Long, (images,): positions in the training set.
        boxes: (images, 4): top, left, bottom, right of each crop as shares of the stored image;
            left is larger than right where the crop is mirrored.
        first: Place of the first image in the step's whole batch (which several processes share).
    """

    images: Tensor
    positions: Tensor
    boxes: Tensor
    first: int = 0

    def __len__(self) -> int:
        return len(self.images)


class Features(NamedTuple):
    """A description of every training image, computed once.

    Args:
        values: Float32 on the CPU, (images, features).
        prior: Which knowledge from outside of this run they hold; empty if none.
        flops: What they cost, by part.
    """

    values: Tensor
    prior: str
    flops: dict[str, int]


@dataclass(frozen=True)
class DataView:
    """The training images as a strategy may see them. Never labels.

    Args:
        count: Size of the training set.
        images: Long positions to normalised centre crops, (images, 3, side, side), on the device.
        shown: Side of those crops as a share of the stored image's.
        features: The name of a kind of feature to the features of all images.
    """

    count: int
    images: Callable[[Tensor], Tensor]
    shown: float
    features: Callable[[str], Features]


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

    @torch.no_grad()
    def attention(self, images: Tensor, query: str = "cls") -> Tensor:
        """Attention that patches receive in the last block, (images, heads, patches), detached.

        Args:
            images: (images, 3, side, side).
            query: ``"cls"``: from CLS; ``"patches"``: the mean over all patches.
        """
        return self._model.attention(images, query)

    @torch.no_grad()
    def patch_loss(self, images: Tensor, mask: Mask) -> Tensor:
        """Loss of every hidden patch under a mask, (images, hidden), detached."""
        outcome: Outcome = self._model(images, mask)
        return outcome.patch_loss

    def soft_patch_loss(self, images: Tensor, keep: Tensor) -> Tensor:
        """Loss of every patch, (images, patches), with each patch scaled by its keep-weight.

        Differentiable with respect to ``keep`` alone: the model's parameters get no gradients.
        """
        return self._model.soft_patch_loss(images, keep)

    def copy_encoder(self) -> Encoder:
        """A frozen copy of the encoder as it is now, to be a teacher; ``pull`` moves it on."""
        return self._model.copy_encoder()

    @torch.no_grad()
    def pull(self, teacher: Encoder, decay: float) -> None:
        """Exponential moving average: ``teacher = decay * teacher + (1 - decay) * live``."""
        live = self._model.encoder_state()
        pairs = [(value, live[name]) for name, value in teacher.named_parameters()]
        torch._foreach_lerp_([t for t, _ in pairs], [v for _, v in pairs], 1 - decay)

    @staticmethod
    def positions(side: int, width: int) -> Tensor:
        """Fixed sine-cosine positions, (1, side * side + 1, width), zeros for CLS."""
        return _model.sincos_positions(side, width)

    @staticmethod
    def blocks(depth: int, width: int, heads: int, eps: float) -> nn.Sequential:
        """Transformer blocks of the model's kind (pre-norm, MLP ratio 4), for a strategy's net."""
        return _blocks.blocks(depth, width, heads, eps)

    @staticmethod
    def outputs(through: nn.Sequential, tokens: Tensor, wanted: slice) -> Tensor:
        """``through(tokens)[:, wanted]`` of ``blocks``; the last one computes no other outputs."""
        return _blocks.outputs(through, tokens, wanted)

    @staticmethod
    def build(factory: Callable[[], M], generator: torch.Generator) -> M:
        """A strategy's net, initialised like the model from a keyed generator of the CPU."""
        return weights.build(factory, generator)


@dataclass(frozen=True)
class Context:
    """Where the run stands, and keyed randomness.

    Args:
        seed: The run's seed.
        step: Optimiser steps done so far.
        progress: Share of the budget consumed: 0 at the first step, 1 at the last.
        epoch: Passes over the training set completed.
        epochs: Passes over the training set that the budget pays for, rounded up.
        grid: How many patches there are and how many to hide.
        learning_rate: The main optimiser's learning rate at this step.
        warming_up: Whether the main learning rate is still rising.
        peak_learning_rate: Its maximum over the run.
        device: Where tensors live.
        model: What the model can do for a strategy.
        images: Images in the whole batch of the step, which several processes share.
        flops_left: FLOPs of the budget that are left after this step, for work beside the steps;
            infinite where the budget counts something else.
        purpose: Prefix of every stream drawn here, so that a look at masks disturbs no training.
    """

    seed: int
    step: int
    progress: float
    epoch: int
    epochs: int
    grid: Grid
    learning_rate: float
    warming_up: bool
    peak_learning_rate: float
    device: torch.device
    model: ModelView
    images: int
    flops_left: float = math.inf
    purpose: str = "train"

    def generator(self, purpose: str, device: torch.device | str | None = None) -> torch.Generator:
        """A generator that depends on the seed, the purpose and the step alone.

        Args:
            purpose: What the numbers are for.
            device: Where they are drawn (default: the run's device).
        """
        where = self.device if device is None else device
        return seeds.generator(self.seed, f"{self.purpose}/{purpose}", self.step, device=where)

    def uniform(self, purpose: str, batch: Batch, columns: int | None = None) -> Tensor:
        """Noise for a batch: float32 in [0, 1), (images, columns).

        A value depends on the seed, the purpose, the step, the image's place in the whole batch
        and the column alone: several processes draw the same numbers as one.

        Args:
            purpose: What the numbers are for.
            batch: The images.
            columns: Numbers per image (default: one per patch).
        """
        key = seeds.key(self.seed, f"{self.purpose}/{purpose}", self.step)
        rows = torch.arange(batch.first, batch.first + len(batch), device=self.device)
        return seeds.uniform(key, rows, self.grid.patches if columns is None else columns)

    def normal(self, purpose: str, batch: Batch, columns: int) -> Tensor:
        """Standard normal noise, (images, columns), keyed like ``uniform`` (Box and Muller)."""
        half = (columns + 1) // 2
        u = self.uniform(purpose, batch, 2 * half)
        radius = (-2 * torch.log1p(-u[:, :half])).sqrt()
        angle = 2 * math.pi * u[:, half:]
        return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :columns]

    def gumbel(self, purpose: str, batch: Batch) -> Tensor:
        """Standard Gumbel noise per patch, (images, patches), keyed like ``uniform``."""
        u = self.uniform(purpose, batch).clamp(min=2.0**-25)
        return -(-u.log()).log()

    def average(self, gradients: Iterable[Tensor]) -> None:
        """Average gradients over all images of the step, in place; nothing to do for one process.

        A process counts by its images: a loss that is a mean over a process's own images has then
        the gradient of the mean over all of them, however uneven the parts are.
        """
        distributed.average(gradients, self.images)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over all images of the step (of every process): (images here, ...) to a scalar.

        This and the next two are differentiable: with ``average`` afterwards, the gradient of a
        loss made of them is that of the same loss in one process.
        """
        return distributed.mean(values, self.images)

    def total(self, values: Tensor) -> Tensor:
        """Sum over all images of the step (of every process): (images here, ...) to a scalar."""
        return distributed.total(values, self.images)

    def gather(self, values: Tensor) -> Tensor:
        """Rows of all images of the step: (images here, ...) to (images of the step, ...)."""
        return distributed.gather(values, self.images)

    @staticmethod
    def once(make: Callable[[], T]) -> T:
        """What the first process makes, in all processes: for long work beside the steps.

        Args:
            make: Its result is pickled on its way to the others: give tensors of the CPU.
        """
        return distributed.once(make)
