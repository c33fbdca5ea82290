"""What a run will take, before it begins: in images, FLOPs, seconds and bytes."""

import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import torch

from maskbench import machine
from maskbench.budget import Budget, Kind, Plan
from maskbench.errors import UsageError
from maskbench.job import Job
from maskbench.masks import IMAGES, MOMENTS, SHOWN
from maskbench.optim import Schedule
from maskbench.pace import FlopPace, Pace, TimePace
from maskbench.train import LOGS_PER_RUN, train

FIRST_BATCH = 16
GROWTH = 8
TIMED = 20
PATIENCE_S = 1.5
"""Seconds that the timed steps of a calibration may take, by what shorter ones promise."""
SAMPLES = 10_000
ROW_BYTES, RECORD_BYTES = 400, 150_000


@dataclass(frozen=True)
class Speed:
    """What a short calibration saw.

    Args:
        image: Seconds per image.
        batch: Images per timed step.
        steps: Timed steps.
        memory: Peak bytes of ``host`` and ``device`` meanwhile.
    """

    image: float
    batch: int
    steps: int
    memory: dict[str, int | None]


@dataclass(frozen=True)
class Forecast:
    """What a budget buys, in all units; ``seconds`` are on the run's clock.

    Args:
        budget: As resolved.
        counts: What it counts: ``images``, ``flops`` or ``seconds``; the rest is expected.
        images: Images seen, with multiplicity.
        steps: Optimiser steps.
        epochs: Passes over the training set.
        flops: None where the strategy does not say what it costs.
        seconds: Setup and training; probes come on top.
        speed: Where the seconds come from.
        disk: Bytes of the run's folder.
        disk_free: Bytes that are free there.
    """

    budget: str
    counts: Kind
    images: int
    steps: int
    epochs: float
    flops: int | None
    seconds: float
    speed: Speed
    disk: int
    disk_free: int


class _Enough(Exception):  # noqa: N818 - not an error
    """The calibration has seen what it needs."""


def calibrate(job: Job) -> Speed:
    """Time a few real steps on copies; the job itself does not notice.

    The batch grows eightfold as long as the next one promises to take little over a second.

    Raises:
        StrategyError: The strategy cannot be copied, or fails.
    """
    machine.reset_peak_memory(job.device.type)
    batch = min(FIRST_BATCH, job.plan.batch)
    trial = job.trial(batch)
    while True:
        image, steps = _time(trial, batch)
        larger = min(batch * GROWTH, job.plan.batch)
        if batch == job.plan.batch or 2 * image * larger > PATIENCE_S:
            return Speed(image, batch, steps, machine.peak_memory())
        batch = larger
        trial = replace(trial, **_resized(trial, batch))


def _resized(trial: Job, batch: int) -> dict[str, Any]:
    plan = trial.plan
    longer = Plan.expecting(plan.budget, plan.train_images, batch, plan.images)
    return {"feed": trial.feed.again(batch), "pace": Pace(longer)}


def _time(trial: Job, batch: int) -> tuple[float, int]:
    """Seconds per image, median over the steps after the first; and how many those were."""
    marks: list[float] = []

    def mark(step: int) -> None:
        if trial.device.type == "cuda":
            torch.cuda.synchronize()
        marks.append(time.perf_counter())
        taken = len(marks) - 2
        if taken >= TIMED or (taken >= 1 and marks[-1] - marks[1] > PATIENCE_S):
            raise _Enough

    with suppress(_Enough):
        train(trial, lambda row: None, mark)
    durations = [after - before for before, after in pairwise(marks[1:])]
    return statistics.median(durations) / batch, len(durations)


def provisional(
    job_flops: Callable[[], int], budget: Budget, train_images: int, batch: int
) -> Plan:
    """A plan to set a strategy up with, before the real one can be known."""
    if budget.kind == "images":
        return Plan.of(budget, train_images, batch)
    images = int(budget.amount) // max(job_flops(), 1) if budget.kind == "flops" else batch
    return Plan.expecting(budget, train_images, batch, images)


