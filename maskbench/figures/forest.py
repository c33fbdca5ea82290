"""Differences and their intervals, a row per strategy, with the seeds behind them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maskbench import figures
from maskbench.figures import canvas
from maskbench.figures.curves import BASE

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 7.4, 1.75, 1.7, 0.1, 0.44, 0.5
WRAP, MOST_LINES = 24, 2
SIZE, DOT = 8.5, 3.0
SHADE = 0.2
UP, DOWN = 0.13, 0.2
"""Of a row: the interval lies above its seeds, so that neither hides the other."""


@dataclass(frozen=True)
class Row:
    """A strategy.

    Args:
        label: Its name.
        look: How it is drawn.
        differences: Of single seeds, shares.
        value: Their mean; None where there are too few for an interval.
        band: Ends of the interval.
        told: The numbers in words; a line break between mean and n.
    """

    label: str
    look: figures.Look
    differences: Sequence[float]
    value: float | None
    band: tuple[float, float] | None
    told: str


def forest(rows: Sequence[Row], margin: float, *, title: str) -> canvas.Figure:
    """Points with intervals above the dots of single seeds, zero marked, the margin shaded.

    Args:
        rows: At least one; the first is on top.
        margin: Half-width of what counts as no difference, a share.
        title: Of the axis; it is in points.
    """
    height = TOP + ROW * len(rows) + BOTTOM
    with figures.style():
        figure = canvas.Figure(figsize=(WIDTH, height))
        place = (
            LEFT / WIDTH,
            BOTTOM / height,
            1 - (LEFT + RIGHT) / WIDTH,
            ROW * len(rows) / height,
        )
        axes = figure.add_axes(place)
        axes.axvspan(-100 * margin, 100 * margin, color=figures.CONTROL, alpha=SHADE, linewidth=0)
        axes.axvline(0, color=BASE.colour, linewidth=1, zorder=1)
        axes.set_xlim(_limits(rows, margin))
        for rank, row in enumerate(rows):
            _seeds(axes, rank, row)
            _row(axes, rank, row)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        names = [_wrapped(row.label) for row in rows]
        axes.set_yticks(range(len(rows)), names, fontsize=SIZE, parse_math=False)
        axes.tick_params(length=2.5, labelsize=SIZE)
        axes.tick_params(axis="y", length=0, pad=6)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(canvas.MaxNLocator(5))
        axes.set_xlabel(title, fontsize=SIZE)
    return figure


def _limits(rows: Sequence[Row], margin: float) -> tuple[float, float]:
    """In points: all that is drawn, with some room."""
    ends = [end for row in rows for end in (*(row.band or ()), *row.differences)]
    low, high = 100 * min(*ends, -margin), 100 * max(*ends, margin)
    room = 0.05 * (high - low)
    return low - room, high + room


def _wrapped(label: str) -> str:
    return "\n".join(textwrap.wrap(label, WRAP, max_lines=MOST_LINES, placeholder=" …") or [""])


def _seeds(axes: canvas.Axes, rank: int, row: Row) -> None:
    """Dots below the interval, beside each other where they would lie on each other."""
    low, high = axes.get_xlim()
    x = sorted(100 * value for value in row.differences)
    levels = swarm(x, DOT / 72 * (high - low) / (WIDTH - LEFT - RIGHT))
    y = [rank + DOWN + level * DOT / 72 / ROW for level in levels]
    style: dict[str, Any] = {"markersize": DOT, "markeredgewidth": 0, "alpha": 0.7, "zorder": 2}
    axes.plot(x, y, marker="o", linestyle="none", color=row.look.colour, **style)


def swarm(ascending: Sequence[float], width: float) -> list[int]:
    """A level for each dot, as near to 0 as it goes, at most two away.

    Args:
        ascending: Places of the dots.
        width: Of a dot, in the same unit: as far apart are dots of one level where there is room.
    """
    last = dict.fromkeys((0, 1, -1, 2, -2), -math.inf)
    found = []
    for place in ascending:
        free = (level for level, before in last.items() if place - before >= width)
        found.append(next(free, min(last, key=lambda level: last[level])))
        last[found[-1]] = place
    return found


def _row(axes: canvas.Axes, rank: int, row: Row) -> None:
    look, height = row.look, [rank - UP]
    if row.value is not None:
        if row.band:
            ends = [100 * end for end in row.band]
            axes.plot(ends, height * 2, color=look.colour, linewidth=1.8, marker="|", zorder=3)
        axes.plot([100 * row.value], height, color=look.colour, marker=look.marker, markersize=6.5,
                  linestyle="none", zorder=4)  # fmt: skip
    axes.annotate(
        row.told, xy=(1.03, rank), xycoords=axes.get_yaxis_transform(), va="center", fontsize=SIZE,
        parse_math=False, annotation_clip=False,
    )  # fmt: skip
