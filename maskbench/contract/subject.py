"""The strategy that is judged, and the short training that many clauses look at."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from maskbench import registry
from maskbench.contract.compare import leaves, snapshot
from maskbench.contract.jobs import SMALL, make_job
from maskbench.job import Job
from maskbench.mask import Mask
from maskbench.shape import ModelShape
from maskbench.strategy import Batch, MaskStrategy
from maskbench.train import Moment, train

if TYPE_CHECKING:
    from maskbench.contract.replicas import Pair

STEPS = 7
"""Steps of the short training: 40 images in batches of 8, so the epoch changes after the fifth."""
PROBED = 32

Findings = dict[str, tuple[str, str]]
"""Clause to what was expected and seen."""
Watch = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """A short training that is over.

    Args:
        job: As it was left.
        state: Copies of the model's values and the strategy's state.
        masks: Of the probe images at the last step, bool, (images, patches).
        touched: Global random streams that moved meanwhile.
        rows: What was logged.
    """

    job: Job
    state: dict[str, Any]
    masks: Tensor
    touched: list[str]
    rows: list[Mapping[str, Any]]


class Subject:
    """A strategy under judgement; remembers what several clauses need.

    Args:
        name: What ``--strategy`` takes.

    Raises:
        MaskbenchError: There is no such strategy, or its file cannot be imported.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.cls = registry.load(name)
        self.pair: Pair | None = None
        self.findings: Findings | None = None

    def job(self, **changes: Any) -> Job:
        """A fresh tiny job; ``changes`` are those of ``make_job``."""
        return make_job(self.cls(), **{"budget": f"{STEPS}step", **changes})

    @property
    def probe(self) -> Batch:
        """Images that no strategy has chosen (a copy)."""
        return copied(neutral(SMALL, PROBED, "cpu"))

    @cached_property
    def ended(self) -> Ended:
        """The short training with seed 0, run once."""
        before = global_streams()
        job = self.job()
        rows: list[Mapping[str, Any]] = []
        run(job, log=rows.append)
        after = global_streams()
        touched = [name for name, state in before.items() if state != after[name]]
        state = snapshot(job)
        return Ended(job, state, mask_of(job, STEPS - 1, self.probe).hidden, touched, rows)


@cache
def neutral(shape: ModelShape, images: int, device: str) -> Batch:
    """A batch in the order of nobody; whoever may spoil it takes a copy."""
    return make_job(Plain(), shape=shape, batch=images, hidden=1, device=device).batch(0)


class Plain(MaskStrategy):
    """Decides nothing."""


def global_streams() -> dict[str, bytes]:
    """The state of every global random generator."""
    states: dict[str, Any] = {
        "torch's CPU generator": torch.random.get_rng_state(),
        "numpy's generator": np.random.get_state(),  # noqa: NPY002 - watched, not used
        "Python's random": random.getstate(),
    }
    if torch.cuda.is_available():
        states["torch's CUDA generators"] = torch.cuda.get_rng_state_all()
    return {name: _bytes(state) for name, state in states.items()}


def _bytes(state: Any) -> bytes:
    parts = leaves(state).values()
    arrays = [p.numpy() if isinstance(p, Tensor) else np.asarray(p) for p in parts]
    return b"|".join(str(array.tolist()).encode() for array in arrays)


def run(
    job: Job,
    *,
    moment: Moment = lambda step: None,
    log: Callable[[Mapping[str, Any]], None] = lambda row: None,
    steps: range | None = None,
) -> None:
    """The real training loop, unwatched unless one asks."""
    train(job, log, moment, steps=steps)


def copied(batch: Batch) -> Batch:
    """A batch that may be spoilt."""
    return replace(
        batch,
        images=batch.images.clone(),
        positions=batch.positions.clone(),
        boxes=batch.boxes.clone(),
    )


def mask_of(job: Job, step: int, batch: Batch, purpose: str = "train") -> Mask:
    """A strategy's checked mask of (a copy of) a batch."""
    with torch.no_grad():
        return job.mask(copied(batch), job.context(step, purpose))


def rehearse(job: Job, step: int, batch: Batch, watch: Watch = lambda call: None) -> None:
    """One step of the loop, with somebody who looks after every call of the strategy.

    Args:
        job: Is trained by one step.
        step: Which.
        batch: The step's images.
        watch: Told ``mask``, ``extra_loss``, ``main step`` or ``after_step`` when it is over.
    """
    context = job.context(step)
    with torch.no_grad():
        mask = job.mask(batch, context)
    watch("mask")
    outcome = job.model(batch.images, mask)
    with job.blame("extra_loss"):
        extra = job.strategy.extra_loss(batch, outcome, context)
    watch("extra_loss")
    (outcome.loss if extra is None else outcome.loss + extra).backward()
    for group in job.optimizer.param_groups:
        group["lr"] = context.learning_rate
    job.optimizer.step()
    job.optimizer.zero_grad()
    watch("main step")
    with job.blame("after_step"):
        job.strategy.after_step(batch, outcome, context)
    watch("after_step")
