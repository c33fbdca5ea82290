"""What a benchmark's finished runs say: arms by its metric, with intervals over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskbench import results, statistics
from maskbench.benchmark.layout import Plan
from maskbench.benchmark.states import FINISHED, State
from maskbench.errors import StoreError
from maskbench.report.frame import TRAINED, Run
from maskbench.report.judge import generator
from maskbench.statistics import Contrast


@dataclass(frozen=True)
class Answer:
    """An arm under one budget, on one data set and model.

    Args:
        arm: Its name.
        budget: As asked for.
        data: As asked for.
        model: The preset.
        runs: How many were planned.
        values: The metric by seed, of what is finished and has it.
        to_baseline: Paired differences to the baseline; None for itself, and without pairs.
    """

    arm: str
    budget: str
    data: str
    model: str
    runs: int
    values: Mapping[int, float]
    to_baseline: Contrast | None = None

    @property
    def mean(self) -> float | None:
        """Over seeds; None where there is none."""
        return float(np.mean(list(self.values.values()))) if self.values else None

    @property
    def half(self) -> float | None:
        """Half-width of the 95 % t-interval; from three seeds on."""
        values = list(self.values.values())
        return float(statistics.half_width(values)) if len(values) >= 3 else None


def answers(plan: Plan, now: Sequence[State], baseline: str | None) -> list[Answer]:
    """Arms, the best first within a data set, model and budget.

    Args:
        plan: What was asked.
        now: How far every item is.
        baseline: The arm that others are compared with; None: the first.
    """
    cells: dict[tuple[str, ...], list[State]] = {}
    for state in now:
        asked = plan.items[state.name].request
        cells.setdefault((asked.data, asked.model, asked.budget, state.arm), []).append(state)
    found = [
        Answer(arm, budget, data, model, len(own), _values(plan, own))
        for (data, model, budget, arm), own in cells.items()
    ]
    base = baseline or next(iter(plan.items.values())).arm
    compared = [_compared(one, found, base, plan.metric) for one in found]
    sign = -1 if plan.direction == "higher" else 1

    def place(one: Answer) -> tuple[str, str, str, bool, float]:
        mean = one.mean
        return one.data, one.model, one.budget, mean is None, sign * (mean or 0.0)

    return sorted(compared, key=place)


def _compared(one: Answer, found: Sequence[Answer], base: str, metric: str) -> Answer:
    """The same with its differences to the baseline under the same conditions."""
    same = (one.data, one.model, one.budget)
    beside = [b for b in found if b.arm == base and (b.data, b.model, b.budget) == same]
    if one.arm == base or not beside:
        return one
    seeds = [seed for seed in one.values if seed in beside[0].values]
    if not seeds:
        return one
    ours, theirs = ([own.values[s] for s in seeds] for own in (one, beside[0]))
    margin = statistics.MARGIN if metric in ("fs-aulc", "knn20") else 0.0
    contrast = statistics.contrast(ours, theirs, generator(), margin)
    return Answer(**{**vars(one), "to_baseline": contrast})


def _values(plan: Plan, own: Sequence[State]) -> dict[int, float]:
    values = {}
    for state in own:
        if state.state == FINISHED and state.folder:
            value = value_of(Path(state.folder), plan.metric)
            if value is not None:
                values[plan.items[state.name].request.seed] = value
    return values


def value_of(folder: Path, metric: str) -> float | None:
    """A run's metric; None where its record does not have it.

    Args:
        folder: The run's.
        metric: One of ``schema.METRICS``.
    """
    try:
        run = Run.of(folder, results.read_record(folder))
    except (StoreError, KeyError, TypeError, ValueError, AttributeError):
        return None
    if metric == "fs-aulc":
        return run.aulc()
    if metric == "knn20":
        return run.neighbours.get(TRAINED)
    return run.cost({"seconds": "seconds_total", "flops": "flops_total"}[metric])
