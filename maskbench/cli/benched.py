"""What benchmarks show in the terminal: plans, how far runs are, answers."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from maskbench.cli import render
from maskbench.report.words import big, count, duration, signed

if TYPE_CHECKING:
    from maskbench.benchmark.ahead import Outlook
    from maskbench.benchmark.answer import Answer
    from maskbench.benchmark.carry import Watch
    from maskbench.benchmark.states import State

STYLES = {"finished": "green", "running": "cyan", "waiting": "dim", "queued": "dim"}
ROWS = 24
"""Lines of a live table, at most: a taller one than the window would flicker."""


def outlook(found: "Outlook", question: str) -> None:
    """What a benchmark will take."""
    render.line(f"question  {question}")
    told = [
        {
            "strategy": row.arm,
            "budget": row.budget,
            "data": row.data,
            "model": row.model,
            "runs": row.runs,
            "finished": row.finished,
            "images a run": f"{row.images:,}",
            "FLOPs a run": "not known" if row.flops is None else f"{big(row.flops)}FLOP",
            "training": _time(row.seconds),
            "disk": f"{row.disk / 1e6:,.0f} MB",
        }
        for row in found.rows
    ]
    render.table("planned", _shorter(told, ("budget", "data", "model")))
    left = sum(row.left for row in found.rows)
    more = "" if found.known else " or more (not every strategy could be timed)"
    render.line(
        f"left      {count(left, 'run')}: about {duration(found.seconds)}{more} of training at "
        f"{found.at_a_time} at a time; probes and studies come on top"
    )
    render.line(f"disk      {found.disk / 1e9:,.2f} GB of {found.free / 1e9:,.2f} GB free")
    if found.disk > found.free:
        render.say("note  the disk is too small for all of it: free space, or use another --out.")
    for warning in dict.fromkeys(w for row in found.rows for w in row.warnings):
        render.say(f"note  {warning}")


def _shorter(rows: list[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows without those columns that say the same everywhere."""
    dull = {name for name in names if len({row[name] for row in rows}) == 1}
    return [{key: value for key, value in row.items() if key not in dull} for row in rows]


def _time(seconds: float | None) -> str:
    return "not known" if seconds is None else duration(seconds)


def table_of(title: str, now: Sequence["State"], rows: int | None = None) -> Table:
    """How far every run is.

    Args:
        title: Above it.
        now: The runs.
        rows: At most; what is running or has failed comes first then.
    """
    shown = list(now)
    if rows is not None and len(shown) > rows:
        first = {"running": 0, "failed": 1, "diverged": 1, "killed": 1, "interrupted": 1}
        shown = sorted(shown, key=lambda one: first.get(one.state, 2))[:rows]
    queue = any(one.queue for one in shown)
    table = Table(
        title=render.escape(title),
        title_justify="left",
        caption=summary(now),
        caption_justify="left",
    )
    for name in ("run", "state", *(["job"] if queue else [])):
        table.add_column(name, no_wrap=name == "run")
    for name in ("done", "loss", "images/s", "left"):
        table.add_column(name, justify="right")
    for one in shown:
        style = STYLES.get(one.state, "bold red")
        left = one.seconds_left if one.state == "running" else None
        table.add_row(
            render.escape(one.name),
            f"[{style}]{one.state}[/]",
            *([render.escape(one.queue or "")] if queue else []),
            "" if one.share is None else f"{100 * one.share:.0f} %",
            "" if one.loss is None else f"{one.loss:.4f}",
            "" if one.images_per_s is None else f"{one.images_per_s:,.0f}",
            "" if left is None else duration(left),
        )
    return table


def summary(now: Sequence["State"]) -> str:
    """How many runs are in which state."""
    states = [one.state for one in now]
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    return f"{len(states)} runs: " + ", ".join(f"{n} {state}" for state, n in counts.items())


def states(title: str, now: Sequence["State"], *, as_json: bool) -> None:
    """How far a benchmark is."""
    if as_json:
        render.as_json([asdict(one) for one in now])
        return
    Console().print(table_of(title, now))
    for one in now:
        if one.error:
            render.line(f"{one.name}: {one.error}")


@contextmanager
def watched(title: str) -> Iterator["Watch"]:
    """A live table on a terminal; elsewhere a line on stderr whenever a run's state changes."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    with Live(console=console, auto_refresh=False) as live:

        def tell(now: Sequence["State"]) -> None:
            live.update(table_of(title, now, ROWS), refresh=True)

        yield tell


class _Lines:
    """Says what has changed."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}

    def __call__(self, now: Sequence["State"]) -> None:
        """Look at everything."""
        for one in now:
            first = not self._before or one.name not in self._before
            if self._before.get(one.name) != one.state and not (first and one.state == "waiting"):
                print(f"{one.state:<12}{one.name}", file=sys.stderr, flush=True)
            self._before[one.name] = one.state


def answers(found: Sequence["Answer"], metric: str, direction: str, baseline: str) -> None:
    """Arms by the metric."""
    points = metric in ("fs-aulc", "knn20")
    rows = []
    for one in found:
        change = one.to_baseline
        band = change.band if change else None
        rows.append(
            {
                "strategy": one.arm,
                "budget": one.budget,
                "data": one.data,
                "model": one.model,
                "seeds": f"{len(one.values)} of {one.runs}",
                metric: _number(one.mean, points=points, half=one.half),
                f"to {baseline}": ""
                if change is None
                else signed(change.value)
                if points
                else f"{change.value:+,.3g}",
                "95 %": "" if band is None else _band(band, points=points),
                "pairs": None if change is None else change.seeds,
            }
        )
    unit = " in %, differences in points" if points else ""
    title = f"by {metric}{unit}; {direction} is better"
    render.table(title, _shorter(rows, ("budget", "data", "model")))
    fewer = dict.fromkeys(one.arm for one in found if len(one.values) < one.runs)
    if fewer and len(found) > 1:
        render.say(
            f"note  {', '.join(fewer)}: of fewer seeds than planned, so means do not rank; "
            f"differences to {baseline} are of equal seeds."
        )
    alone = dict.fromkeys(
        f"{one.arm} ({one.budget})"
        for one in found
        if one.values and one.arm != baseline and one.to_baseline is None
    )
    if alone:
        render.say(
            f"note  {', '.join(alone)}: no run of {baseline} beside it on the same data and model, "
            "under the same budget, with the same seed."
        )


def _number(value: float | None, *, points: bool, half: float | None) -> str:
    if value is None:
        return "-"
    scale, form = (100, ".1f") if points else (1, ",.4g")
    return f"{scale * value:{form}}" + ("" if half is None else f" ± {scale * half:{form}}")


def _band(band: tuple[float, float], *, points: bool) -> str:
    scale, form = (100, "+.1f") if points else (1, "+,.3g")
    return " to ".join(f"{scale * end:{form}}" for end in band)
