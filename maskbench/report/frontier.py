"""Accuracy against cost: which strategy and budget no other one of like runs dominates."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from maskbench.report.frame import TRAINED, Run
from maskbench.report.means import Mean
from maskbench.report.views import Entry, amount, cells, common_shots, likes

COSTS = ("flops", "seconds")


@dataclass(frozen=True)
class Point:
    """A strategy under a budget.

    Args:
        entry: Its runs.
        accuracy: With the largest common number of labelled images.
        cost: Of ``COSTS``; None where it is not known or does not compare.
        best: Whether no other point dominates it, by cost; None without a cost.
    """

    entry: Entry
    accuracy: Mean
    cost: Mapping[str, float | None]
    best: Mapping[str, bool | None]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "strategy": self.entry.label,
            "budget": dict(zip(("unit", "amount"), self.entry.runs[0].planned, strict=True)),
            "seeds": [run.seed for run in self.entry.runs],
            "accuracy": asdict(self.accuracy),
            **self.cost,
            "non_dominated": dict(self.best),
        }


@dataclass(frozen=True)
class Frontier:
    """All points of like runs, at least two; ``shots`` labelled images per class."""

    conditions: Mapping[str, str]
    shots: int
    points: Sequence[Point]

    def at(self, cost: str) -> list[Point]:
        """Points that have this cost, cheapest first."""
        known = [(value, point) for point in self.points if (value := point.cost[cost]) is not None]
        return [point for _, point in sorted(known, key=lambda item: item[0])]


def not_dominated(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of (cost, accuracy): whether no other point costs no more and is as accurate or more.

    Equal points do not dominate each other.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    found, best, at = [False] * len(points), float("-inf"), float("-inf")
    for i in order:
        cost, accuracy = points[i]
        found[i] = accuracy > best or (accuracy == best and cost == at)
        if accuracy > best:
            best, at = accuracy, cost
    return found


def frontiers(runs: Sequence[Run]) -> list[Frontier]:
    """One per set of like runs that has two points or more, over all their budgets."""
    found = (_frontier(like) for like in likes(runs))
    return [frontier for frontier in found if frontier and len(frontier.points) > 1]


def _frontier(like: Sequence[Run]) -> Frontier | None:
    shots = max(common_shots(like), default=None)
    if shots is None:
        return None
    one_machine = len({run.machine for run in like}) == 1
    known = []
    for entry in cells(like):
        accuracy = entry.mean(lambda run: run.accuracy(TRAINED, shots))
        if accuracy:
            spent = {name: entry.mean(lambda run, name=name: amount(run, name)) for name in COSTS}  # type: ignore[misc]
            cost = {name: mean.value if mean else None for name, mean in spent.items()}
            if not entry.says_cost:
                cost["flops"] = None
            if not one_machine:
                cost["seconds"] = None
            known.append((entry, accuracy, cost))
    best = {
        name: _best([(cost[name], accuracy.value) for _, accuracy, cost in known]) for name in COSTS
    }
    points = [
        Point(entry, accuracy, cost, {name: best[name][i] for name in COSTS})
        for i, (entry, accuracy, cost) in enumerate(known)
    ]
    return Frontier(like[0].conditions, shots, points)


def _best(points: Sequence[tuple[float | None, float]]) -> list[bool | None]:
    known = [(i, cost, accuracy) for i, (cost, accuracy) in enumerate(points) if cost is not None]
    found: list[bool | None] = [None] * len(points)
    flags = not_dominated([(cost, accuracy) for _, cost, accuracy in known])
    for (i, _, _), flag in zip(known, flags, strict=True):
        found[i] = flag
    return found


def standing(frontiers: Sequence[Frontier], entry: Entry) -> dict[str, bool | None]:
    """Whether an entry of a group is non-dominated, by cost, at the budget of its first run."""
    first = entry.runs[0].key
    points = (point for frontier in frontiers for point in frontier.points)
    best = (point.best for point in points if any(run.key == first for run in point.entry.runs))
    return dict(next(best, dict.fromkeys(COSTS)))
