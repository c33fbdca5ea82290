"""How long commands take that only read: --help, ls, and compare for programs, on 100 records.

    uv run python -m benchmarks.speed.start [--quick] [--json]

Runs are made up (``store.py``): 20 strategies, as records with their losses, and once more with
masks and studies of them. The first have no masks, which compare says (exit code 3). Every command
is a process of its own, as a user starts it; commands take turns, so that what else the machine
does falls on all of them. The peak of memory is that of one more run, which also warms the caches.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed import show, store

RECORDS, STRATEGIES = 100, 20
REPEATS, FEW = 9, 3
FINE = (0, 3)
"""Exit codes: done, and done with something left out."""
PEAK = """
import sys
from maskbench.cli import main
try:
    main()
except SystemExit as end:
    from maskbench.machine import peak_memory
    print(peak_memory("cpu")["host"], file=sys.stderr)
    raise
"""


def measure(quick: bool) -> dict[str, Any]:
    """Time every command.

    Args:
        quick: Three repeats instead of nine, and no runs with studies of masks.

    Returns:
        Facts of the runs, and ``rows``: ``command``, ``seconds`` on the clock
        (median over repeats), ``min``, ``max``, and ``peak_bytes`` of the process.

    Raises:
        RuntimeError: A command failed.
    """
    repeats = FEW if quick else REPEATS
    with tempfile.TemporaryDirectory() as scratch:
        commands = _commands(Path(scratch), studies=not quick)
        peaks = {name: _peak(words, Path(scratch)) for name, words in commands.items()}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(repeats):
            for name, words in commands.items():
                seconds[name].append(_seconds(words, Path(scratch)))
    rows = [
        {
            "command": name,
            "seconds": round(median(taken), 3),
            "min": round(min(taken), 3),
            "max": round(max(taken), 3),
            "peak_bytes": peaks[name],
        }
        for name, taken in seconds.items()
    ]
    return {"records": RECORDS, "strategies": STRATEGIES, "repeats": repeats, "rows": rows}


def _commands(scratch: Path, *, studies: bool) -> dict[str, list[str]]:
    """Words of each command by its name; makes the runs they read."""
    bare = scratch / "records"
    store.make(bare, store.Plan(RECORDS, STRATEGIES, 1, studies=False))
    compare = ["compare", "--format", "json", "--runs"]
    found = {
        "--help": ["--help"],
        "ls": ["ls", "--out", str(bare)],
        "compare --format json": [*compare, str(bare)],
    }
    if studies:
        whole = scratch / "studied"
        store.make(whole, store.Plan(RECORDS, STRATEGIES, 1))
        found["compare --format json, with studies of masks"] = [*compare, str(whole)]
    return found


def _run(command: list[str], folder: Path) -> str:
    """What a command says on stderr; its stdout is thrown away."""
    done = subprocess.run(  # noqa: S603 our own command
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode not in FINE:
        raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}: {done.stderr}")
    return done.stderr


def _seconds(words: list[str], folder: Path) -> float:
    start = time.perf_counter()
    _run([sys.executable, "-m", "maskbench", *words], folder)
    return time.perf_counter() - start


def _peak(words: list[str], folder: Path) -> int | None:
    """Bytes at most, as the process itself sees it: what it was forked from does not count."""
    last = _run([sys.executable, "-c", PEAK, *words], folder).split()[-1]
    return int(last) if last.isdecimal() else None


if __name__ == "__main__":
    show.main("start", measure)
