"""A run's own clock: it stands still while nothing is trained."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SETUP = "setup"
OFF = ("paused", "checkpoint", "probes")
"""Looking at masks, probing and telling trackers during training, saving, probing at the end."""
PARTS = (SETUP, "data", "step", "strategy", "compilation", *OFF)


class Clock:
    """Seconds by part of the work, and in all; what a budget of seconds counts.

    On the clock: the setup of model and strategy, and training. The parts of training sum to a
    little less than training: the loop's own work is in none of them. On a GPU they are those of
    the host, which runs ahead of the device; training as a whole is right, because the device is
    waited for at every log line, before every look, and at the end.

    Args:
        now: Tells seconds; only differences count.
        joules: Tells the energy used so far; None where nothing reports it.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.perf_counter,
        joules: Callable[[], float | None] | None = None,
    ) -> None:
        self.parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._now, self._joules = now, joules
        self._training = 0.0
        self._energy = 0.0 if joules else None
        self._since: tuple[float, float | None] | None = None

    @property
    def training(self) -> float:
        """Seconds of training so far."""
        return self._training + (self._now() - self._since[0] if self._since else 0.0)

    @property
    def seconds(self) -> float:
        """Seconds on the clock: setup and training."""
        return self.parts[SETUP] + self.training

    @property
    def joules(self) -> float | None:
        """Energy that the whole device used while training was on; None if it is not reported."""
        if not self._since or self._energy is None or self._joules is None:
            return self._energy
        begun, now = self._since[1], self._joules()
        return None if begun is None or now is None else self._energy + now - begun

    def start(self) -> None:
        """Training begins, or goes on."""
        self._since = self._now(), self._joules() if self._joules else None

    def stop(self) -> None:
        """Training ends, or pauses."""
        self._training, self._energy = self.training, self.joules
        self._since = None

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Charge the time inside to one of ``PARTS``; training stands still in those of ``OFF``."""
        pauses = part in OFF and self._since is not None
        if pauses:
            self.stop()
        begun = self._now()
        try:
            yield
        finally:
            self.parts[part] += self._now() - begun
            if pauses:
                self.start()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on with the same clock."""
        return {"training": self.training, "joules": self.joules, "parts": dict(self.parts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another clock was."""
        self._training, self._energy = state["training"], state["joules"]
        self.parts = dict(state["parts"])
