"""Time of every strategy relative to ``random``, beside what closed-form FLOPs predict.

    uv run python -m benchmarks.speed.strategies [--json] [--quick]

Each round runs a few whole training steps (data, mask, model, optimiser, ``after_step``: all that
is inside ``maskbench.train``) of ``random`` and of another strategy in turn, on pixels in memory.
Two jobs exist at a time: all of them at ViT-B would not fit into the memory of a small machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.speed import show
from benchmarks.speed.contenders import BASE, SMALL, Setting
from benchmarks.speed.timing import interleaved
from maskbench import registry, seeds
from maskbench.budget import Budget, Plan
from maskbench.contract.jobs import pixel_features
from maskbench.data.source import Split
from maskbench.job import Job
from maskbench.machine import keep_memory
from maskbench.mask import Grid
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule
from maskbench.shape import PRESETS, ModelShape
from maskbench.strategy import MaskStrategy
from maskbench.train import LOGS_PER_RUN, train

SETTINGS = {
    "micro": Setting("micro", PRESETS["micro"].shape, 64, 2),
    "small": replace(SMALL, steps=1),
    "vit_base": replace(BASE, batch=4),
}
RANDOM = "random"
CLMAE = (RANDOM, "clmae", "clmae-fast")


def split_of(images: int, side: int) -> Split:
    """Random pixels in memory."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, side, side, 3), dtype=np.uint8)
    return Split(pixels, None, [str(i) for i in range(images)])


def job_of(strategy: MaskStrategy, shape: ModelShape, batch: int, device: torch.device) -> Job:
    """A job on random pixels in memory that logs every tenth step."""
    split = split_of(max(batch * 4, 64), shape.image)
    plan = Plan.of(Budget.parse(f"{10 * LOGS_PER_RUN}step"), len(split), batch)
    return Job.of(
        MaskedAutoencoder(shape, seeds.generator(0, "init")).to(device),
        strategy.to(device),
        split,
        plan=plan,
        schedule=Schedule.of(1e-4, batch, 0.05, plan.steps),
        grid=Grid(shape.side, shape.side, shape.patches - shape.patches // 4),
        weight_decay=0.05,
        seed=0,
        device=device,
        precision="bf16" if device.type == "cuda" else "fp32",
        features=pixel_features(split),
    )


def steps_of(job: Job, steps: int) -> None:
    """So many steps from the middle of a job's budget."""
    first = job.plan.steps // 2
    train(job, lambda row: None, lambda step: None, steps=range(first, first + steps))


def _flops(job: Job) -> int:
    """Closed form, of one image's step in the middle of the budget."""
    return sum(job.flops(job.context(job.plan.steps // 2).grid.hidden).values())


def one(
    model: str,
    rounds: int,
    device: torch.device,
    names: Sequence[str],
    each: Callable[[dict[str, Any]], object] = show.tell,
) -> list[dict[str, Any]]:
    """Rows of one model, a strategy each; ``random`` comes first.

    Args:
        model: A setting's name.
        rounds: How often a strategy and ``random`` take turns.
        device: Where.
        names: Strategies.
        each: Is given every row as soon as it is known.
    """
    setting = SETTINGS[model]
    if device.type == "cuda":
        setting = replace(setting, batch=16 * setting.batch, steps=4)
    images, base = setting.steps * setting.batch, _job(setting, RANDOM, device)
    rows: list[dict[str, Any]] = []
    for name in names:
        job = base if name == RANDOM else _job(setting, name, device)
        work = {
            key: partial(steps_of, each, setting.steps)
            for key, each in ((RANDOM, base), (name, job))
        }
        times = interleaved(work, rounds, device)
        predicted = _flops(job) / _flops(base)
        ratio, low, high = times[name].over(times[RANDOM])
        rows.append(
            {
                "model": model,
                "strategy": name,
                "images_per_s": round(images / times[name].median, 1),
                "time_to_random": round(ratio, 3),
                "range": [round(low, 3), round(high, 3)],
                "flops_to_random": round(predicted, 3),
                "time_over_flops": round(ratio / predicted, 3),
            }
        )
        each(rows[-1])
    return rows


def _job(setting: Setting, name: str, device: torch.device) -> Job:
    return job_of(registry.load(name)(), setting.shape, setting.batch, device)


def measure(
    quick: bool = False,
    only: str | None = None,
    so_far: Callable[[show.Found], object] = show.nothing,
) -> dict[str, Any]:
    """All settings; the micro one alone where it is to be quick.

    Args:
        quick: Fewer rounds and settings.
        only: A setting's name.
        so_far: Is given what is known after every strategy.
    """
    keep_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = sorted((entry.name for entry in registry.entries()), key=lambda name: name != RANDOM)
    plans: dict[str, tuple[str, int, Sequence[str]]]
    plans = {"micro": ("micro", 3 if quick else 7, names)}
    if not quick:
        plans |= {"small": ("small", 5, CLMAE), "vit_base": ("vit_base", 2, names)}
    scale = 16 if device.type == "cuda" else 1
    found: dict[str, Any] = {"device": str(device), "batches": {}, "rows": []}

    def each(row: dict[str, Any]) -> None:
        show.tell(row)
        found["rows"].append(row)
        so_far(found)

    for model, rounds, of in show.picked(plans, only):
        found["batches"][model] = scale * SETTINGS[model].batch
        one(model, rounds, device, of, each)
    return found


if __name__ == "__main__":
    show.main("strategies", measure)
