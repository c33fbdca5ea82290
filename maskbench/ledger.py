"""What a run costs, counted as it goes; FLOPs are 2 per multiply-add."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

from maskbench import provenance
from maskbench.job import Job
from maskbench.shape import step_flops
from maskbench.train import Clock

PRIOR = "prior pretraining"
"""Part of ``spent()`` that is listed but not added: it was paid before, outside of the budget."""


class Ledger:
    """Counts images by how many of their patches were hidden: that may be a schedule.

    Args:
        job: The run.
        setup: Seconds that building model and strategy took, before the first step.
    """

    def __init__(self, job: Job, setup: float = 0.0) -> None:
        self.job, self._setup = job, setup
        self._steps = 0
        self._images: Counter[int] = Counter()

    def at(self, images: int, seconds: float, clock: Clock) -> dict[str, Any]:
        """What the run has cost when so many images have been seen.

        Args:
            images: Seen so far; never fewer than in an earlier call.
            seconds: Of training.
            clock: Its parts.
        """
        job = self.job
        shape, steps = job.model.shape, math.ceil(images / job.plan.batch)
        self._count(steps)
        parts = self._flops()
        prior = parts.pop(PRIOR, 0)
        total = sum(parts.values())
        plain = sum(step_flops(shape, job.grid.visible).values())
        tokens = sum((shape.patches - hidden + 1) * n for hidden, n in self._images.items())
        return {
            "images": images,
            "images_distinct": int(job.feed.seen.sum()),
            "steps": steps,
            "tokens_encoded": tokens,
            "flops": parts,
            "flops_total": total,
            "flops_prior": prior,
            "flops_relative_to_random": total / (plain * images),
            "seconds": {"training": seconds, "setup": self._setup, **clock.parts},
            "images_per_s": images / seconds,
            "peak_memory_bytes": provenance.peak_memory(),
        }

    def _count(self, steps: int) -> None:
        """Take the steps since the last call into account."""
        plan = self.job.plan
        for step in range(self._steps, steps):
            shown = min(plan.batch, plan.images - step * plan.batch)
            self._images[self.job.grid_at(step).hidden] += shown
        self._steps = max(self._steps, steps)

    def _flops(self) -> dict[str, int]:
        """By part: of the steps, and what the strategy spent beside them."""
        job, parts = self.job, Counter[str]()
        shape = job.model.shape
        for hidden, images in self._images.items():
            grid = replace(job.grid, hidden=hidden)
            for cost in (step_flops(shape, grid.visible), job.strategy.cost(grid, shape)):
                parts.update({part: flops * images for part, flops in cost.items()})
        parts.update(job.strategy.spent())
        return dict(parts)
