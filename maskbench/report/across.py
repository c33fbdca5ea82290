"""Parts of the page that look at several groups at once, or at what is in none."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from maskbench import figures
from maskbench.figures import frontier as drawn
from maskbench.report.drawings import shown
from maskbench.report.frame import Run
from maskbench.report.frontier import COSTS, Frontier, Point
from maskbench.report.means import Mean
from maskbench.report.reach import HOW, Reach, reaches
from maskbench.report.views import Entry, Group
from maskbench.report.words import big, clock, consumed, count, share

TITLES = {"flops": "total FLOPs", "seconds": "seconds on the clock"}
STANDS = {True: "yes", False: "no", None: "–"}


def budget(entry: Entry) -> str:
    """The budget that the runs of a cell were given."""
    return consumed(*entry.runs[0].planned)


def against_cost(found: Frontier, name: str) -> dict[str, Any]:
    """Accuracy against cost of like runs: a figure, and its data as a table."""
    looks = _looks(found)
    panels = [
        drawn.Panel(
            TITLES[cost],
            _flops if cost == "flops" else _seconds,
            [_dot(point, cost, looks) for point in found.at(cost)],
        )
        for cost in COSTS
        if found.at(cost)
    ]
    rows = points(found)
    ahead = ", ".join(
        f"{row['strategy']} at {row['budget']}" for row in rows if row["by FLOPs"] == "yes"
    )
    label = f"Accuracy against cost. Non-dominated by FLOPs: {ahead or 'none known'}."
    nothing = {"svg": Markup(""), "picture": None}
    figure = (
        shown(name, partial(drawn.frontier, panels, list(looks.items())), label)
        if panels
        else nothing
    )
    run = found.points[0].entry.runs[0]
    return {
        "id": name,
        "title": f"{run.record['data']['name']}, {run.record['model']['preset']}",
        "conditions": found.conditions,
        "shots": found.shots,
        **figure,
        "timed": bool(found.at("seconds")),
        "rows": rows,
    }


def points(found: Frontier) -> list[dict[str, str]]:
    """The points in words, strategy by strategy, the cheapest first."""
    return [
        {
            "strategy": point.entry.label,
            "budget": budget(point.entry),
            "seeds": str(len(point.entry.runs)),
            "accuracy": share(point.accuracy),
            "FLOPs": _bounded(point),
            "time": _said(point.entry.mean(lambda run: run.cost("seconds_total"))),
            "by FLOPs": STANDS[point.best["flops"]],
            "by time": STANDS[point.best["seconds"]],
        }
        for point in found.points
    ]


def _bounded(point: Point) -> str:
    mean = point.entry.mean(lambda run: run.cost("flops_total"))
    words = big(mean.value).strip() if mean else "–"
    return words if point.entry.says_cost else f"≥ {words}"


def _said(mean: Mean | None) -> str:
    return clock(mean.value) if mean else "–"


def _looks(found: Frontier) -> dict[str, figures.Look]:
    """A look per strategy; the first is random masking's if it is there."""
    labels = list(dict.fromkeys(point.entry.label for point in found.points))
    shift = 0 if found.points[0].entry.is_reference else 1
    return {label: figures.look(rank + shift) for rank, label in enumerate(labels)}


def _dot(point: Point, cost: str, looks: dict[str, figures.Look]) -> drawn.Dot:
    band = None if point.accuracy.half is None else point.accuracy.band
    value, best = point.cost[cost] or 0.0, bool(point.best[cost])
    label = point.entry.label
    return drawn.Dot(label, looks[label], value, point.accuracy.value, band, best)


def _flops(value: float) -> str:
    return big(value).replace(" ", "")


def _seconds(value: float) -> str:
    return f"{value:g} s" if value < 7200 else f"{value / 3600:g} h"


def reached(rows: Sequence[Reach]) -> list[dict[str, str]]:
    """Epochs to the baseline's accuracy in words."""
    return [
        {
            "strategy": row.strategy,
            "reached": _reached(row),
            "epochs": _plain(row, row.epochs),
            "epochs, of random's": _times(row, row.epochs_relative),
            "FLOPs, of random's": _times(row, row.flops_relative),
            "time, of random's": _times(row, row.seconds_relative),
        }
        for row in rows
    ]


def to_reach(group: Group) -> dict[str, Any] | None:
    """Epochs to the baseline's accuracy; None where there is nothing to reach."""
    if group.reference is None or len(group.entries) < 2 or "images" not in group.views:
        return None
    return {
        "rows": reached(reaches(group)),
        "shots": max(group.shots, default=0),
        "how": HOW,
    }


def _reached(row: Reach) -> str:
    if not row.reached:
        return f"not reached, {count(row.seeds, 'seed')}"
    missed = row.seeds - row.reached
    return f"{row.reached} of {row.seeds} seeds" + (f", {missed} not reached" if missed else "")


def _plain(row: Reach, mean: Mean | None) -> str:
    return "–" if mean is None else f"{'≤ ' if row.early else ''}{mean.value:.3g}"


def _times(row: Reach, mean: Mean | None) -> str:
    return "–" if mean is None else f"{'≤ ' if row.early else ''}{mean.value:.2f}×"


def probed_during(runs: Sequence[Run]) -> bool:
    """Whether any of these runs was probed during training."""
    return any(len(run.moments) > 1 for run in runs)
