"""What a user sees of long work: bars on a terminal; elsewhere only what must be said."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from maskbench import events


class Bars:
    """Progress bars on stderr: share of the budget, loss, images/s, remaining time."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def start(self, label: str, total: int, unit: str) -> None:
        """A bar for a stage."""
        self.finish()
        self._task = self._progress.add_task(escape(label), total=total, unit=unit, numbers="")

    def advance(self, done: int, **values: float) -> None:
        """Move the bar; loss and speed are written beside it."""
        words = {"loss": "loss {:.4f}", "speed": "{:,.0f} images/s"}
        numbers = "  ".join(words.get(n, n + " {:g}").format(v) for n, v in values.items())
        if self._task is not None:
            self._progress.update(self._task, completed=done, numbers=numbers)

    def finish(self) -> None:
        """Leave the bar as it is."""
        if self._task is not None:
            self._progress.stop_task(self._task)
            self._task = None

    def message(self, text: str) -> None:
        """A line above the bars."""
        self._progress.console.print(f"[dim]{escape(text)}[/dim]", highlight=False)

    def note(self, text: str) -> None:
        """The same."""
        self.message(text)


class Quiet(events.Silent):
    """No bars; only what must be said."""

    def note(self, text: str) -> None:
        """A line on stderr."""
        print(text, file=sys.stderr)


@contextmanager
def watch() -> Iterator[events.Progress]:
    """Bars when stderr is a terminal, silence otherwise."""
    console = Console(stderr=True)
    if not console.is_terminal:
        talks = os.environ.get("RANK", "0") == "0"
        yield Quiet() if talks else events.Silent()
        return
    columns = (
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield Bars(progress)
