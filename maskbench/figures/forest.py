"""Differences and their intervals, a row per strategy, with the seeds behind them."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from maskbench import figures
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


def forest(rows: Sequence[Row], margin: float, *, title: str) -> Figure:
    """Points with intervals above the dots of single seeds, zero marked, the margin shaded.

    Args:
        rows: At least one; the first is on top.
        margin: Half-width of what counts as no difference, a share.
        title: Of the axis; it is in points.
    """
    height = TOP + ROW * len(rows) + BOTTOM
    with figures.style():
        figure = Figure(figsize=(WIDTH, height))
        place = (
            LEFT / WIDTH,
            BOTTOM / height,
            1 - (LEFT + RIGHT) / WIDTH,
            ROW * len(rows) / height,
        )
        axes = figure.add_axes(place)
        axes.axvspan(-100 * margin, 100 * margin, color=figures.CONTROL, alpha=SHADE, linewidth=0)
        axes.axvline(0, color=BASE.colour, linewidth=1, zorder=1)
        _seeds(axes, rows)
        for rank, row in enumerate(rows):
            _row(axes, rank, row)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        names = [_wrapped(row.label) for row in rows]
        axes.set_yticks(range(len(rows)), names, fontsize=SIZE, parse_math=False)
        axes.tick_params(length=2.5, labelsize=SIZE)
        axes.tick_params(axis="y", length=0, pad=6)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylabel("")
        axes.set_xlabel(title, fontsize=SIZE)
    return figure


def _wrapped(label: str) -> str:
    return "\n".join(textwrap.wrap(label, WRAP, max_lines=MOST_LINES, placeholder=" …") or [""])


def _seeds(axes: Axes, rows: Sequence[Row]) -> None:
    """Dots beside each other where they would lie on each other."""
    x = [100 * value for row in rows for value in row.differences]
    y = [rank + DOWN for rank, row in enumerate(rows) for _ in row.differences]
    colours = {rank + DOWN: row.look.colour for rank, row in enumerate(rows)}
    seaborn.swarmplot(
        x=x, y=y, hue=y, palette=colours, orient="h", native_scale=True, size=DOT, legend=False,
        warn_thresh=1.0, alpha=0.55, zorder=2, ax=axes,
    )  # fmt: skip


def _row(axes: Axes, rank: int, row: Row) -> None:
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
