"""From a plan to a job that can start: model, optimiser, feed, strategy, pace."""

from dataclasses import replace

import torch

from maskbench import machine, priors, seeds
from maskbench.calibration import calibrated
from maskbench.clock import Clock
from maskbench.context import Features
from maskbench.errors import StrategyError
from maskbench.events import Progress
from maskbench.forecast import Forecast, forecast, provisional, settle
from maskbench.job import Job, blamed
from maskbench.mask import Grid
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule
from maskbench.plan import Planned
from maskbench.results import Store
from maskbench.shape import step_flops
from maskbench.spec import preset
from maskbench.strategy import said_flops


def prepare(
    planned: Planned, store: Store, progress: Progress, *, forgiving: bool = False
) -> tuple[Job, Forecast]:
    """A job that can start, and what it will take; there is no folder yet.

    Args:
        planned: The run.
        store: Where runs live.
        progress: Told what takes long.
        forgiving: Whether a strategy may fail in the timed steps: it will in its run, which then
            has a folder and is counted. Budgets of seconds need the steps.
    """
    settings = planned.settings
    job = build(planned, store, progress)
    progress.message("timing a few steps on a copy")
    try:
        speed = calibrated(job)
    except StrategyError:
        if not forgiving or planned.budget.kind == "seconds":
            raise
        speed = None
    job = settle(job, speed, settings.base_lr, settings.warmup)
    machine.reset_peak_memory(settings.device)
    return job, forecast(job, speed, store.root, planned.notes)


def build(
    planned: Planned, store: Store, progress: Progress, *, train_images: int | None = None
) -> Job:
    """Model, optimiser, feed and strategy, all from keyed randomness; on the clock.

    Done before there is a folder: a setting that cannot be leaves nothing behind.

    Args:
        planned: The run.
        store: Where runs live.
        progress: Told what takes long.
        train_images: How many the run was trained on, where ``planned`` has other images.
    """
    settings, strategy = planned.settings, planned.strategy
    shape, split = preset(settings.model).shape, planned.images.train
    device = torch.device(settings.device)
    grid = Grid(shape.side, shape.side, settings.hidden)

    def features(kind: str) -> Features:
        """Of all training images."""
        return priors.features(
            kind,
            split,
            side=shape.image,
            device=device,
            progress=progress,
            find_run=store.find,
        )

    def first_step() -> int:
        """FLOPs of one image's first step, asked for before the strategy is set up."""
        with blamed(strategy, "hidden or cost (which must work before setup)"):
            first = replace(grid, hidden=strategy.hidden(0.0, grid))
            own = said_flops(strategy, "cost", strategy.cost(first, shape))
            parts = (step_flops(shape, first.visible), own)
            return sum(sum(part.values()) for part in parts)

    plan = provisional(first_step, planned.budget, train_images or len(split), settings.batch)
    meter = machine.Energy.find(settings.device)
    clock = Clock(joules=meter.joules if meter else None)
    with clock.on("setup"):
        model = MaskedAutoencoder(shape, seeds.generator(settings.seed, "init")).to(device)
        return Job.of(
            model,
            strategy.to(device),
            split,
            features=features,
            plan=plan,
            schedule=Schedule.of(settings.base_lr, settings.batch, settings.warmup, plan.steps),
            grid=grid,
            weight_decay=settings.weight_decay,
            seed=settings.seed,
            device=device,
            precision=settings.precision,
            compile=settings.compile,
            clock=clock,
        )
