"""Images per second of every strategy in one process, interleaved, as ratios to random.

    uv run python benchmarks/speed/strategies.py --model micro --batch 128

Each round runs a few training steps (data, mask, model, optimiser, after_step: everything inside
``maskbench.train``) of each strategy in turn, so that a drifting machine hits all of them alike;
medians over rounds are printed, beside the ratio that closed-form FLOPs predict.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch

from maskbench import registry, seeds
from maskbench.budget import Budget, Plan
from maskbench.data.source import Split
from maskbench.job import Job
from maskbench.mask import Grid
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule
from maskbench.shape import PRESETS, step_flops
from maskbench.strategy import MaskStrategy
from maskbench.train import train


def job_of(strategy: MaskStrategy, model: str, batch: int, steps: int) -> Job:
    """A job on random pixels already in memory."""
    shape = PRESETS[model].shape
    count = max(batch * 4, 64)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, shape.image, shape.image, 3), dtype=np.uint8)
    plan = Plan.of(Budget.parse(f"{steps}step"), count, batch)
    net = MaskedAutoencoder(shape, seeds.generator(0, "init"))
    schedule = Schedule.of(PRESETS[model].base_lr, batch, 0.05, steps)
    device = torch.device("cpu")
    split = Split(pixels, None, [str(i) for i in range(count)])
    return Job.of(
        net,
        strategy,
        split,
        plan=plan,
        schedule=schedule,
        grid=Grid(shape.side, shape.side, shape.patches - shape.patches // 4),
        weight_decay=0.05,
        seed=0,
        device=device,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano", choices=sorted(PRESETS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8, help="steps per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = [entry.name for entry in registry.entries()]
    jobs = {
        name: job_of(registry.load(name)(), options.model, options.batch, options.steps)
        for name in names
    }
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            train(job, lambda row: None, lambda step: None)
            seconds[name].append(time.perf_counter() - start)
    shape, grid = jobs["random"].model.shape, jobs["random"].grid
    plain = sum(step_flops(shape, grid.visible).values())
    baseline = statistics.median(seconds["random"][1:])
    rows = []
    for name in names:
        median = statistics.median(seconds[name][1:])
        extra = sum(jobs[name].strategy.cost(grid, shape).values())
        rows.append(
            {
                "strategy": name,
                "images_per_s": round(options.steps * options.batch / median, 1),
                "time_to_random": round(median / baseline, 3),
                "flops_to_random": round((plain + extra) / plain, 3),
                "gflops_per_s": round(
                    (plain + extra) * options.steps * options.batch / median / 1e9, 1
                ),
            }
        )
    facts = {
        "model": options.model,
        "batch": options.batch,
        "rounds": options.rounds,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if options.json:
        print(json.dumps({**facts, "rows": rows}, indent=1))
        return
    print("  ".join(f"{key} {value}" for key, value in facts.items()))
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
