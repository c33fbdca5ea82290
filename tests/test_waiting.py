"""On a GPU the host never waits for the device but where it writes a line.

A value that Python reads from a tensor is such a wait. Here everything is on the CPU, so the reads
are looked for as operations; those that are of the host's own tensors, or of a CPU alone, are known
by their places.
"""

import inspect
import traceback
from pathlib import Path
from typing import Any

import pytest
from conftest import make_job
from torch.utils._python_dispatch import TorchDispatchMode

from maskbench import registry, train
from maskbench.guard import Guard
from maskbench.job import Job
from maskbench.strategy import Batch, Context, Mask, MaskStrategy, Outcome

ROOMS = [Path(inspect.getfile(room)).parent for room in (train, registry.load("random"))]
READS = ("aten._local_scalar_dense", "aten.nonzero", "aten.equal", "aten.is_nonzero")
HOST = {
    "feed.where": "positions of a batch, on the host",
    "job.order": "an epoch's order, which is moved to the host once",
    "_effective.share": "the temperature of an epoch, on the host",
    "mask.from_scores": "scores are looked at on a CPU alone",
    "mask.check": "counts are asserted on the device where it is a GPU",
}
"""Functions, behind their file's name, that read values which no GPU has."""


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers in which of our functions values were read."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith(READS):
            ours = [
                f"{Path(frame.filename).stem}.{frame.name}"
                for frame in traceback.extract_stack()[:-1]
                if any(Path(frame.filename).is_relative_to(room) for room in ROOMS)
            ]
            self.found.append("train.write" if "train.write" in ours else ours[-1])
        return func(*args, **(kwargs or {}))


def reads(job: Job, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Where steps before the first line read values."""
    monkeypatch.setattr(train, "LOGS_PER_RUN", 1)
    guard = Guard(job)
    monkeypatch.setattr(guard, "_eager", False)  # as on a GPU
    with Reads() as seen:
        train.train(job, lambda row: None, lambda step: None, steps=range(3), guard=guard)
    assert seen.found.count("guard.settle") == 1  # at the end of these steps
    return set(seen.found) - {"guard.settle", "train.write"}


NAMES = [*(entry.name for entry in registry.entries()), "prototypes+clmae", "ratio+hpm"]


@pytest.mark.parametrize("name", NAMES)
def test_no_step_waits_for_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reads(make_job(name, budget="12step"), monkeypatch) <= set(HOST)


class Curious(MaskStrategy):
    """Reads the loss in every step."""

    def mask(self, batch: Batch, context: Context) -> Mask:
        return Mask.from_scores(context.uniform("mask", batch), context.grid)

    def after_step(self, batch: Batch, outcome: Outcome, context: Context) -> dict[str, float]:
        """Waits."""
        return {"loss": outcome.loss.item()}


def test_a_wait_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_waiting.ROOMS", [*ROOMS, Path(__file__).parent])
    assert "test_waiting.after_step" in reads(make_job(Curious(), budget="12step"), monkeypatch)
