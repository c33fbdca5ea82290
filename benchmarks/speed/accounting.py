"""What counting costs: clock, pace, schedules and log lines, as a share of a training step.

    uv run python benchmarks/speed/accounting.py --model nano --steps 200

Times a plain training loop and the same steps inside ``train`` with a ledger that is read at every
line, interleaved, and prints medians in milliseconds per step and their ratio; then the accounting
calls alone, which is what is left of that ratio on a quiet machine.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch

from maskbench.contract import make_job
from maskbench.job import Job
from maskbench.ledger import Ledger
from maskbench.shape import PRESETS
from maskbench.train import train


def made(model: str, batch: int, steps: int) -> Job:
    """A job on noise at a preset's size; the budget is long, so that lines are rare as in a run."""
    shape = PRESETS[model].shape
    hidden = shape.patches * 3 // 4
    return make_job(
        "random", shape=shape, batch=batch, images=max(64, batch), hidden=hidden,
        budget=f"{40 * steps}step",
    )  # fmt: skip


def bare(job: Job, steps: range) -> float:
    """Seconds per step of the same work with nothing counted."""
    begun = time.perf_counter()
    for step in steps:
        context = job.context(step)
        batch = job.batch(step)
        with torch.no_grad():
            mask = job.mask(batch, context)
        job.model(batch.images, mask).loss.backward()
        for group in job.optimizer.param_groups:
            group["lr"] = context.learning_rate
        job.optimizer.step()
        job.optimizer.zero_grad()
    return (time.perf_counter() - begun) / len(steps)


def counted(job: Job, steps: range) -> float:
    """Seconds per step inside ``train``, lines and ledger included."""
    ledger = Ledger(job)
    lines: list[Any] = []

    def log(row: Mapping[str, Any]) -> None:
        lines.append({**row, **ledger.now()})

    begun = time.perf_counter()
    train(job, log, lambda step: None, steps=steps)
    return (time.perf_counter() - begun) / len(steps)


def alone(job: Job, times: int) -> float:
    """Seconds of the accounting calls of one step, without any work between them."""
    job = copy.copy(job)
    begun = time.perf_counter()
    for step in range(times):
        turn = job.turn(step)
        for part in ("data", "strategy", "step", "strategy", "step", "strategy"):
            with job.clock.on(part):
                pass
        job.pace.took(turn, 12)
    return (time.perf_counter() - begun) / times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano", choices=sorted(PRESETS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    jobs = {form: made(given.model, given.batch, given.steps) for form in (bare, counted)}
    seen: dict[str, list[float]] = {form.__name__: [] for form in jobs}
    for number in range(given.rounds + 1):
        steps = range(number * given.steps, (number + 1) * given.steps)
        for form, job in jobs.items():
            seconds = form(job, steps)
            if number:  # the first round warms up
                seen[form.__name__].append(1000 * seconds)
    step = {name: statistics.median(values) for name, values in seen.items()}
    calls = 1000 * alone(made(given.model, given.batch, given.steps), 5000)
    print(
        json.dumps(
            {
                "model": given.model,
                "batch": given.batch,
                "ms_per_step": step,
                "counted_over_bare": step["counted"] / step["bare"],
                "accounting_ms": calls,
                "accounting_share_of_step": calls / step["bare"],
                "rounds": seen,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
