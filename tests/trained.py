"""A small autoencoder trained on a few scenes, shared by tests of what learned masks do."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch

from maskbench import registry, seeds
from maskbench.budget import Budget, Plan
from maskbench.context import Batch, Context
from maskbench.data.scenes import generate
from maskbench.data.source import Split
from maskbench.job import Job
from maskbench.mask import Grid, Mask
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule
from maskbench.shape import ModelShape
from maskbench.train import train

SHAPE = ModelShape(32, 4, 48, 2, 4, 32, 1, 4)
IMAGES = 256


@cache
def scenes() -> Split:
    drawn = generate(IMAGES, "train")
    return Split(drawn.images, None, [f"train/{i}" for i in range(IMAGES)])


def scenes_job(name: str, *, budget: str, model: Any = None, **settings: Any) -> Job:
    cls = registry.load(name)
    plan = Plan.of(Budget.parse(budget), IMAGES, 32)
    return Job.of(
        model or MaskedAutoencoder(SHAPE, seeds.generator(0, "init")),
        cls(cls.Settings(**settings)),
        scenes(),
        plan=plan,
        schedule=Schedule.of(4e-2, 32, 0.05, plan.steps),
        grid=Grid(8, 8, 48),
        weight_decay=0.05,
        seed=0,
        device=torch.device("cpu"),
    )


@cache
def fixed_model() -> MaskedAutoencoder:
    """An autoencoder after 200 steps of random masks."""
    job = scenes_job("random", budget="200step")
    with torch.enable_grad():
        train(job, lambda row: None, lambda step: None)
    return job.model


def gap(job: Job, batch: Batch, context: Context) -> float:
    """Loss under the strategy's masks over loss under random masks, minus one."""
    view = context.model
    own = view.patch_loss(batch.images, job.strategy.mask(batch, context)).mean()
    draws = [
        view.patch_loss(
            batch.images, Mask.from_scores(context.uniform(f"draw {k}", batch), context.grid)
        ).mean()
        for k in range(8)
    ]
    return float(own / torch.stack(draws).mean() - 1)


@torch.no_grad()
def gap_after(name: str, steps: int, **settings: Any) -> float:
    """Difficulty gap after training only the strategy, on one batch and a fixed autoencoder."""
    job = scenes_job(name, budget="2000step", model=fixed_model(), **settings)
    batch = job.batch(0)
    middle = job.context(1000)
    for step in range(steps):
        context = replace(middle, step=step, learning_rate=3e-3, peak_learning_rate=3e-3)
        outcome = job.model(batch.images, job.strategy.mask(batch, context))
        with torch.enable_grad():
            job.strategy.after_step(batch, outcome, context)
    return sum(gap(job, batch, replace(middle, step=steps + k)) for k in range(4)) / 4
