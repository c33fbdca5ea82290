"""Whether a run's own work grows with the data: time per image at 10^3 to 10^6 images, and memory.

    uv run python -m benchmarks.speed.growth [--json] [--quick]

No images are needed: the order of an epoch, the curriculum's bisection and draws, the batches'
positions and crops, and what a checkpoint holds of them, are all that depends on how many there
are. Each size is a process of its own, whose peak memory is measured beside that of the smallest.
"""

import time
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks.speed import show
from benchmarks.speed.contenders import Inputs, Setting, stepping
from benchmarks.speed.timing import interleaved
from maskbench import registry, seeds
from maskbench.budget import Budget, Plan
from maskbench.context import Features
from maskbench.data.source import Split
from maskbench.job import Job
from maskbench.machine import peak_memory
from maskbench.mask import Grid, Mask
from maskbench.model import MaskedAutoencoder, Outcome
from maskbench.optim import Schedule
from maskbench.priors import COMPONENTS
from maskbench.shape import PRESETS, ModelShape

SIZES = (10**3, 10**4, 10**5, 10**6)
IMAGENET = 1_281_167
STRATEGIES = ("random", "prototypes")
BATCH, STEPS = 256, 100
TINY = ModelShape(8, 4, 16, 1, 1, 16, 1, 1)


class Absent:
    """As many images as one likes, all the same and none in memory.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self.shape = (count, TINY.image, TINY.image, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, positions: Any) -> Any:
        return torch.zeros(len(positions), *self.shape[1:], dtype=torch.uint8).numpy()


def features(count: int) -> Features:
    """Three clouds of points, as a frozen network might describe so many images."""
    rng = seeds.generator(0, "growth")
    values = torch.randn(count, COMPONENTS, generator=rng)
    values[:, :3] += 4 * torch.eye(3)[torch.arange(count) % 3]
    return Features(values, "", {})


def job_of(strategy: str, count: int) -> Job:
    """A job over so many images of which none exists."""
    images: Any = Absent(count)
    ids: Any = range(count)
    plan = Plan.of(Budget.parse("3ep"), count, BATCH)
    return Job.of(
        MaskedAutoencoder(TINY, seeds.generator(0, "init")),
        registry.load(strategy)(),
        Split(images, None, ids),
        plan=plan,
        schedule=Schedule.of(1e-4, BATCH, 0.05, plan.steps),
        grid=Grid(2, 2, 3),
        weight_decay=0.05,
        seed=0,
        device=torch.device("cpu"),
        features=lambda kind: features(count),
    )


def one(strategy: str, count: int, steps: int) -> dict[str, Any]:
    """Of one size, in a process of its own: seconds of its parts, bytes at the peak."""
    torch.set_num_threads(1)
    before = peak_memory("cpu")["host"] or 0
    begun = time.perf_counter()
    job = job_of(strategy, count)
    setup = time.perf_counter() - begun
    begun = time.perf_counter()
    for epoch in (0, 1):
        job.order(epoch)
    ordering = (time.perf_counter() - begun) / 2
    job.batch(0)
    shown = min(steps, count // BATCH) or 1
    begun = time.perf_counter()
    for step in range(shown):
        job.batch(step)
    batches = (time.perf_counter() - begun) / (shown * BATCH)
    state: Any = job.feed.state_dict()
    kept = sum(t.nbytes for t in [state["seen"], *state["orders"].values()])
    return {
        "strategy": strategy,
        "images": count,
        "setup_s": round(setup, 2),
        "order_us_per_image": round(1e6 * ordering / count, 3),
        "batch_us_per_image": round(1e6 * batches, 3),
        "checkpoint_bytes_per_image": round(kept / count, 1),
        "peak_memory_mib": round((peak_memory("cpu")["host"] or 0) / 2**20),
        "grown_mib": round(((peak_memory("cpu")["host"] or 0) - before) / 2**20),
    }


def step_us() -> float:
    """Microseconds per image of a plain training step at ``micro``, beside which that is small."""
    device = torch.device("cpu")
    model = MaskedAutoencoder(PRESETS["micro"].shape, seeds.generator(0, "init"))
    setting = Setting("micro", PRESETS["micro"].shape, 64, 3)
    given = Inputs.of(setting, device)

    def call(inputs: Inputs) -> torch.Tensor:
        outcome: Outcome = model(inputs.images, Mask.from_scores(inputs.noise, inputs.grid))
        return outcome.loss

    work = stepping(model, call, given, "fp32", setting.steps)
    times = interleaved({"step": work}, 5)["step"]
    return 1e6 * times.median / (setting.batch * setting.steps)


def measure(quick: bool = False) -> dict[str, Any]:
    """All sizes, and that of ImageNet."""
    sizes = (10**3, 10**5) if quick else (*SIZES, IMAGENET)
    step, rows = step_us(), []
    for strategy in STRATEGIES:
        first = 0.0
        for count in sizes:
            with get_context("spawn").Pool(1) as pool:
                row = pool.apply(one, (strategy, count, STEPS))
            own = row["order_us_per_image"] + row["batch_us_per_image"]
            first = first or own
            rows.append({**row, "time_per_image_to_first": round((step + own) / (step + first), 4)})
    return {"step_us_per_image": round(step, 1), "rows": rows}


if __name__ == "__main__":
    show.main("growth", measure)
