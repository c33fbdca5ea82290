"""Carry out a benchmark's runs on this machine, several at a time; what is finished stays.

Every run is tried once in a call; one whose process is lost, once more. What other processes work
on is left to them and waited for.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from maskbench.benchmark.layout import Place, Plan
from maskbench.benchmark.slots import Slots
from maskbench.benchmark.states import FINISHED, RUNNING, State, states
from maskbench.care import Care
from maskbench.errors import BUSY, IO, LOST, OK, InterruptedRunError, StoppedRunError
from maskbench.signals import Asked, Signals

WORKER = (sys.executable, "-m", "maskbench.benchmark.worker")
TICK_S = 1.0
"""Seconds between two looks at everything."""
LEAVING_S = 30.0
"""Seconds that runs have to save and leave when somebody asks the benchmark to stop."""
TRIES = 2
"""How often a run is begun in one call when its process is lost."""

DEFAULT = Care()
Watch = Callable[[Sequence[State]], None]


@dataclass
class Slot:
    """A place for one run at a time, and the process that serves it.

    Args:
        environment: Is added to the process's.
        item: What it works on.
    """

    environment: Mapping[str, str]
    item: str | None = None
    process: "subprocess.Popen[str] | None" = None

    def give(self, told: Mapping[str, Any], store: Path) -> None:
        """Let it work on an item."""
        if self.process is None:
            self.process = subprocess.Popen(  # noqa: S603 - this Python, this module
                [*WORKER, str(store)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **self.environment},
                text=True,
                start_new_session=True,  # Ctrl-C asks the benchmark, and that asks its runs
            )
        assert self.process.stdin
        self.item = str(told["name"])
        with suppress(BrokenPipeError):  # it is gone: ``answer`` finds that out
            self.process.stdin.write(f"{json.dumps(told)}\n")
            self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """How the item ended; waits for it."""
        assert self.process
        assert self.process.stdout
        line, item, self.item = self.process.stdout.readline(), self.item, None
        if line:
            return dict(json.loads(line))
        code = self._close()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        killed = " (out of memory?)" if code == -signal.SIGKILL else ""
        return {"name": item, "code": LOST, "error": f"its process ended by {how}{killed}"}

    def leave(self) -> None:
        """End the process, once its run has saved; at once if it is idle."""
        if self.process is not None:
            self._close()

    def _close(self) -> int:
        """The exit code of the process, which is given some time to leave."""
        process, self.process = self.process, None
        assert process
        assert process.stdin
        assert process.stdout
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            code = process.wait(LEAVING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        process.stdout.close()
        return code


@dataclass
class Carried:
    """What a call did.

    Args:
        errors: Item to what ended it.
        stopped: Why no further run was begun; None: all were tried.
    """

    errors: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None


def carry(plan: Plan, place: Place, places: Slots, watch: Watch, care: Care = DEFAULT) -> Carried:
    """Work on everything that is not finished.

    Args:
        plan: What is asked.
        place: Where its runs and its logs lie.
        places: How many at a time.
        watch: Told how far everything is, every second.
        care: How every run is looked after.

    Raises:
        InterruptedRunError: Somebody pressed Ctrl-C, or SIGTERM came; the runs are saved.
    """
    with Signals():
        work = _Work(plan, place, places, care)
        try:
            work.until_done(watch)
        except Asked as asked:
            kind = InterruptedRunError if asked.signum == signal.SIGINT else StoppedRunError
            raise kind(
                f"stopped by {asked}: what is finished stays, what was running is saved, and the "
                "same command goes on."
            ) from asked
        finally:
            work.leave()
        return work.found


class _Work:
    """The state of ``carry``."""

    def __init__(self, plan: Plan, place: Place, places: Slots, care: Care) -> None:
        self.care = asdict(care)
        self.plan, self.place, self.found = plan, place, Carried()
        self.slots = [Slot(environment) for environment in places.environments]
        self.tries = dict.fromkeys(plan.items, 0)
        self.todo: deque[str] = deque(plan.items)
        self.known: dict[str, State] = {}

    def until_done(self, watch: Watch) -> None:
        """Give, look, take, until nothing is left."""
        while True:
            now = {one.name: one for one in states(self.plan, self.place, self.known)}
            self.known = {one.name: one for one in now.values() if one.state == FINISHED}
            watch(list(now.values()))
            self._give(now)
            if not any(slot.item for slot in self.slots) and (not self.todo or self.found.stopped):
                return
            self._take()

    def _give(self, now: Mapping[str, State]) -> None:
        """Free places get what is left; what others work on stays in the queue."""
        for name in list(self.todo):
            if now[name].state == FINISHED:
                self.todo.remove(name)
        for slot in self.slots:
            if slot.item is not None or self.found.stopped:
                continue
            left = [name for name in self.todo if now[name].state != RUNNING]
            if not left:
                return
            name = left[0]
            self.todo.remove(name)
            self.tries[name] += 1
            self.place.note(name, None)
            laid, log = self.plan.items[name], self.place.logs / f"{name}.log"
            slot.give(
                {
                    "name": name,
                    "request": laid.request.model_dump(mode="json"),
                    "origin": {**self.plan.origin(name), "at_a_time": len(self.slots)},
                    "care": self.care,
                    "log": str(log.resolve()),
                },
                self.place.store.root.resolve(),
            )

    def _take(self) -> None:
        """Wait for a tick, or for the first run that ends."""
        with selectors.DefaultSelector() as selector:
            for slot in self.slots:
                if slot.item and slot.process and slot.process.stdout:
                    selector.register(slot.process.stdout, selectors.EVENT_READ, slot)
            ready = [key.data for key, _ in selector.select(TICK_S)]
        for slot in ready:
            answer = slot.answer()
            name, code = answer["name"], answer["code"]
            if code == BUSY:  # somebody else was faster: theirs counts
                self.tries[name] -= 1
                self.todo.append(name)
            elif code == LOST and self.tries[name] < TRIES:
                self.todo.append(name)
            elif code != OK:
                self.found.errors[name] = answer["error"]
                self.place.note(name, answer["error"])
            if code == IO:
                self.found.stopped = answer["error"]

    def leave(self) -> None:
        """End all processes; busy ones are asked first, all together."""
        for slot in self.slots:
            if slot.item and slot.process:
                slot.process.send_signal(signal.SIGTERM)
        for slot in self.slots:
            slot.leave()
