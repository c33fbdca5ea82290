"""What a benchmark will take, before anything of it is run."""

from collections.abc import Sequence
from dataclasses import dataclass

from maskbench.benchmark.layout import Plan
from maskbench.benchmark.states import FINISHED, State
from maskbench.events import Progress
from maskbench.results import Store


@dataclass(frozen=True)
class Ahead:
    """What the runs of an arm under one budget, on one data set and model, will take.

    Args:
        arm: Its name.
        budget: As asked for.
        data: As asked for.
        model: The preset.
        runs: How many.
        finished: How many of them need not be run.
        images: Of each run.
        flops: Of each run; None where the strategy does not say what it costs.
        seconds: Of each run's training, expected; None where no step could be timed.
        disk: Bytes of each run.
        warnings: What may spoil them, in sentences.
    """

    arm: str
    budget: str
    data: str
    model: str
    runs: int
    finished: int
    images: int
    flops: int | None
    seconds: float | None
    disk: int
    warnings: tuple[str, ...]

    @property
    def left(self) -> int:
        """Runs that are not finished."""
        return self.runs - self.finished

    @property
    def seconds_left(self) -> float | None:
        """Of training of what is not finished, one after the other."""
        return None if self.seconds is None else self.seconds * self.left

    @property
    def disk_left(self) -> int:
        """Bytes of what is not finished."""
        return self.disk * self.left


@dataclass(frozen=True)
class Outlook:
    """What everything will take.

    Args:
        rows: By arm and budget.
        at_a_time: Runs at a time.
        free: Bytes that are free where the runs will lie.
    """

    rows: tuple[Ahead, ...]
    at_a_time: int
    free: int

    @property
    def seconds(self) -> float:
        """Of training of what is not finished, as far as known, if runs at a time were free."""
        return sum(row.seconds_left or 0.0 for row in self.rows) / self.at_a_time

    @property
    def known(self) -> bool:
        """Whether every row has its seconds."""
        return all(row.seconds is not None for row in self.rows)

    @property
    def disk(self) -> int:
        """Bytes of what is not finished."""
        return sum(row.disk_left for row in self.rows)


def outlook(
    plan: Plan, store: Store, now: Sequence[State], at_a_time: int, progress: Progress
) -> Outlook:
    """Time a few steps per arm, model and budget; nothing else is run.

    Raises:
        MaskbenchError: What would stop a run before it begins.
    """
    from maskbench import runner

    cells: dict[tuple[str, ...], list[str]] = {}
    for name, laid in plan.items.items():
        asked = laid.request
        cells.setdefault((laid.arm, asked.budget, asked.data, asked.model), []).append(name)
    done = {state.name for state in now if state.state == FINISHED}
    rows, free = [], 0
    for number, ((arm, budget, data, model), names) in enumerate(cells.items(), 1):
        progress.message(f"timing {arm} ({number} of {len(cells)})")
        forecast, _ = runner.rehearse(plan.items[names[0]].request, store, progress)
        free = forecast.disk_free
        row = Ahead(
            arm, budget, data, model, len(names), len(done & set(names)), forecast.images,
            forecast.flops, forecast.seconds, forecast.disk, forecast.warnings,
        )  # fmt: skip
        rows.append(row)
    return Outlook(tuple(rows), at_a_time, free)
