"""What a run adds to its steps: images/s inside ``maskbench run`` against the bare step loop.

    uv run python -m benchmarks.speed.harness [--json] [--quick]

The bare loop is what a user would write: a mask, forward, backward, AdamW, on batches that lie in
memory, augmented before. The run does the same steps through ``runner.run`` with everything it
does: order and augmentation, mask and finiteness checks, keyed randomness, ledger, metrics,
progress, looks at masks, checkpoints. The two take turns, a few steps each: whenever the run writes
a line of metrics, the bare loop does as many steps as the run has done since the last line. Medians
are over such pairs, so that the few in which masks are looked at do not count (they are not on the
run's clock either); in the last row they do.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import show
from benchmarks.speed.timing import Times, wait
from maskbench import runner, seeds
from maskbench.data import augment
from maskbench.events import Silent
from maskbench.mask import Grid, Mask
from maskbench.model import MaskedAutoencoder
from maskbench.optim import adamw, autocast
from maskbench.results import Store
from maskbench.shape import PRESETS
from maskbench.spec import Request
from maskbench.train import LOGS_PER_RUN

MODEL, BATCH = "micro", 64
WARM = 5
"""Pairs that do not count."""


def bare(device: torch.device, precision: str) -> Callable[[], None]:
    """A step of the loop that a user would write, on batches in memory."""
    shape = PRESETS[MODEL].shape
    model = MaskedAutoencoder(shape, seeds.generator(0, "init")).to(device)
    optimizer, grid = adamw(model, [], 0.05), Grid(shape.side, shape.side, shape.patches * 3 // 4)
    pixels = torch.rand(16 * BATCH, 3, shape.image, shape.image, device=device)
    batches = torch.chunk(augment.normalise(255 * pixels), 16)
    turns = iter(range(10**9))

    def step() -> None:
        noise = torch.rand(BATCH, shape.patches, device=device)
        with autocast(device, precision):
            loss = model(batches[next(turns) % 16], Mask.from_scores(noise, grid)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


class InTurn(Silent):
    """Watches a run, and does something else whenever it has written a line.

    Args:
        step: A step of something else.
        steps: How many per line.
        device: Is waited for.
    """

    def __init__(self, step: Callable[[], None], steps: int, device: torch.device) -> None:
        self._step, self._steps, self._device = step, steps, device
        self._since = 0.0
        self.run: list[float] = []
        self.bare: list[float] = []

    def advance(self, done: int, **numbers: float) -> None:
        """A line of training was written, or something else is watched."""
        if "loss" not in numbers:
            return
        begun = time.perf_counter()
        for _ in range(self._steps):
            self._step()
        wait(self._device)
        now = time.perf_counter()
        if self._since:
            self.run.append(begun - self._since)
            self.bare.append(now - begun)
        self._since = now


def measure(quick: bool = False) -> dict[str, Any]:
    """A run and a bare loop in turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    per_line = 1 if quick else 3
    steps = 60 if quick else per_line * LOGS_PER_RUN
    turn = InTurn(bare(device, "bf16" if device.type == "cuda" else "fp32"), per_line, device)
    asked = Request(strategy="random", budget=f"{steps}step", model=MODEL, batch=BATCH, draws=1)
    with tempfile.TemporaryDirectory() as scratch:
        found = runner.run(asked, Store(Path(scratch) / "runs"), turn)
        data = found.record["ledger"]["seconds"]["data"] / steps * per_line
    run, loop = turn.run[WARM:], turn.bare[WARM:]
    beside = Times(tuple(loop))
    rows = [{"what": "bare loop", "images_per_s": round(BATCH * per_line / beside.median, 1)}]
    for name, taken in (("run", run), ("run: without data", [each - data for each in run])):
        low, middle, high = statistics.quantiles(
            [there / here for here, there in zip(taken, loop, strict=True)], n=4
        )
        rows.append(
            {
                "what": name,
                "images_per_s": round(BATCH * per_line / statistics.median(taken), 1),
                "to_bare": round(middle, 3),
                "middle_half": [round(low, 3), round(high, 3)],
            }
        )
    whole = round(sum(loop) / sum(run), 3)
    rows.append({"what": "run: with looks and saving", "to_bare": whole})
    return {"model": MODEL, "batch": BATCH, "steps": steps, "per_line": per_line, "rows": rows}


if __name__ == "__main__":
    show.main("harness", measure)
