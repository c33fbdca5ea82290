"""What a run will take, before it begins: in images, FLOPs, seconds and bytes."""

import os
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

from maskbench import machine, team
from maskbench.budget import Budget, Kind, Plan
from maskbench.errors import UsageError
from maskbench.job import Job
from maskbench.masks import IMAGES, MOMENTS, SHOWN
from maskbench.optim import Schedule
from maskbench.pace import FlopPace, Pace, TimePace
from maskbench.train import LOGS_PER_RUN, train

FIRST_BATCH = 16
GROWTH = 8
TIMED = 6
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
        warnings: What may spoil the run or its numbers, in sentences.
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
    warnings: tuple[str, ...] = ()


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
        enough = taken >= TIMED or (taken >= 1 and marks[-1] - marks[1] > PATIENCE_S)
        if team.agree(enough, seconds=team.LONG_S) == (1,):
            raise _Enough

    with suppress(_Enough):
        train(trial, lambda row: None, mark)
    durations = [after - before for before, after in pairwise(marks[1:])]
    (image,) = team.of_first([statistics.median(durations) / batch], team.LONG_S)
    return image, len(durations)


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
    budget = job.plan.budget
    if budget.kind == "images":
        return job
    if budget.kind == "flops":
        return resettle(job, _images_for_flops(job), base_lr, warmup)
    assert speed is not None
    expected, step = _images_for_seconds(job, speed), speed.image * job.plan.batch
    return resettle(job, expected, base_lr, warmup, step_seconds=step)


def resettle(
    job: Job, images: int, base_lr: float, warmup: float, *, step_seconds: float = 0.0
) -> Job:
    """The job with the pace and schedule of a known plan, such as a resumed run's.

    Args:
        job: As built.
        images: What the budget was expected to buy.
        base_lr: Learning rate per 256 images.
        warmup: Share of the budget.
        step_seconds: How long a step should take; a resumed pace knows better.
    """
    plan, budget = job.plan, job.plan.budget
    if budget.kind == "images":
        return job
    plan = Plan.expecting(budget, plan.train_images, plan.batch, images)
    schedule = Schedule.of(base_lr, plan.batch, warmup, plan.steps)
    pace: Pace
    if budget.kind == "flops":
        pace = FlopPace(plan, job.prices())
    else:
        pace = TimePace(plan, job.clock, step_seconds, job.device)
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


def forecast(job: Job, speed: Speed, store: Path, notes: tuple[str, ...] = ()) -> Forecast:
    """What the settled job will take.

    Args:
        job: Settled.
        speed: What the calibration saw.
        store: Where its folder will be.
        notes: Warnings that are known already.
    """
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
    disk = _disk(job)
    return Forecast(
        budget=str(plan.budget),
        counts=plan.budget.kind,
        images=plan.images,
        steps=plan.steps,
        epochs=plan.epochs,
        flops=flops if job.strategy.says_cost() else None,
        seconds=seconds,
        speed=speed,
        disk=disk,
        disk_free=shutil.disk_usage(free).free,
        warnings=(*notes, *_warnings(plan.budget, disk, shutil.disk_usage(free).free)),
    )


def _warnings(budget: Budget, disk: int, disk_free: int) -> list[str]:
    """What may spoil the run or its numbers here and now."""
    found = []
    load, cores = machine.load() or 0.0, os.cpu_count() or 1
    if budget.kind == "seconds" and load > cores / 2:
        found.append(
            f"the load is {load:g} on {cores} cores: whoever else works here takes from a budget "
            "of seconds; compare only runs that had the machine to themselves."
        )
    if budget.kind == "seconds" and machine.on_battery():
        found.append("on battery, a budget of seconds buys less than it would plugged in.")
    if disk > disk_free:
        found.append(f"the run's folder needs {disk:,} bytes and {disk_free:,} are free.")
    return found


def _disk(job: Job) -> int:
    """Bytes of the encoder, the masks, the metrics and the record."""
    encoder = sum(v.numel() * v.element_size() for v in job.model.encoder_state().values())
    shape = job.model.shape
    images = min(IMAGES, job.plan.train_images)
    masks = MOMENTS * images * ceil(shape.patches / 8) + SHOWN * 3 * shape.image**2
    return encoder + masks + LOGS_PER_RUN * ROW_BYTES + RECORD_BYTES
