"""Everything the training loop needs, and the guarded calls of a strategy."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskbench import distributed
from maskbench.budget import Plan
from maskbench.clock import Clock
from maskbench.context import DataView, Features, ModelView
from maskbench.data import augment
from maskbench.data.feed import Feed
from maskbench.data.source import Split
from maskbench.errors import MaskbenchError, StrategyError
from maskbench.mask import Grid, Mask
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule, adamw
from maskbench.pace import Pace, Prices, Turn
from maskbench.shape import step_flops
from maskbench.strategy import PRIOR, Batch, Context, MaskStrategy, said_flops


@contextmanager
def blamed(strategy: MaskStrategy, method: str) -> Iterator[None]:
    """Whatever is raised inside is the strategy's doing, and is said to be.

    Raises:
        StrategyError: Something was; errors that say what to do are passed on.
    """
    try:
        yield
    except MaskbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise StrategyError(
            f"strategy {type(strategy).__name__} failed in {method}: "
            f"{type(error).__name__}: {error}. --debug shows where."
        ) from error


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
        pace: How much of the budget is consumed.
        schedule: Learning rate.
        optimizer: The main optimiser.
        grid: How many patches are hidden.
        seed: The run's seed.
        device: Where it runs.
        precision: ``fp32`` or ``bf16``.
        compile: Whether the forward pass is compiled.
        clock: The run's.
    """

    model: MaskedAutoencoder
    strategy: MaskStrategy
    feed: Feed
    pace: Pace
    schedule: Schedule
    optimizer: torch.optim.Optimizer
    grid: Grid
    seed: int
    device: torch.device
    precision: str = "fp32"
    compile: bool = False
    clock: Clock = field(default_factory=Clock)

    @classmethod
    def of(
        cls, model: MaskedAutoencoder, strategy: MaskStrategy, split: Split, **rest: Any
    ) -> "Job":
        """A job with its feed and optimiser, the strategy set up.

        Args:
            model: On its device.
            strategy: Not set up yet; on the same device.
            split: The training split.
            rest: The other fields, ``plan`` instead of ``pace``, ``weight_decay``, and what may be
                left out: ``features`` (the name of a kind to the features of all training images).
        """
        decay, device, plan = rest.pop("weight_decay"), rest["device"], rest.pop("plan")
        features, side = rest.pop("features", None) or _no_features, model.shape.image
        where: Any = {"device": device, "share": distributed.share()}
        feed = Feed(split, plan.batch, side=side, seed=rest["seed"], **where)
        main = adamw(model, [], decay)
        job = cls(
            model=model, strategy=strategy, feed=feed, optimizer=main, pace=Pace(plan), **rest
        )
        with job.blame("setup"):
            strategy.setup(job.context(0), data_view(split, side, features, device))
            joint = list(strategy.joint_parameters())
        return replace(job, optimizer=adamw(model, joint, decay)) if joint else job

    @property
    def plan(self) -> Plan:
        """What the budget buys."""
        return self.pace.plan

    def trial(self, batch: int) -> "Job":
        """A long job with another batch on copies: whatever happens to it leaves this one alone.

        Raises:
            StrategyError: The strategy cannot be copied.
        """
        with self.blame("copy.deepcopy (of a strategy that is set up)"):
            model, strategy, optimizer = copy.deepcopy((self.model, self.strategy, self.optimizer))
        plan = Plan.expecting(self.plan.budget, self.plan.train_images, batch, 10**9 * batch)
        return replace(
            self,
            model=model,
            strategy=strategy,
            optimizer=optimizer,
            feed=self.feed.again(batch),
            pace=Pace(plan),
            clock=Clock(),
        )

    def turn(self, step: int) -> Turn:
        """How far the budget is consumed before a step, and how many images it will have."""
        return self.pace.turn(step)

    def context(self, step: int, purpose: str = "train") -> Context:
        """What a strategy is told at a step."""
        turn, plan = self.turn(step), self.plan
        epochs = math.ceil(plan.epochs)
        return Context(
            seed=self.seed,
            step=step,
            progress=turn.progress,
            epoch=min(self.pace.seen(step) // plan.train_images, epochs - 1),
            epochs=epochs,
            grid=self.grid_at(turn.progress),
            learning_rate=self.schedule.rate(turn.middle),
            warming_up=self.schedule.warming_up(turn.middle),
            peak_learning_rate=self.schedule.peak,
            device=self.device,
            model=ModelView(self.model),
            images=turn.images,
            flops_left=turn.flops_left,
            purpose=purpose,
        )

    def grid_at(self, progress: float) -> Grid:
        """The grid at a share of the budget: how many are hidden may be the strategy's schedule.

        Raises:
            StrategyError: The strategy raised, or the count is out of its range.
        """
        with self.blame("hidden"):
            return replace(self.grid, hidden=self.strategy.hidden(progress, self.grid))

    def flops(self, hidden: int) -> dict[str, int]:
        """FLOPs of one image's step by part, in closed form.

        Args:
            hidden: Patches hidden.

        Raises:
            StrategyError: The strategy's ``cost`` raised, or said what cannot be.
        """
        shape, grid = self.model.shape, replace(self.grid, hidden=hidden)
        found = step_flops(shape, grid.visible)
        with self.blame("cost"):
            said = said_flops(self.strategy, "cost", self.strategy.cost(grid, shape))
        for part, flops in said.items():
            found[part] = found.get(part, 0) + flops
        return found

    def prices(self) -> Prices:
        """What a budget of FLOPs needs to know."""
        seen: dict[int, int] = {}

        def image(hidden: int) -> int:
            """FLOPs of one image's step."""
            if hidden not in seen:
                seen[hidden] = sum(self.flops(hidden).values())
            return seen[hidden]

        return Prices(lambda progress: self.grid_at(progress).hidden, image, self.beside)

    def beside(self) -> int:
        """FLOPs that the strategy spent beside the steps so far, without prior pretraining."""
        return sum(flops for part, flops in self.spent().items() if part != PRIOR)

    def spent(self) -> Mapping[str, int]:
        """What the strategy says to have spent beside the steps so far, by part.

        Raises:
            StrategyError: It raised, or said what cannot be.
        """
        with self.blame("spent"):
            return said_flops(self.strategy, "spent", self.strategy.spent())

    def batch(self, step: int) -> Batch:
        """The step's images (this process's part of them)."""
        return self.feed.batch(step, self.order, images=self.turn(step).images)

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

    def keep(self, batch: Batch, context: Context) -> Tensor | None:
        """The strategy's keep-probabilities, checked; None where it has none.

        Raises:
            StrategyError: The strategy raised, or they are no probabilities.
        """
        with self.blame("keep"):
            keep = self.strategy.keep(batch, context)
            if keep is None:
                return None
            expected = (len(batch.images), context.grid.patches)
            if tuple(keep.shape) != expected or not bool(((keep >= 0) & (keep <= 1)).all()):
                raise ValueError(f"the contract wants probabilities of shape {expected}, or None")
        return keep

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
        with blamed(self.strategy, method):
            yield
