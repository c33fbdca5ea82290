"""Processes that train one run together, each on a part of every batch; and how they ended.

Plain subprocesses (``worker.py``): they share nothing with whoever calls, and his main module needs
no guard.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_S = 60
"""How long one process waits for the other inside a step."""
START_S = 120
"""How long loading torch may take on a busy machine."""
SAME = 1e-5
"""Norm of a difference over norm."""
ROUNDING = 20
"""Times as far as a last bit, changed at the start, moves a value in one process."""


@dataclass(frozen=True)
class Team:
    """Who trains what.

    Args:
        processes: How many.
        batch: Images per step; odd, so that parts are uneven.
        budget: Ends, by default, with a step of one image, of which a process has none.
    """

    processes: int = 2
    batch: int = 7
    budget: str = "43img"


@dataclass(frozen=True)
class End:
    """How a process left a run.

    Args:
        start: Hashes of the model's values before training.
        end: The same after it.
        state: Hashes by path of the model's values, the strategy's state, what it says it has
            spent, and the numbers logged.
        alone: How far floats of that are from what one process makes of them, by path, and how far
            rounding alone moves those (only of the first process).
        error: What was raised, in words; empty if nothing was.
    """

    start: dict[str, str] = field(default_factory=dict)
    end: dict[str, str] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)
    alone: dict[str, tuple[float, float]] = field(default_factory=dict)
    error: str = ""

    @property
    def further_than_rounding(self) -> dict[str, float]:
        """Values that are further from those of one process than 1e-5 and than rounding explains.

        Returns:
            Norm of the difference over norm, by path.
        """
        return {
            path: apart
            for path, (apart, rounding) in self.alone.items()
            if apart > max(SAME, ROUNDING * rounding)
        }


TEAM = Team()


@dataclass(frozen=True)
class Pair:
    """How all processes (two, as a rule) left a run.

    Args:
        ends: By rank.
    """

    ends: tuple[End, ...]


def pairs(names: Sequence[str], team: Team = TEAM) -> dict[str, Pair]:
    """Train every strategy in one pair of processes; name to how it ended.

    Args:
        names: What ``--strategy`` takes; loading torch is paid once for all of them.
        team: How many processes, on what.
    """
    words = (str(team.processes), str(team.batch), team.budget)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "maskbench.contract.worker"]
        with (Path(folder) / "told").open("w+", encoding="utf-8") as told:
            workers = [
                subprocess.Popen(  # noqa: S603 - this Python, this module
                    [*command, str(rank), folder, *words, *names],
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    stdout=told,
                    stderr=told,
                )
                for rank in range(team.processes)
            ]
            _wait(workers, START_S + PATIENCE_S * len(names))
            told.seek(0)
            last = (told.read().strip().splitlines() or ["nothing was said"])[-1]
        found = [_read(Path(folder) / f"{rank}.jsonl") for rank in range(team.processes)]
    lost = End(error=f"a process did not finish: {last}")
    return {name: Pair(tuple(ends.get(name, lost) for ends in found)) for name in names}


def _wait(workers: Sequence["subprocess.Popen[bytes]"], seconds: float) -> None:
    """Wait for all; when time is up, or one has died, end the others."""
    stop = time.monotonic() + seconds
    try:
        while any(worker.poll() is None for worker in workers):
            died = [worker for worker in workers if worker.poll() not in (None, 0)]
            if time.monotonic() > stop or died:
                break
            time.sleep(0.05)
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()


def _read(file: Path) -> dict[str, End]:
    if not file.is_file():
        return {}
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {row.pop("name"): End(**row) for row in rows}
