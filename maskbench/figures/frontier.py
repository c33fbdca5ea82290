"""Accuracy against cost: a panel per cost, the points that nothing dominates joined by steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from maskbench import figures
from maskbench.figures import canvas
from maskbench.figures.curves import BASE, LONGEST, spread

WIDTH, PANEL, ROW = 7.4, 2.75, 0.21
LEFT, GAP, BOTTOM, TOP = 0.62, 0.42, 0.5, 0.28
SPAN = 1.6
LINE, SHORT, ROOM, ASIDE = 0.17, 20, 0.6, 9


@dataclass(frozen=True)
class Dot:
    """A strategy under a budget; ``best`` if nothing dominates it."""

    label: str
    look: figures.Look
    cost: float
    accuracy: float
    band: tuple[float, float] | None
    best: bool


@dataclass(frozen=True)
class Panel:
    """One cost with its axis; ``unit`` writes a tick."""

    title: str
    unit: Callable[[float], str]
    dots: Sequence[Dot]


def frontier(panels: Sequence[Panel], key: Sequence[tuple[str, figures.Look]]) -> canvas.Figure:
    """Panels side by side with one key below.

    Args:
        panels: One or two, each with at least one dot; accuracies from 0 to 1.
        key: Strategies and their looks.
    """
    rows = -(-len(key) // 3)
    height = TOP + PANEL + BOTTOM + ROW * (rows + 1)
    wide = (WIDTH - LEFT - GAP - 0.1) / 2
    with figures.style():
        figure = canvas.Figure(figsize=(WIDTH, height))
        first: canvas.Axes | None = None
        for rank, panel in enumerate(panels):
            left = (LEFT + rank * (wide + GAP)) / WIDTH
            bottom = (height - TOP - PANEL) / height
            axes = figure.add_axes((left, bottom, wide / WIDTH, PANEL / height), sharey=first)
            axes.tick_params(length=3, labelleft=first is None)
            _draw(axes, panel)
            first = first or axes
        if first:
            first.set_ylabel("test accuracy, %")
        _key(figure, key, rows)
    return figure


def _draw(axes: canvas.Axes, panel: Panel) -> None:
    best = sorted((dot.cost, 100 * dot.accuracy) for dot in panel.dots if dot.best)
    axes.step(*zip(*best, strict=True), where="post", color=BASE.colour, linewidth=1.2, zorder=2)
    for dot in panel.dots:
        if dot.band:
            ends = [100 * end for end in dot.band]
            axes.plot([dot.cost] * 2, ends, color=dot.look.colour, linewidth=1, alpha=0.5, zorder=2)
        face = dot.look.colour if dot.best else "none"
        style: dict[str, Any] = {
            "marker": dot.look.marker,
            "color": dot.look.colour,
            "markerfacecolor": face,
        }
        axes.plot([dot.cost], [100 * dot.accuracy], linestyle="none", markersize=7, **style)
    axes.set_xscale("log")
    costs = [dot.cost for dot in panel.dots]
    low, high = min(costs), max(costs)
    middle, reach = (low * high) ** 0.5, max((high / low) ** 0.5 * 1.18, SPAN)
    axes.set_xlim(middle / reach * (low / high) ** ROOM / 1.3, middle * reach)
    few = (1.0, 2.0, 5.0) if reach < 8 else (1.0,)
    axes.xaxis.set_major_locator(canvas.LogLocator(subs=few))
    axes.xaxis.set_major_formatter(canvas.FuncFormatter(lambda value, _: panel.unit(value)))
    axes.xaxis.set_minor_formatter(canvas.NullFormatter())
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(panel.title)
    _name(axes, [dot for dot in panel.dots if dot.best])


def _name(axes: canvas.Axes, best: Sequence[Dot]) -> None:
    """Names of the points that nothing dominates, to their upper left, where no point can be."""
    ordered = sorted(best, key=lambda dot: dot.accuracy)
    bottom, top = axes.get_ylim()
    line = (top - bottom) * LINE / PANEL
    heights = spread([100 * dot.accuracy + line for dot in ordered], line)
    for dot, height in zip(ordered, heights, strict=True):
        axes.annotate(
            figures.short(dot.label, SHORT), xy=(dot.cost, 100 * dot.accuracy),
            xytext=(-ASIDE, height), textcoords=("offset points", "data"), ha="right",
            va="center", fontsize=7.5, parse_math=False, annotation_clip=False, zorder=5,
            arrowprops={"arrowstyle": "-", "color": figures.CONTROL, "linewidth": 0.6,
                        "shrinkA": 1, "shrinkB": 3, "relpos": (1, 0.5)},
        )  # fmt: skip
    axes.set_ylim(bottom, max(top, heights[-1] + line))


def _key(figure: canvas.Figure, key: Sequence[tuple[str, figures.Look]], rows: int) -> None:
    """Markers with their strategies in three columns under the panels."""
    axes = figure.add_axes((0, 0, 1, ROW * (rows + 0.5) / figure.get_figheight()))
    axes.set_axis_off()
    axes.set_xlim(0, 3)
    axes.set_ylim(rows + 0.5, 0)
    for rank, (text, look) in enumerate(key):
        across, down = rank % 3 + 0.25, rank // 3 + 0.5
        axes.plot([across], [down], linestyle="none", marker=look.marker, color=look.colour)
        axes.annotate(
            figures.short(text, LONGEST),
            fontsize=9,
            xy=(across + 0.06, down),
            va="center",
            parse_math=False,
            annotation_clip=False,
        )
