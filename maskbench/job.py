"""Everything the training loop needs, and the guarded calls of a strategy."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskbench.budget import Plan
from maskbench.context import DataView, Features, ModelView
from maskbench.data import augment
from maskbench.data.feed import Feed
from maskbench.data.source import Split
from maskbench.errors import MaskbenchError, StrategyError
from maskbench.mask import Grid, Mask
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule, adamw
from maskbench.strategy import Batch, Context, MaskStrategy


def _no_features(kind: str) -> Features:
    raise ValueError(f"features {kind!r} are not available here")


def data_view(
    split: Split, side: int, features: Callable[[str], Features], device: torch.device
) -> DataView:
    """The training split as a strategy may see it.

    Args:
        split: The training split.
        side: The model's input side, pixels.
        features: The name of a kind to the features of all images.
        device: Where images end up.
    """

    def images(positions: Tensor) -> Tensor:
        """Normalised centre crops."""
        pixels = torch.from_numpy(np.ascontiguousarray(split.images[positions.cpu().numpy()]))
        return augment.normalise(augment.centre(pixels, side).to(device))

    return DataView(len(split), images, side / split.side, features)


@dataclass(frozen=True)
class Job:
    """What to train, on what, for how long.

    Args:
        model: The autoencoder, on its device.
        strategy: The contestant, set up.
        feed: Batches.
        plan: The resolved budget.
        schedule: Learning rate.
        optimizer: The main optimiser.
        grid: How many patches are hidden.
        seed: The run's seed.
        device: Where it runs.
        precision: ``fp32`` or ``bf16``.
        compile: Whether the forward pass is compiled.
    """

    model: MaskedAutoencoder
    strategy: MaskStrategy
    feed: Feed
    plan: Plan
    schedule: Schedule
    optimizer: torch.optim.Optimizer
    grid: Grid
    seed: int
    device: torch.device
    precision: str = "fp32"
    compile: bool = False

    @classmethod
    def of(
        cls, model: MaskedAutoencoder, strategy: MaskStrategy, split: Split, **rest: Any
    ) -> "Job":
        """A job with its feed and optimiser, the strategy set up.

        Args:
            model: On its device.
            strategy: Not set up yet; on the same device.
            split: The training split.
            rest: The other fields, ``weight_decay``, and what may be left out: ``features`` (the
                name of a kind to the features of all training images) and ``share`` (which part
                of every batch this process sees, of how many).
        """
        decay, device = rest.pop("weight_decay"), rest["device"]

        features = rest.pop("features", None) or _no_features

        def order(epoch: int) -> Tensor:
            return job.order(epoch)

        common = {name: rest[name] for name in ("seed", "device")}
        common["share"] = rest.pop("share", (0, 1))
        feed = Feed(split, rest["plan"], order, side=model.shape.image, **common)
        main = adamw(model, [], decay)
        job = cls(model=model, strategy=strategy, feed=feed, optimizer=main, **rest)
        with job.blame("setup"):
            strategy.setup(job.context(0), data_view(split, model.shape.image, features, device))
            joint = list(strategy.joint_parameters())
        return replace(job, optimizer=adamw(model, joint, decay)) if joint else job

    def context(self, step: int, purpose: str = "train") -> Context:
        """What a strategy is told at a step."""
        middle, epochs = self.plan.middle(step), math.ceil(self.plan.epochs)
        return Context(
            seed=self.seed,
            step=step,
            progress=self.plan.progress(step),
            epoch=min(step * self.plan.batch // self.plan.train_images, epochs - 1),
            epochs=epochs,
            grid=self.grid_at(step),
            learning_rate=self.schedule.rate(middle),
            warming_up=self.schedule.warming_up(middle),
            peak_learning_rate=self.schedule.peak,
            device=self.device,
            model=ModelView(self.model),
            purpose=purpose,
        )

    def grid_at(self, step: int) -> Grid:
        """The grid at a step: how many are hidden may be a schedule of the strategy.

        Raises:
            StrategyError: The strategy raised, or the count is out of its range.
        """
        with self.blame("hidden"):
            hidden = self.strategy.hidden(self.plan.progress(step), self.grid)
            return replace(self.grid, hidden=hidden)

    def mask(self, batch: Batch, context: Context) -> Mask:
        """The strategy's mask, checked.

        Raises:
            StrategyError: The strategy raised, or the mask breaks the contract.
        """
        with self.blame("mask"):
            mask = self.strategy.mask(batch, context)
            if not isinstance(mask, Mask):
                raise TypeError(f"the contract wants a Mask, not a {type(mask).__name__}")
            mask.check(len(batch.images), context.grid)
        return mask

    def order(self, epoch: int) -> Tensor:
        """The strategy's order of an epoch, checked; told the context of the epoch's first step.

        Raises:
            StrategyError: The strategy raised, or the order is not one of the training set.
        """
        count = self.plan.train_images
        context = self.context(epoch * count // self.plan.batch, purpose=f"epoch {epoch}")
        with self.blame("order"):
            order = self.strategy.order(epoch, count, context).cpu()
            if order.dtype != torch.int64 or tuple(order.shape) != (count,):
                raise TypeError(
                    f"the contract wants {count} int64 positions, "
                    f"not {order.dtype} of shape {tuple(order.shape)}"
                )
            if int(order.min()) < 0 or int(order.max()) >= count:
                raise ValueError(f"the contract wants positions in 0..{count - 1}")
        return order

    @contextmanager
    def blame(self, method: str) -> Iterator[None]:
        """Whatever is raised inside is the strategy's doing, and is said to be."""
        try:
            yield
        except MaskbenchError:
            raise
        except (Exception, SystemExit) as error:
            raise StrategyError(
                f"strategy {type(self.strategy).__name__} failed in {method}: "
                f"{type(error).__name__}: {error}. --debug shows where."
            ) from error
