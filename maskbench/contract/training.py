"""Clauses on orders and on short trainings: they run, repeat, and resume."""

import io
import math
from typing import Any

import torch
from torch import Tensor

from maskbench.checkpoint import parse
from maskbench.contract.clause import Broken
from maskbench.contract.compare import difference, leaves, snapshot
from maskbench.contract.subject import STEPS, Subject, mask_of, run
from maskbench.errors import StrategyError
from maskbench.job import Job

STOPPED = 3
"""The third step lies in the middle of the first epoch (of five)."""


def order(subject: Subject) -> None:
    """Orders are valid, keyed, and new in every epoch."""
    first, second = (_order(subject.job(), epoch) for epoch in (0, 1))
    found = difference(first, _order(subject.job(), 0))
    if found:
        raise Broken("the same order for the same seed and epoch", f"the order{found}")
    if torch.equal(first, second):
        raise Broken("another order in another epoch", "epochs 0 and 1 show the same order")
    if torch.equal(first, _order(subject.job(seed=1), 0)):
        raise Broken("another order for another seed", "seeds 0 and 1 show the same order")


def _order(job: Job, epoch: int) -> Tensor:
    try:
        return job.order(epoch)
    except StrategyError as error:
        count = job.plan.train_images
        cause = error.__cause__ or error
        raise Broken(
            f"order to return {count} int64 positions in 0..{count - 1}",
            f"{type(cause).__name__}: {cause}",
        ) from error


def trains(subject: Subject) -> None:
    """A short training runs and logs finite numbers."""
    rows = subject.ended.rows
    for row in rows:
        for name, value in row.items():
            if not math.isfinite(value):
                raise Broken(f"{name} to be finite", f"{value} at step {row['step']}")


def repeatable(subject: Subject) -> None:
    """Two runs with one seed end bit-identical."""
    job = subject.job()
    run(job)
    found = difference(subject.ended.state, snapshot(job))
    if found:
        raise Broken("two runs with one seed to end bit-identical", found)


def resume(subject: Subject) -> None:
    """A run that is resumed ends as if it had never stopped."""
    stopped, resumed = subject.job(), subject.job()
    run(stopped, steps=range(STOPPED))
    with resumed.blame("load_state_dict (of what state_dict gave)"):
        state = _through_a_file(
            {
                "strategy": stopped.strategy.state_dict(),
                "model": stopped.model.state_dict(),
                "optimizer": stopped.optimizer.state_dict(),
                "feed": stopped.feed.state_dict(),
                "pace": stopped.pace.state_dict(),
            }
        )
        resumed.strategy.load_state_dict(state["strategy"])
    resumed.model.load_state_dict(state["model"])
    resumed.optimizer.load_state_dict(state["optimizer"])
    resumed.feed.load_state_dict(state["feed"])
    resumed.pace.load_state_dict(state["pace"])
    run(resumed, steps=range(STOPPED, STEPS))
    ended = subject.ended
    expected = f"the same end whether or not the run stops after {STOPPED} of {STEPS} steps (all "
    expected += "that changes belongs into the state dict)"
    found = difference(ended.state, snapshot(resumed))
    if found:
        raise Broken(expected, found)
    found = difference(ended.masks, mask_of(resumed, STEPS - 1, subject.probe).hidden)
    if found:
        raise Broken(expected, f"the mask of the probe images{found}")


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    return parse(file.getvalue())


def one_image(subject: Subject) -> None:
    """A short training runs with one image per step."""
    run(subject.job(batch=1, budget="4step"))


def bfloat16(subject: Subject) -> None:
    """A short training stays finite in bfloat16."""
    job = subject.job(precision="bf16", budget="4step")
    run(job)
    for name, value in leaves(snapshot(job)).items():
        if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
            raise Broken("finite values under bfloat16 autocast", f"{name} is not finite")
