"""How long a step takes: a few real ones, timed on copies before a run begins."""

import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from maskbench import machine, team
from maskbench.budget import Plan
from maskbench.errors import StrategyError
from maskbench.guard import Guard
from maskbench.job import Job
from maskbench.pace import Pace
from maskbench.train import COMPILING, train

FIRST_BATCH = 16
GROWTH = 8
TIMED = 6
PATIENCE_S = 1.5
"""Seconds that the timed steps of a calibration may take, by what shorter ones promise."""


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


class _Enough(Exception):  # noqa: N818 - not an error
    """The calibration has seen what it needs."""


def calibrated(job: Job) -> Speed | None:
    """``calibrate``; nothing where the strategy cannot be copied and the budget needs no time.

    Raises:
        StrategyError: The strategy fails, or cannot be copied under a budget of seconds.
    """
    batch = min(FIRST_BATCH, job.plan.batch)
    try:
        trial = job.trial(batch)
    except StrategyError:
        if job.plan.budget.kind == "seconds":
            raise
        return None
    return calibrate(trial, job.plan.batch)


def calibrate(trial: Job, largest: int) -> Speed:
    """Time a few real steps of a copy; the job itself does not notice.

    The batch grows eightfold as long as the next one promises to take little over a second. Only
    the last one is compiled, and what was compiled is forgotten: the run compiles for itself, on
    its own clock, and for shapes of its own.

    Args:
        trial: From ``Job.trial``.
        largest: Images of the job's batch.

    Raises:
        StrategyError: The strategy fails.
    """
    machine.reset_peak_memory(trial.device.type)
    batch, compiles = trial.plan.batch, trial.compile
    trial = replace(trial, compile=False)
    while True:
        image, steps = _time(trial, batch)
        larger = min(batch * GROWTH, largest)
        if batch == largest or 2 * image * larger > PATIENCE_S:
            break
        batch = larger
        trial = replace(trial, **_resized(trial, batch))
    if compiles:
        image, steps = _time(replace(trial, compile=True, **_resized(trial, batch)), batch)
        torch.compiler.reset()
    return Speed(image, batch, steps, machine.peak_memory(trial.device.type))


def _resized(trial: Job, batch: int) -> dict[str, Any]:
    plan = trial.plan
    longer = Plan.expecting(plan.budget, plan.train_images, batch, plan.images)
    return {"feed": trial.feed.again(batch), "pace": Pace(longer)}


def _time(trial: Job, batch: int) -> tuple[float, int]:
    """Seconds per image, median over the steps after the first; and how many those were.

    On a GPU the first steps of a compiled run, which record its graphs, do not count either.
    """
    marks: list[float] = []
    first = COMPILING.get(trial.device.type, 1) if trial.compile else 1

    def mark(step: int) -> None:
        if trial.device.type == "cuda":
            torch.cuda.synchronize()
        marks.append(time.perf_counter())
        taken = len(marks) - 1 - first
        enough = taken >= TIMED or (taken >= 1 and marks[-1] - marks[first] > PATIENCE_S)
        if team.agree(enough, seconds=team.LONG_S) == (1,):
            raise _Enough

    with suppress(_Enough):
        train(trial, lambda row: None, mark, guard=Guard(trial, tolerated=10**9))
    durations = [after - before for before, after in pairwise(marks[first:])]
    (image,) = team.of_first([statistics.median(durations) / batch], team.LONG_S)
    return image, len(durations)
