"""A run at work: the job and everybody who watches it, saved and restored as one."""

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from maskbench import results, team, trackers
from maskbench.care import Care
from maskbench.checkpoint import MOMENTS, Checkpoints, State, parse
from maskbench.errors import DataError, DivergedError, StoreError
from maskbench.events import Progress
from maskbench.guard import Guard
from maskbench.job import Job
from maskbench.ledger import Ledger
from maskbench.masks import MaskTape
from maskbench.metrics import MetricsFile
from maskbench.midway import Midway
from maskbench.place import refuse_changed
from maskbench.plan import Planned
from maskbench.probes.task import Task, task_of
from maskbench.results import write_json
from maskbench.signals import Asked, Signals
from maskbench.train import Line, train

NONFINITE = "nonfinite.json"


class Session:
    """One run from wherever it stands to its end.

    Args:
        folder: The run's.
        record: Its record; the ledger is filled as it goes.
        planned: The run.
        job: Ready to train.
        progress: Who watches.
        care: How it is looked after.
        signals: Tell when somebody asks it to stop.
    """

    def __init__(
        self,
        folder: Path,
        record: dict[str, Any],
        planned: Planned,
        job: Job,
        progress: Progress,
        *,
        care: Care,
        signals: Signals,
    ) -> None:
        self.folder, self.record, self.planned, self.job = folder, record, planned, job
        self.progress, self.care, self.signals = progress, care, signals
        self.ledger = Ledger(job)
        self.moments = Checkpoints(folder, MOMENTS, kept=None)
        keeps = care.moments and team.first()
        self.tape = MaskTape(job, planned.images.train, self.moments.save if keeps else None)
        self.midway = Midway(job, self.ledger, lambda: self.task, planned.settings, progress)
        self.line = Line(job, self._log)
        self.guard = Guard(job, care.skips, self._diagnosed)
        self.checkpoints = Checkpoints(folder)
        self.metrics: MetricsFile | None = None
        self.trackers = trackers.made(care.track if team.first() else (), progress.note)
        self._kept = 0
        self._saved_at, self._saved_step = time.monotonic(), -1
        job.model.pieces = care.pieces
        self._parts: Mapping[str, Any] = {
            "model": job.model,
            "strategy": job.strategy,
            "optimizer": job.optimizer,
            "feed": job.feed,
            "clock": job.clock,
            "pace": job.pace,
            "line": self.line,
            "guard": self.guard,
            "tape": self.tape,
            "midway": self.midway,
        }

    @cached_property
    def task(self) -> Task | None:
        """What probes are asked; None where the data has nothing to ask."""
        images = self.planned.images
        if not images.classes or images.test is None:
            self.progress.message("no classes, so no probes")
            return None
        try:
            return task_of(images)
        except DataError as error:  # what was trained is kept
            self.progress.note(f"no probes: {error}")
            self.record["probing"] = {"notes": [str(error)]}
            return None

    def state(self) -> State:
        """Everything that the run must not forget; every random stream is keyed and needs none."""
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        lines = self.metrics.lines if self.metrics else 0
        settings = self.planned.settings.model_dump(mode="json")
        return {**parts, "metrics": lines, "settings": settings, "images": self.job.plan.images}

    def restore(self, state: State) -> None:
        """Go on where a checkpoint was.

        Raises:
            StoreError: It does not fit this run's model or strategy.
        """
        for name, part in self._parts.items():
            try:
                part.load_state_dict(state[name])
            except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise StoreError(
                    f"the checkpoint of {self.folder} does not fit ({name}: {error}). Start again "
                    "with --fresh."
                ) from error
        self._kept = state["metrics"]
        self._saved_step = self.job.pace.steps

    def work(self) -> None:
        """Train to the end of the budget.

        Raises:
            Asked: Somebody asked the run to stop; it is saved.
            MaskbenchError: As ``train``.
        """
        if team.first():
            self.metrics = MetricsFile(self.folder / results.METRICS, self._kept)
            self.moments.forget(self.job.pace.steps)
            self.trackers.begin(self.record, self.folder, self.job.pace.steps)
        team.meet()
        job, budget = self.job, self.planned.budget
        whole, unit = (job.plan.images, "images") if self._counted else (100, f"% of {budget}")
        self.progress.start(f"training {self.planned.settings.strategy}", whole, unit)
        try:
            with self.signals.until_the_step_ends():
                train(job, self.line, self._moment, guard=self.guard)
        except DivergedError:
            if self.guard.clean and team.first():
                self._save(job.pace.steps)
            raise
        finally:
            try:
                self.checkpoints.wait()
                self.moments.wait()
            finally:
                self.progress.finish()
                if self.metrics:
                    self.metrics.close()

    @property
    def _counted(self) -> bool:
        return self.planned.budget.kind == "images"

    def _moment(self, step: int) -> None:
        """Before every step and after the last: save and stop when that is due, then look."""
        over = not self.job.turn(step).images
        late = time.monotonic() - self._saved_at > self.care.every
        asked, due = team.agree(self.signals.asked, late or over)
        if (asked or due) and step != self._saved_step:
            self.guard.settle()
            self._save(step)
        if asked:
            self.checkpoints.wait()
            raise Asked(asked)
        self.tape(step)
        self.midway(step)

    def _save(self, step: int) -> None:
        self._saved_at, self._saved_step = time.monotonic(), step
        if not team.first():
            return
        if self.job.device.type == "cuda":
            torch.cuda.synchronize()  # what is queued is training, not saving
        with self.job.clock.on("checkpoint"):
            if self.metrics:
                self.metrics.sync()
            self.checkpoints.save(step, self.state())

    def _log(self, row: Mapping[str, Any]) -> None:
        """One line of numbers: to the file, the ledger, and whoever watches."""
        now = self.ledger.now()
        seconds, speed = now["seconds_total"], now["images_per_s"]
        if self.metrics:
            times = {"seconds": round(seconds, 3), "images_per_s": round(speed, 1)}
            self.metrics.append({**row, **times})
            self._track({**row, **times})
        self.record["ledger"] = now
        done = row["images"] if self._counted else int(100 * row["progress"])
        self.progress.advance(done, loss=row["loss"], speed=speed)

    def _track(self, row: Mapping[str, Any]) -> None:
        """Off the clock; on a GPU, whoever writes a line has waited for the device."""
        if self.trackers:
            with self.job.clock.on("paused"):
                self.trackers.row(row)

    def _diagnosed(self, diagnosis: Mapping[str, Any]) -> None:
        if team.first():
            write_json(self.folder / NONFINITE, diagnosis)


def load(folder: Path | None, settings: dict[str, Any], say: Callable[[str], None]) -> State | None:
    """The newest whole checkpoint of a run, in every process; None if there is none.

    Args:
        folder: The run's; None if there is none.
        settings: What the run is asked to be now.
        say: Told of damaged checkpoints.

    Raises:
        UsageError: It was made under other settings; the message names them.
        StoreError: It is no checkpoint, or of a newer maskbench.
    """
    saved = Checkpoints(folder).newest(say) if folder and team.first() else None
    payload = team.share(saved.payload if saved else b"")
    if not (folder and payload):
        return None
    state = parse(payload)
    refuse_changed(folder, state["settings"], settings)
    return state
