"""The training loop: one screen, no strategy's name in it."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from maskbench.distributed import average
from maskbench.errors import DivergedError
from maskbench.job import Job
from maskbench.optim import autocast

LOGS_PER_RUN = 200


@dataclass
class Clock:
    """Seconds by part of the work; ``paused`` (looking at masks) is off the budget.

    On a GPU the parts are those of the host, which runs ahead of the device; only their sum is
    exact, because the device is waited for at every log line, before every look, and at the end.
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


Log = Callable[[Mapping[str, Any]], None]
Moment = Callable[[int, Clock], None]


def train(job: Job, clock: Clock, log: Log, moment: Moment, *, steps: range | None = None) -> None:
    """Spend the budget.

    Args:
        job: What to train, on what, for how long.
        clock: Is charged with every part.
        log: Called with one mapping of numbers every so many steps.
        moment: Called with the step number before every step and once after the last; looks at
            masks when it wants to, and charges that to ``paused``.
        steps: Which steps (default: all of the plan).

    Raises:
        DivergedError: The loss, or a number the strategy logs, is not finite.
        StrategyError: The strategy raised, or its mask breaks the contract.
    """
    forward = torch.compile(job.model) if job.compile else job.model
    every = max(1, math.ceil(job.plan.steps / LOGS_PER_RUN))
    loss_sum, since = torch.zeros((), device=job.device), 0
    for step in range(job.plan.steps) if steps is None else steps:
        moment(step, clock)
        context = job.context(step)
        with clock.on("data"):
            batch = job.feed.batch(step)
        with clock.on("strategy"), torch.no_grad(), autocast(job.device, job.precision):
            mask = job.mask(batch, context)
        with clock.on("step"), autocast(job.device, job.precision):
            outcome = forward(batch.images, mask)
        with clock.on("strategy"), autocast(job.device, job.precision), job.blame("extra_loss"):
            extra = job.strategy.extra_loss(batch, outcome, context)
        with clock.on("step"):
            loss = outcome.loss if extra is None else outcome.loss + extra
            loss.backward()
            for group in job.optimizer.param_groups:
                group["lr"] = context.learning_rate
                average(p.grad for p in group["params"] if p.grad is not None)
            job.optimizer.step()
            job.optimizer.zero_grad()
        with clock.on("strategy"), autocast(job.device, job.precision), job.blame("after_step"):
            logged = job.strategy.after_step(batch, outcome, context)
        loss_sum, since = loss_sum + outcome.loss.detach(), since + 1
        if (step + 1) % every == 0 or step + 1 == job.plan.steps:
            with clock.on("step"):
                mean = float(loss_sum) / since
            report(job, step, mean, logged, log)
            loss_sum, since = torch.zeros((), device=job.device), 0
    moment(job.plan.steps, clock)


def report(
    job: Job, step: int, loss: float, logged: Mapping[str, Tensor | float], log: Log
) -> None:
    """Write one line of numbers; stop when one of them is not finite."""
    images = min((step + 1) * job.plan.batch, job.plan.images)
    with job.blame("after_step (the numbers it returns)"):
        numbers = {name: float(value) for name, value in logged.items()}
    for name, value in {**numbers, "the loss": loss}.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"{name} is {value} at step {step + 1} of {job.plan.steps:,} ({images:,} images): "
                "nothing is saved as a result. Try a smaller --lr, or --precision fp32."
            )
    log(
        {
            **numbers,
            "step": step + 1,
            "images": images,
            "progress": images / job.plan.images,
            "loss": loss,
            "lr": job.schedule.rate(job.plan.middle(step)),
        }
    )
