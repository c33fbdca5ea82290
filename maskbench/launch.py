"""Several processes on this machine as one run: started, watched, started again when one is lost.

``torchrun`` does the first for many machines, too; its own restarts are not used: whoever is
started again meets the addresses of the dead. Here the whole run begins anew, a few times at most,
and goes on from its last checkpoint.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from maskbench.errors import INTERRUPTED, LOST, OK, STOPPED
from maskbench.signals import ASKING

ALONE_S = 8.0
"""Seconds that the others have to notice, and to leave, when a process has ended."""
RETRIES = 3
PAUSE_S = 1.0
"""Before the first new start; doubled before each further one."""


def launch(words: Sequence[str], processes: int, retries: int = RETRIES) -> int:
    """Run a command in several processes; its exit code.

    Args:
        words: What follows ``maskbench`` on the command line.
        processes: How many; the first one talks.
        retries: New starts after a process was killed or hung.
    """
    with _Forwarding() as forwarding:
        for attempt in range(retries + 1):
            code, lost = _once(words, processes, forwarding)
            if not lost:
                return code
            if forwarding.asked or attempt == retries:
                break
            _say(
                f"{lost}; starting all {processes} again ({attempt + 1} of {retries} times), from "
                "the last checkpoint."
            )
            if forwarding.within(PAUSE_S * 2**attempt):
                break
    _say(f"{lost}. The same command goes on from the last checkpoint.")
    if forwarding.asked:
        return INTERRUPTED if forwarding.asked == signal.SIGINT else STOPPED
    return code


def _say(text: str) -> None:
    print(f"maskbench: {text}", file=sys.stderr)


class _Forwarding:
    """Hands signals on to all processes; ``asked`` is the last one's number, 0 without."""

    def __init__(self) -> None:
        self.asked = 0
        self.team: list[subprocess.Popen[bytes]] = []
        self._told: set[int] = set()

    def __enter__(self) -> "_Forwarding":
        for name in ASKING:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for name in ASKING:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_DFL)

    def within(self, seconds: float) -> bool:
        """Wait; whether there was a signal by then."""
        stop = time.monotonic() + seconds
        while not self.asked and time.monotonic() < stop:
            time.sleep(0.05)
        return self.asked != 0

    def add(self, member: "subprocess.Popen[bytes]") -> None:
        """One more process; told of a signal that came while it was started."""
        self.team.append(member)
        if self.asked and member.pid not in self._told:
            member.send_signal(self.asked)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.asked = signum
        for member in self.team:
            self._told.add(member.pid)
            if member.poll() is None:
                member.send_signal(signum)


def _once(words: Sequence[str], processes: int, forwarding: _Forwarding) -> tuple[int, str]:
    """One start: the exit code, and which process was lost, in words, if one was."""
    with tempfile.TemporaryDirectory(prefix="maskbench-") as folder:
        told = [Path(folder) / f"said-{rank}" for rank in range(processes)]
        with _started(words, told, Path(folder) / "meeting", forwarding) as team:
            _wait(team)
        codes = [member.returncode for member in team]
        lost = [rank for rank, code in enumerate(codes) if code < 0]
        own = [rank for rank, code in enumerate(codes) if code not in (OK, LOST) and code > 0]
        if own and 0 not in own:  # the first one knows only that another is gone
            print(told[own[0]].read_text(errors="replace").strip(), file=sys.stderr)
        if own:
            return codes[own[0]], ""
        if lost:
            names = " and ".join(
                f"process {rank} by {signal.Signals(-codes[rank]).name}" for rank in lost
            )
            return LOST, f"killed: {names}, of {processes}"
        return (LOST, f"one of {processes} processes hung") if LOST in codes else (OK, "")


@contextmanager
def _started(
    words: Sequence[str], told: Sequence[Path], meeting: Path, forwarding: _Forwarding
) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """The processes, who are told of signals; none of them is left afterwards."""
    count = len(told)
    threads = max(1, (os.cpu_count() or 1) // count)
    team = forwarding.team = []
    try:
        for rank, file in enumerate(told):
            numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count}
            env = {
                **os.environ,
                **{name: str(number) for name, number in numbers.items()},
                "LOCAL_WORLD_SIZE": str(count),
                "MASKBENCH_MEETING": meeting.as_uri(),
                "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
            }
            with file.open("wb") as said:
                output = None if rank == 0 else said
                forwarding.add(
                    subprocess.Popen(  # noqa: S603 - this Python, this program
                        [sys.executable, "-m", "maskbench", *words],
                        env=env,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        start_new_session=True,  # Ctrl-C comes from here, once
                    )
                )
        yield team
    finally:
        for member in team:
            if member.poll() is None:
                member.kill()
            member.wait()


def _wait(team: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Until all have ended, or one has and the others do not follow."""
    stop = float("inf")
    while any(member.poll() is None for member in team):
        if stop == float("inf") and any(member.poll() is not None for member in team):
            stop = time.monotonic() + ALONE_S
        if time.monotonic() > stop:
            return
        time.sleep(0.05)
