"""What a run will take, before it begins: in images, FLOPs, seconds and bytes."""

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from torch import Tensor

from maskbench import machine
from maskbench.budget import Budget, Kind, Plan
from maskbench.calibration import Speed
from maskbench.checkpoint import KEPT
from maskbench.errors import UsageError
from maskbench.job import Job
from maskbench.masks import IMAGES, MOMENTS
from maskbench.optim import Schedule
from maskbench.pace import FlopPace, Pace, TimePace
from maskbench.probes.task import POOL
from maskbench.shown import SHOWN, shown_side
from maskbench.train import LOGS_PER_RUN

SAMPLES = 10_000
SCALES = ("", "k", "M", "G", "T", "P", "E")
ROW_BYTES, RECORD_BYTES = 400, 600_000
UNTIMED = (
    "the strategy cannot be copied (copy.deepcopy), so no step was timed: time and memory are not "
    "known, and a budget of seconds would be refused."
)


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
        seconds: Setup and training; probes come on top. None where no step could be timed.
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
    seconds: float | None
    speed: Speed | None
    disk: int
    disk_free: int
    warnings: tuple[str, ...] = ()


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
            f"take at least {_readable(need)} (exactly {need}flop), which is 1step"
            f"{_smaller(left // prices.image(prices.hidden(0.0)))}."
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
            f"{ceil(10 * (setup + step)) / 10:g}s{_smaller(int(left / speed.image))}."
        )
    prices = job.prices()
    first = prices.image(prices.hidden(0.0))
    return int(left / speed.image * _mean(job, lambda flops: first / flops))


def _smaller(images: int) -> str:
    """The advice to take a batch of so many images, where there is one."""
    return f", or a smaller --batch (about {images:,})" if images > 0 else ""


def _readable(flops: int) -> str:
    """FLOPs as a budget, rounded up to three digits: ``71.6Mflop``."""
    unit = 10 ** max(len(str(flops)) - 3, 0)
    up = -(-flops // unit) * unit
    scale = min((len(str(up)) - 1) // 3, len(SCALES) - 1)
    return f"{up / 1000**scale:g}{SCALES[scale]}flop"


def _mean(job: Job, form: Callable[[int], float]) -> float:
    """Mean over the budget of a function of one image's FLOPs, which a schedule may change.

    Over images it is their sum; over FLOPs or seconds, that of ``1 / flops`` is images.
    """
    prices, steps = job.prices(), job.plan.steps
    count = SAMPLES if job.plan.budget.kind == "seconds" else max(min(steps, SAMPLES), 2)
    values = [form(prices.image(prices.hidden(k / (count - 1)))) for k in range(count)]
    return sum(values) / count


def _slower(job: Job) -> float:
    """How much longer a mean step takes than the first, if seconds follow FLOPs."""
    prices = job.prices()
    return _mean(job, float) / prices.image(prices.hidden(0.0))


def forecast(job: Job, speed: Speed | None, store: Path, notes: tuple[str, ...] = ()) -> Forecast:
    """What the settled job will take.

    Args:
        job: Settled.
        speed: What the calibration saw, if there was one.
        store: Where its folder will be.
        notes: Warnings that are known already.
    """
    plan = job.plan
    if plan.budget.kind == "flops":
        flops = int(plan.budget.amount)
    elif plan.budget.kind == "seconds":
        flops = round(plan.images / _mean(job, lambda image: 1 / image)) + job.beside()
    else:
        flops = round(plan.images * _mean(job, float)) + job.beside()
    seconds = None
    if plan.budget.kind == "seconds":
        seconds = float(plan.budget.amount)
    elif speed:
        seconds = job.clock.seconds + speed.image * _slower(job) * plan.images
    else:
        notes = (*notes, UNTIMED)
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
    load, cores = machine.LOAD_BEFORE or 0.0, os.cpu_count() or 1
    if budget.kind == "seconds" and load > cores / 2:
        found.append(
            f"the load was {load:g} on {cores} cores when this began (mean over a minute): other "
            "work takes from a budget of seconds; compare only runs that had the machine to "
            "themselves."
        )
    if budget.kind == "seconds" and machine.on_battery():
        found.append("on battery, a budget of seconds buys less than it would plugged in.")
    if disk > disk_free:
        found.append(f"the run's folder needs {disk:,} bytes and {disk_free:,} are free.")
    return found


def _disk(job: Job) -> int:
    """Bytes of checkpoints, encoder, moments, masks, features, metrics and record."""
    encoder = _bytes(job.model.encoder_state().values())
    weights = _bytes([*job.model.parameters(), *job.strategy.parameters()])
    buffers = _bytes([*job.model.buffers(), *job.strategy.buffers()])
    checkpoint = 3 * weights + buffers  # an optimiser keeps two numbers per weight
    shape = job.model.shape
    images = min(IMAGES, job.plan.train_images)
    painted = MOMENTS * shown_side(shape.image, shape.side) ** 2
    shown = SHOWN * 3 * (shape.image**2 + painted)
    masks = 2 * MOMENTS * images * (ceil(shape.patches / 8) + 4) + shown
    nets = _bytes(job.strategy.parameters())  # kept with what their own optimiser knows
    moments = MOMENTS * (_bytes(job.model.state_dict().values()) + 3 * nets + buffers)
    pool = min(POOL, job.plan.train_images)
    features = 4 * 2 * pool * shape.width * (shape.depth + 1)  # test images: as many, at most
    own = encoder + moments + masks + features + LOGS_PER_RUN * ROW_BYTES + RECORD_BYTES
    return own + (KEPT + 1) * (checkpoint + masks)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
