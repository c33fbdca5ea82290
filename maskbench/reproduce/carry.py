"""Carry out a benchmark's runs, one after the other; what is finished is not run again."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maskbench.errors import DataError, InterruptedRunError, StoreError, UsageError
from maskbench.events import Progress
from maskbench.reproduce.reading import Bench, Done
from maskbench.reproduce.schema import Benchmark
from maskbench.results import Store

if TYPE_CHECKING:
    from maskbench.runner import Tell

FOR_ALL = (InterruptedRunError, UsageError, DataError, StoreError)
"""Errors that the next run would meet, too."""


def carry(asked: Benchmark, store: Store, progress: Progress, tell: "Tell | None" = None) -> Bench:
    """Run everything that is not finished; a run that fails is named and does not stop the rest.

    Args:
        asked: What to run.
        store: Where runs lie.
        progress: Who watches.
        tell: Told what each run will take, before it begins.

    Raises:
        MaskbenchError: What no other run could do either: wrong names, no data, no disk, Ctrl-C.
    """
    from maskbench import runner

    requests = asked.requests()
    found: dict[tuple[str, int], Done | str] = {}
    for number, ((arm, seed), request) in enumerate(requests.items(), 1):
        progress.message(f"run {number} of {len(requests)}: {arm}, seed {seed}")
        try:
            done = runner.run(request, store, progress, tell=tell or (lambda forecast: None))
            found[arm, seed] = Done(done.folder)
        except FOR_ALL:
            raise
        except Exception as error:  # a stranger's strategy may raise anything
            found[arm, seed] = f"{type(error).__name__}: {error}"
            progress.note(f"{arm}, seed {seed} failed: {error}")
    return Bench(asked, found)


@dataclass(frozen=True)
class Ahead:
    """What the runs of an arm will take.

    Args:
        arm: Its name.
        strategy: What it runs.
        runs: How many.
        finished: How many of them need not be run.
        images: Of each run.
        seconds: Of each run's training, expected; None where no step could be timed.
    """

    arm: str
    strategy: str
    runs: int
    finished: int
    images: int
    seconds: float | None

    @property
    def left(self) -> float | None:
        """Seconds of training of what is not finished."""
        return None if self.seconds is None else self.seconds * (self.runs - self.finished)


def ahead(asked: Benchmark, store: Store, progress: Progress) -> list[Ahead]:
    """What everything would take; nothing is run but a few timed steps per arm.

    Raises:
        MaskbenchError: What would stop a run before it begins.
    """
    from maskbench import runner
    from maskbench.plan import resolve

    rows = []
    for arm, own in asked.arms.items():
        forecast, first = runner.rehearse(asked.request(arm, 0), store, progress)
        found: list[Path | None] = [first]
        for seed in range(1, asked.runs.seeds):
            settings = resolve(asked.request(arm, seed), store, progress).settings
            found.append(store.finished(settings.run_id()))
        rows.append(
            Ahead(
                arm, own.strategy, len(found), sum(one is not None for one in found),
                forecast.images, forecast.seconds,
            )
        )  # fmt: skip
    return rows
