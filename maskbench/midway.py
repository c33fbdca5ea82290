"""Probes while a run is still training: off its clock, disturbing none of its streams."""

import copy
from collections.abc import Callable
from typing import Any

import torch

from maskbench import team
from maskbench.events import Progress, Silent
from maskbench.job import Job
from maskbench.ledger import Ledger
from maskbench.pace import Turn
from maskbench.probes.backbone import of_encoder
from maskbench.probes.score import primary
from maskbench.probes.task import Task
from maskbench.spec import RunSettings


class Midway:
    """Probes the encoder when a share of the budget is reached.

    Args:
        job: The run.
        ledger: Says what was paid until then.
        task: Gives what probes are asked, if there is anything.
        settings: Give ``probe_at`` and ``draws``.
        progress: Told when a probe begins.

    ``found`` holds one entry per moment: share, images, flops_total, seconds_total and rows.
    """

    def __init__(
        self,
        job: Job,
        ledger: Ledger,
        task: Callable[[], Task | None],
        settings: RunSettings,
        progress: Progress,
    ) -> None:
        self._job, self._ledger, self._task = job, ledger, task
        self._draws, self._progress = settings.draws, progress
        self._due = sorted(share for share in settings.probe_at if share < 1)
        self.found: list[dict[str, Any]] = []

    def __call__(self, step: int) -> None:
        """Probe if it is time, the other processes waiting; the end is probed by others."""
        turn = self._job.turn(step)
        if not (turn.images and step and self._due and turn.share >= self._due[0] - 1e-9):
            return
        self._due = [share for share in self._due if share > turn.share + 1e-9]
        if self._job.device.type == "cuda":
            torch.cuda.synchronize()  # what is queued is training, not probing
        with self._job.clock.on("paused"):
            if team.first():
                self._probe(turn)
            team.meet()

    def _probe(self, turn: Turn) -> None:
        job, now = self._job, self._ledger.now()
        self._progress.message(f"probing at {turn.share:.0%} of the budget")
        task, encoder = self._task(), of_encoder(job.model, "the encoder")
        rows = primary(encoder, task, draws=self._draws, progress=Silent()) if task else []
        paid = {name: now[name] for name in ("images", "flops_total", "seconds_total")}
        self.found.append({"share": turn.share, **paid, "rows": rows})

    def state_dict(self) -> dict[str, Any]:
        """What was found so far."""
        return {"due": list(self._due), "found": copy.deepcopy(self.found)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another run was."""
        self._due, self.found = list(state["due"]), copy.deepcopy(state["found"])
