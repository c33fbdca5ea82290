"""How far a benchmark is: read from its runs' folders, which alone decide what is done."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskbench import lock, results
from maskbench.benchmark.layout import Laid, Place, Plan
from maskbench.errors import StoreError
from maskbench.results import Store

WAITING, RUNNING, FINISHED = "waiting", "running", "finished"
KILLED, FAILED = "killed", "failed"
TAIL = 4096
"""Bytes from the end of a run's metrics in which the last line is looked for."""


@dataclass(frozen=True)
class State:
    """An item at a moment.

    Attributes:
        name: The item's.
        arm: Whose run.
        state: ``waiting``, ``running``, ``finished``, or how its latest attempt ended.
        folder: The run's; None before it began.
        share: Of the budget that is used, 0 to 1; None before the first line of metrics.
        loss: The latest.
        images_per_s: The latest.
        seconds: On the run's clock so far.
        error: What ended it.
        queue: What a cluster says of its job, if one was asked.
    """

    name: str
    arm: str
    state: str
    folder: str | None = None
    share: float | None = None
    loss: float | None = None
    images_per_s: float | None = None
    seconds: float | None = None
    error: str | None = None
    queue: str | None = None

    @property
    def left(self) -> bool:
        """Whether starting the benchmark again would work on it (a failure is tried again)."""
        return self.state not in (FINISHED, RUNNING)

    @property
    def seconds_left(self) -> float | None:
        """On the run's clock, expected, if the rest goes as the part so far."""
        if not self.share or self.seconds is None:
            return None
        return self.seconds * (1 - self.share) / self.share


def states(plan: Plan, place: Place, known: Mapping[str, State] | None = None) -> list[State]:
    """Every item of a plan, in its order.

    Args:
        plan: What was planned.
        place: Where its runs lie, and what ended those that never came to have a folder.
        known: States that are not looked up, by item: what is finished stays so.
    """
    errors, found = place.errors(), []
    for name, laid in plan.items.items():
        state = (known or {}).get(name) or state_of(name, laid, place.store)
        if state.state == WAITING and name in errors:
            state = replace(state, state=FAILED, error=errors[name])
        found.append(state)
    return found


def queued(found: Sequence[State], queue: Mapping[str, str]) -> list[State]:
    """The same, with what a cluster says of each item's job."""
    return [replace(state, queue=queue.get(state.name)) for state in found]


def state_of(name: str, laid: Laid, store: Store) -> State:
    """One item: its finished run, or else its latest attempt."""
    own = State(name, laid.arm, WAITING)
    folder = store.finished(laid.run) or store.unfinished(laid.run)
    if folder is None:
        return own
    numbers = _latest(folder)
    own = replace(own, folder=str(folder), **numbers)
    try:
        record = results.read_record(folder)
    except StoreError as error:
        begun = not (folder / results.RECORD).exists()
        busy = lock.held(folder)
        said = None if begun else str(error)
        return replace(own, state=RUNNING if busy else KILLED, error=said)
    state = str(record["status"])
    if lock.held(folder):
        return replace(own, state=RUNNING)
    if state == FINISHED:
        return replace(own, state=state, share=1.0)
    return replace(own, state=KILLED if state == RUNNING else state, error=record.get("error"))


def _latest(folder: Path) -> dict[str, Any]:
    """The newest numbers of a run; nothing where there are none yet."""
    for row in _last_rows(folder / results.METRICS):
        told = {
            "share": row.get("progress"),
            "loss": row.get("loss"),
            "images_per_s": row.get("images_per_s"),
            "seconds": row.get("seconds"),
        }
        return {k: v for k, v in told.items() if isinstance(v, int | float)}
    return {}


def _last_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines near the end of a file, the last one first; a torn line is passed over."""
    try:
        if path.is_symlink() or not path.is_file():
            return
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - TAIL, 0))
            lines = file.read().split(b"\n")
    except OSError:
        return
    for line in reversed(lines):
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                yield row
