"""The training loop: one screen, no strategy's name in it."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from maskbench.distributed import averages
from maskbench.errors import DivergedError
from maskbench.graphs import Descend, Forward, compiled, updates
from maskbench.guard import Guard
from maskbench.job import Job
from maskbench.optim import autocast, descent
from maskbench.strategy import Context

LOGS_PER_RUN = 200
COMPILING = {"cuda": 3}
"""First steps that compile for every number of hidden patches: three on a GPU, elsewhere one."""

Log = Callable[[Mapping[str, Any]], None]
Moment = Callable[[int], None]


def train(
    job: Job,
    log: "Log | Line",
    moment: Moment,
    *,
    steps: range | None = None,
    guard: Guard | None = None,
) -> None:
    """Spend the budget, or what is left of it.

    Args:
        job: What to train, on what, for how long; its clock is charged with every part.
        log: Called with numbers every so many steps, and at the end; or a resumed ``Line``.
        moment: Called with the step number before every step and once after the last.
        steps: Which steps (default: from where the job stands until the budget is consumed).
        guard: Looks for numbers that are not finite (default: the first one stops the run).

    Raises:
        DivergedError: The loss, a gradient, or a number the strategy logs, is not finite.
        StrategyError: The strategy raised, or its mask breaks the contract.
    """
    forward, descend, compiling = _ways(job)
    clock, seen = job.clock, Counter[int]()
    line = log if isinstance(log, Line) else Line(job, log)
    guard = guard or Guard(job)
    clock.start()
    for step in itertools.count(job.pace.steps) if steps is None else steps:
        moment(step)
        turn = job.turn(step)
        if not turn.images:
            break
        context = job.context(step)
        with clock.on("data"):
            batch = job.batch(step)
        with clock.on("strategy"), torch.no_grad(), autocast(job.device, job.precision):
            mask = guard.mask(batch, context)
        whole = turn.images == job.plan.batch  # a rest is one step: not worth compiling
        part = "compilation" if whole and seen[context.grid.hidden] < compiling else "step"
        seen[context.grid.hidden] += whole
        with clock.on(part), autocast(job.device, job.precision):
            outcome = (forward if whole else job.model)(batch.images, mask)
        with clock.on("strategy"), autocast(job.device, job.precision), job.blame("extra_loss"):
            extra = job.strategy.extra_loss(batch, outcome, context)
        with clock.on(part):
            losses = {"the loss": outcome.loss}
            if extra is not None:
                losses["the strategy's loss"] = extra
            told = update(job, losses, context, guard, descend)
        if told:
            with clock.on("strategy"), autocast(job.device, job.precision), job.blame("after_step"):
                logged = job.strategy.after_step(batch, outcome, context)
            line.add(told["the loss"], logged, context)
        del outcome, extra, losses  # no graph of gradients is alive while the next one is recorded
        job.pace.took(turn, context.grid.hidden)
        line.end(guard)
    guard.settle()
    line.write()
    clock.stop()


def _ways(job: Job) -> tuple[Forward, Descend, int]:
    """Of a forward pass, of an update; and how many first steps compile them."""
    if not job.compile:
        return job.model, descent(job.optimizer), 0
    own = compiled(job.model, job.device), updates(job.optimizer, job.device)
    return *own, COMPILING.get(job.device.type, 1)


def update(
    job: Job,
    losses: Mapping[str, Tensor],
    context: Context,
    guard: Guard,
    descend: Descend,
) -> Mapping[str, Tensor]:
    """Backward, and one step of the main optimiser: the losses of the whole batch.

    Args:
        job: The run.
        losses: Of this process's images, by part; their sum is descended.
        context: Of the step.
        guard: Looks at losses and gradients before they reach the weights.
        descend: One step of the optimiser.

    Returns:
        The losses; empty where the step was skipped.

    Raises:
        DivergedError: A number is not finite, and the step may not be skipped.
    """
    total = sum(losses.values(), torch.zeros((), device=job.device))
    total.backward()  # type: ignore[no-untyped-call]
    trained = [p for group in job.optimizer.param_groups for p in group["params"]]
    told = {name: loss.detach().clone() for name, loss in losses.items()}
    context.average([*told.values(), *(p.grad for p in trained if p.grad is not None)])
    if guard.passes(context.step, told, trained):
        descend(context.learning_rate)
    else:
        told = {}
    job.optimizer.zero_grad()
    return told


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
        """A step is sound.

        Args:
            loss: Of the whole batch.
            logged: By the strategy, of this process's images; averaged when it is written.
            context: Of the step.
        """
        self._losses.append(loss)
        self._latest = {k: v.detach() if isinstance(v, Tensor) else v for k, v in logged.items()}
        self._rate, self._images = context.learning_rate, context.images

    def end(self, guard: Guard) -> None:
        """A step is done."""
        if self._job.pace.steps % self._every == 0:
            guard.settle()
            self.write()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on."""
        losses = torch.stack(self._losses) if self._losses else torch.zeros(0)
        own = {"latest": dict(self._latest), "rate": self._rate, "images": self._images}
        return {"losses": losses, **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another run was."""
        self._losses = list(state["losses"].to(self._job.device))
        self._latest, self._rate = state["latest"], state["rate"]
        self._images = state["images"]

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
