"""The training loop: one screen, no strategy's name in it."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from maskbench.budget import Plan
from maskbench.data.feed import Feed
from maskbench.errors import DivergedError, StrategyError
from maskbench.mask import Grid
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule, autocast
from maskbench.strategy import Batch, Context, MaskStrategy, ModelView

LOGS_PER_RUN = 200


@dataclass
class Clock:
    """Seconds by part of the work, and seconds the budget does not count (evaluation, saving).

    On a GPU the parts are those of the host, which runs ahead of the device; only their sum is
    exact, because the device is waited for at every log line and at the end.
    """

    parts: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Charge the time inside to ``part``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Job:
    """Everything the loop needs; the runner builds it.

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
    precision: str
    compile: bool = False

    def context(self, step: int, purpose: str = "train") -> Context:
        """What a strategy is told at a step."""
        middle = self.plan.middle(step)
        return Context(
            seed=self.seed,
            step=step,
            progress=self.plan.progress(step),
            grid=self.grid,
            learning_rate=self.schedule.rate(middle),
            warming_up=self.schedule.warming_up(middle),
            peak_learning_rate=self.schedule.peak,
            device=self.device,
            model=ModelView(self.model),
            purpose=purpose,
        )


Log = Callable[[Mapping[str, Any]], None]
Moment = Callable[[int], None]


def train(job: Job, clock: Clock, log: Log, moment: Moment) -> None:
    """Spend the budget.

    Args:
        job: What to train, on what, for how long.
        clock: Is charged with every part; ``paused`` is off the budget.
        log: Called with one mapping of numbers every so many steps.
        moment: Called with the step number before every step and once after the last; looks at
            masks when it wants to (its time is off the budget's clock).

    Raises:
        DivergedError: The loss is not finite.
        StrategyError: The strategy's mask breaks the contract.
    """
    forward = torch.compile(job.model) if job.compile else job.model
    every = max(1, math.ceil(job.plan.steps / LOGS_PER_RUN))
    loss_sum, since = torch.zeros((), device=job.device), 0
    for step in range(job.plan.steps):
        with clock.on("paused"):
            moment(step)
        context = job.context(step)
        with clock.on("data"):
            batch = Batch(*job.feed.batch(step))
        with clock.on("strategy"), torch.no_grad(), autocast(job.device, job.precision):
            mask = job.strategy.mask(batch, context)
            check(job, mask, batch)
        with clock.on("step"):
            with autocast(job.device, job.precision):
                outcome = forward(batch.images, mask)
                extra = job.strategy.extra_loss(batch, outcome, context)
            loss = outcome.loss if extra is None else outcome.loss + extra
            loss.backward()
            for group in job.optimizer.param_groups:
                group["lr"] = context.learning_rate
            job.optimizer.step()
            job.optimizer.zero_grad()
        with clock.on("strategy"), autocast(job.device, job.precision):
            logged = job.strategy.after_step(batch, outcome, context)
        loss_sum, since = loss_sum + outcome.loss.detach(), since + 1
        if (step + 1) % every == 0 or step + 1 == job.plan.steps:
            with clock.on("step"):
                mean = float(loss_sum) / since
            report(job, step, mean, logged, log)
            loss_sum, since = torch.zeros((), device=job.device), 0
    with clock.on("paused"):
        moment(job.plan.steps)


def check(job: Job, mask: Any, batch: Batch) -> None:
    """Refuse a mask that breaks the contract, in words that name the strategy."""
    try:
        mask.check(len(batch.images), job.grid)
    except (ValueError, AttributeError) as error:
        name = type(job.strategy).__name__
        raise StrategyError(f"strategy {name} broke the mask contract: {error}.") from error


def report(
    job: Job, step: int, loss: float, logged: Mapping[str, Tensor | float], log: Log
) -> None:
    """Write one line of numbers; stop when the loss is not finite."""
    images = min((step + 1) * job.plan.batch, job.plan.images)
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss is {loss} at step {step + 1} of {job.plan.steps:,} ({images:,} images): "
            "nothing is saved as a result. Try a smaller --lr, or --precision fp32."
        )
    log(
        {
            "step": step + 1,
            "images": images,
            "progress": images / job.plan.images,
            "loss": loss,
            "lr": job.schedule.rate(job.plan.middle(step)),
            **{name: float(value) for name, value in logged.items()},
        }
    )
