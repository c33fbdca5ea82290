"""What a run costs, counted as it goes; FLOPs are 2 per multiply-add.

What counts is said in one place each: FLOPs in ``Job.flops`` and ``Job.beside``, seconds in
``Clock``. Prior pretraining of an external feature extractor is listed, never added.
"""

from collections import Counter
from typing import Any

import torch

from maskbench import machine, provenance
from maskbench.job import Job
from maskbench.results import FLOP_PARTS
from maskbench.shape import step_flops
from maskbench.strategy import PRIOR


class Ledger:
    """Reads a job's counters.

    Args:
        job: The run.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._machine = {
            "device": provenance.device_name(job.device.type),
            "threads": torch.get_num_threads(),
            "load_before": machine.load(),
            "battery": machine.on_battery(),
        }

    def now(self, stop_reason: str | None = None) -> dict[str, Any]:
        """What the run has cost so far; not before its first step is done.

        Args:
            stop_reason: Why it ended; None while it goes on.
        """
        job, clock, seen = self.job, self.job.clock, self.job.pace.images
        images = sum(seen.values())
        parts = self._flops()
        prior = parts.pop(PRIOR, 0)
        total = sum(parts.values())
        plain = sum(step_flops(job.model.shape, job.grid.visible).values())
        patches = job.model.shape.patches
        return {
            "images": images,
            "images_distinct": int(job.feed.seen.sum()),
            "steps": job.pace.steps,
            "tokens_encoded": sum((patches - hidden + 1) * n for hidden, n in seen.items()),
            "flops": parts,
            "flops_total": total,
            "flops_prior": prior,
            "flops_known": job.strategy.says_cost(),
            "flops_relative_to_random": total / (plain * images),
            "seconds": {"training": clock.training, **clock.parts},
            "seconds_total": clock.seconds,
            "images_per_s": images / clock.training,
            "peak_memory_bytes": machine.peak_memory(job.device.type),
            "machine": {**self._machine, "load_after": machine.load()},
            "energy_joules": clock.joules,
            "stop_reason": stop_reason,
        }

    def _flops(self) -> dict[str, int]:
        """By part: of the steps, and what the strategy spent beside them."""
        parts: Counter[str] = Counter(dict.fromkeys(FLOP_PARTS, 0))
        for hidden, images in self.job.pace.images.items():
            parts.update({part: f * images for part, f in self.job.flops(hidden).items()})
        parts.update(self.job.spent())
        return dict(parts)
