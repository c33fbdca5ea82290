"""The training loop: one screen, no strategy's name in it."""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from maskbench.distributed import averages
from maskbench.errors import DivergedError
from maskbench.job import Job
from maskbench.optim import autocast
from maskbench.strategy import Context

LOGS_PER_RUN = 200

Log = Callable[[Mapping[str, Any]], None]
Moment = Callable[[int], None]


def train(job: Job, log: Log, moment: Moment, *, steps: range | None = None) -> None:
    """Spend the budget.

    Args:
        job: What to train, on what, for how long; its clock is charged with every part.
        log: Called with one mapping of numbers every so many steps, and at the end.
        moment: Called with the step number before every step and once after the last; looks at
            masks when it wants to, off the clock.
        steps: Which steps (default: until the budget is consumed).

    Raises:
        DivergedError: The loss, or a number the strategy logs, is not finite.
        StrategyError: The strategy raised, or its mask breaks the contract.
    """
    forward = torch.compile(job.model) if job.compile else job.model
    clock, shapes, line = job.clock, set[tuple[int, int]](), Line(job, log)
    clock.start()
    for step in itertools.count() if steps is None else steps:
        moment(step)
        turn = job.turn(step)
        if not turn.images:
            break
        context = job.context(step)
        with clock.on("data"):
            batch = job.batch(step)
        with clock.on("strategy"), torch.no_grad(), autocast(job.device, job.precision):
            mask = job.mask(batch, context)
        shape = (len(batch), context.grid.hidden)
        part = "compilation" if job.compile and shape not in shapes else "step"
        shapes.add(shape)
        with clock.on(part), autocast(job.device, job.precision):
            outcome = forward(batch.images, mask)
        with clock.on("strategy"), autocast(job.device, job.precision), job.blame("extra_loss"):
            extra = job.strategy.extra_loss(batch, outcome, context)
        with clock.on(part):
            loss = outcome.loss if extra is None else outcome.loss + extra
            loss.backward()
            for group in job.optimizer.param_groups:
                group["lr"] = context.learning_rate
                context.average(p.grad for p in group["params"] if p.grad is not None)
            job.optimizer.step()
            job.optimizer.zero_grad()
        with clock.on("strategy"), autocast(job.device, job.precision), job.blame("after_step"):
            logged = job.strategy.after_step(batch, outcome, context)
        job.pace.took(turn, context.grid.hidden)
        line.add(context.mean(outcome.patch_loss.detach()), logged, context)
    line.write()
    clock.stop()


class Line:
    """What is logged of the steps since the last line; reads the device only when it is written.

    Args:
        job: The run.
        log: Takes a line.
    """

    def __init__(self, job: Job, log: Log) -> None:
        self._job, self._log = job, log
        self._every = max(1, math.ceil(job.plan.steps / LOGS_PER_RUN))
        self._losses: list[Tensor] = []
        self._latest: Mapping[str, Tensor | float] = {}
        self._rate, self._images = 0.0, 0

    def add(self, loss: Tensor, logged: Mapping[str, Tensor | float], context: Context) -> None:
        """A step is done.

        Args:
            loss: Of the whole batch.
            logged: By the strategy, of this process's images; averaged when it is written.
            context: Of the step.
        """
        self._losses.append(loss)
        self._latest = logged
        self._rate, self._images = context.learning_rate, context.images
        if self._job.pace.steps % self._every == 0:
            self.write()

    def write(self) -> None:
        """Write a line of numbers; stop when one of them is not finite."""
        if not self._losses:
            return
        job, pace = self._job, self._job.pace
        with job.clock.on("step"):
            loss = float(torch.stack(self._losses).sum()) / len(self._losses)
        self._losses.clear()
        images = sum(pace.images.values())
        with job.blame("after_step (the numbers it returns)"):
            numbers = {name: float(value) for name, value in self._latest.items()}
        numbers = averages(numbers, self._images, job.device)
        for name, value in {**numbers, "the loss": loss}.items():
            if not math.isfinite(value):
                raise DivergedError(
                    f"{name} is {value} at step {pace.steps} of {job.plan.steps:,} ({images:,} "
                    "images): nothing is saved as a result. Try a smaller --lr, or --precision "
                    "fp32."
                )
        own = {"step": pace.steps, "images": images, "progress": pace.share()}
        self._log({**numbers, **own, "loss": loss, "lr": self._rate})
