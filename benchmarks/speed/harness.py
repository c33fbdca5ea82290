"""What a run adds to its steps: images/s inside ``maskbench run`` against the bare step loop.

    uv run python -m benchmarks.speed.harness [--json] [--quick]

The bare loop is what a user would write: a mask, forward, backward, AdamW, on batches that lie in
memory, augmented before. The run does the same steps through ``runner.run`` with everything it
does: order and augmentation, mask and finiteness checks, keyed randomness, ledger, metrics,
progress, looks at masks, checkpoints. Its rate is that of the run's own clock (as budgets and the
report have it), which stands still while masks are looked at and checkpoints are written; what
stands beside it is said, too.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import show
from benchmarks.speed.timing import wait
from maskbench import runner, seeds
from maskbench.data import augment
from maskbench.events import Silent
from maskbench.mask import Grid, Mask
from maskbench.model import MaskedAutoencoder
from maskbench.optim import adamw, autocast
from maskbench.results import Store
from maskbench.shape import PRESETS
from maskbench.spec import Request

MODEL, BATCH = "micro", 64


def bare(steps: int, device: torch.device, precision: str) -> float:
    """Images per second of the loop that a user would write, on batches in memory."""
    shape = PRESETS[MODEL].shape
    model = MaskedAutoencoder(shape, seeds.generator(0, "init")).to(device)
    optimizer, grid = adamw(model, [], 0.05), Grid(shape.side, shape.side, shape.patches * 3 // 4)
    pixels = torch.rand(16 * BATCH, 3, shape.image, shape.image, device=device)
    images = torch.chunk(augment.normalise(255 * pixels), 16)

    def step(number: int) -> None:
        noise = torch.rand(BATCH, shape.patches, device=device)
        with autocast(device, precision):
            loss = model(images[number % len(images)], Mask.from_scores(noise, grid)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for number in range(5):
        step(number)
    wait(device)
    begun = time.perf_counter()
    for number in range(steps):
        step(number)
    wait(device)
    return BATCH * steps / (time.perf_counter() - begun)


def inside(steps: int, seed: int) -> dict[str, float]:
    """Rates of a run: of its clock, of what it does beside the data, of its whole training."""
    asked = Request(
        strategy="random", budget=f"{steps}step", model=MODEL, batch=BATCH, seed=seed, draws=1
    )
    with tempfile.TemporaryDirectory() as scratch:
        found = runner.run(asked, Store(Path(scratch) / "runs"), Silent())
        seconds = found.record["ledger"]["seconds"]
    images = BATCH * steps
    beside = seconds["paused"] + seconds["checkpoint"]
    return {
        "clock": images / seconds["training"],
        "without_data": images / (seconds["training"] - seconds["data"]),
        "with_looks_and_saving": images / (seconds["training"] + beside),
    }


def measure(quick: bool = False) -> dict[str, Any]:
    """Runs and bare loops in turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = "bf16" if device.type == "cuda" else "fp32"
    steps, rounds = (60, 2) if quick else (150, 3)
    loops, runs = [], []
    for seed in range(rounds):
        loops.append(bare(steps, device, precision))
        runs.append(inside(steps, seed))
    rows = [{"what": "bare loop", "images_per_s": round(statistics.median(loops), 1)}]
    for name in runs[0]:
        ratios = [run[name] / loop for run, loop in zip(runs, loops, strict=True)]
        rows.append(
            {
                "what": f"run: {name.replace('_', ' ')}",
                "images_per_s": round(statistics.median(run[name] for run in runs), 1),
                "to_bare": round(statistics.median(ratios), 3),
                "range": [round(min(ratios), 3), round(max(ratios), 3)],
            }
        )
    return {"model": MODEL, "batch": BATCH, "steps": steps, "rows": rows}


if __name__ == "__main__":
    show.main("harness", measure)
