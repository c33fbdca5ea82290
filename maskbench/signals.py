"""Signals that ask a run to stop: it saves at the next step and leaves; a second one does not wait.

SIGTERM, SIGUSR1 (what Slurm sends before it preempts) and SIGHUP count alike, and so does Ctrl-C.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ASKING = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
GRACE_S = 6.0
"""Seconds that the step in progress may take; then the run leaves with the checkpoint it has."""


class Asked(KeyboardInterrupt):
    """Somebody asked the run to stop.

    Args:
        signum: By which signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Signals:
    """Remembers that somebody asked; use as a context, in the main thread of a process.

    Outside of ``until_the_step_ends`` nothing is worth saving, and ``Asked`` is raised at once.

    ``asked`` is the signal's number, 0 as long as there was none.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._patient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for name in ASKING:
                number = getattr(signal, name, None)
                if number is None:
                    continue
                if name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN:
                    continue  # nohup
                self._before[number] = signal.signal(number, self._handle)
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._too_late)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def until_the_step_ends(self) -> Iterator[None]:
        """Inside, the first signal only sets ``asked``; whoever is inside looks at it."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False
            if self._before:
                signal.setitimer(signal.ITIMER_REAL, 0)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._patient and not self.asked:
            self.asked = signum
            signal.setitimer(signal.ITIMER_REAL, GRACE_S)
            return
        raise Asked(signum)

    def _too_late(self, signum: int, frame: FrameType | None) -> None:
        raise Asked(self.asked or signum)