def settle(job: Job, speed: Speed | None, base_lr: float, warmup: float) -> Job:
    """The job with its real pace and schedule, now that the strategy is set up and timed.

    Args:
        job: As built.
        speed: What the calibration saw; a budget of seconds needs it.
        base_lr: Learning rate per 256 images.
        warmup: Share of the budget.

    Raises:
        UsageError: The budget is smaller than one step after the setup.
    """
    plan, budget = job.plan, job.plan.budget
    if budget.kind == "images":
        return job
    if budget.kind == "flops":
        expected = _images_for_flops(job)
    else:
        assert speed is not None
        expected = _images_for_seconds(job, speed)
    plan = Plan.expecting(budget, plan.train_images, plan.batch, expected)
    schedule = Schedule.of(base_lr, plan.batch, warmup, plan.steps)
    pace: Pace
    if budget.kind == "flops":
        pace = FlopPace(plan, job.prices())
    else:
        assert speed is not None
        pace = TimePace(plan, job.clock, speed.image * plan.batch, job.device)
    return replace(job, pace=pace, schedule=schedule)


def _images_for_flops(job: Job) -> int:
    prices, batch, budget = job.prices(), job.plan.batch, job.plan.budget
    step = batch * prices.image(prices.hidden(0.0))
    left = int(budget.amount) - prices.beside()
    if left < step:
        need = step + prices.beside()
        before = f" after a setup of {prices.beside():,} FLOPs" if prices.beside() else ""
        raise UsageError(
            f"budget {budget} is less than one step of {batch:,} images, {step:,} FLOPs{before}: "
            f"take at least {need}flop, which is 1step, or a smaller --batch."
        )
    return int(left * _mean(job, lambda flops: 1 / flops) + 1e-6)


def _images_for_seconds(job: Job, speed: Speed) -> int:
    budget, batch = job.plan.budget, job.plan.batch
    step, setup = speed.image * batch, job.clock.seconds
    left = float(budget.amount) - setup
    if left < step:
        raise UsageError(
            f"budget {budget} is less than one step of {batch:,} images, which takes about "
            f"{step:.2g} s here after a setup of {setup:.2g} s: take at least "
            f"{ceil(10 * (setup + step)) / 10:g}s, or a smaller --batch."
        )
    return int(left / (speed.image * _slower(job)))


def _mean(job: Job, form: Callable[[int], float]) -> float:
    """Mean over the budget of a function of one image's FLOPs, which a schedule may change."""
    prices = job.prices()
    count = max(min(job.plan.steps, SAMPLES), 2)
    values = [form(prices.image(prices.hidden(k / (count - 1)))) for k in range(count)]
    return sum(values) / count


def _slower(job: Job) -> float:
    """How much longer a mean step takes than the first, if seconds follow FLOPs."""
    prices = job.prices()
    return _mean(job, float) / prices.image(prices.hidden(0.0))


def forecast(job: Job, speed: Speed, store: Path) -> Forecast:
    """What the settled job will take."""
    plan = job.plan
    if plan.budget.kind == "flops":
        flops = int(plan.budget.amount)
    else:
        flops = round(plan.images * _mean(job, float)) + job.beside()
    if plan.budget.kind == "seconds":
        seconds = float(plan.budget.amount)
    else:
        seconds = job.clock.seconds + speed.image * _slower(job) * plan.images
    free = next(folder for folder in (store, *store.absolute().parents) if folder.is_dir())
    return Forecast(
        budget=str(plan.budget),
        counts=plan.budget.kind,
        images=plan.images,
        steps=plan.steps,
        epochs=plan.epochs,
        flops=flops if job.strategy.says_cost() else None,
        seconds=seconds,
        speed=speed,
        disk=_disk(job),
        disk_free=shutil.disk_usage(free).free,
    )


def _disk(job: Job) -> int:
    """Bytes of the encoder, the masks, the metrics and the record."""
    encoder = sum(v.numel() * v.element_size() for v in job.model.encoder_state().values())
    shape = job.model.shape
    images = min(IMAGES, job.plan.train_images)
    masks = MOMENTS * images * ceil(shape.patches / 8) + SHOWN * 3 * shape.image**2
    return encoder + masks + LOGS_PER_RUN * ROW_BYTES + RECORD_BYTES
