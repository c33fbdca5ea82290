"""Accuracy over labelled images as small multiples: a panel per strategy, the same axes in all."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maskbench import figures
from maskbench.figures import canvas
from maskbench.figures.curves import BASE, CHANCE, Curve

WIDTH, COLUMNS, ROOM, ROW = 7.4, 3, 1.55, 0.21
LEFT, RIGHT, GAP, TOP, LINE, BOTTOM = 0.55, 0.08, 0.2, 0.14, 0.155, 0.5
WRAP, MOST_LINES = 29, 3
TICKS = 7
SPREAD = 0.16


@dataclass(frozen=True)
class Panel:
    """A strategy.

    Args:
        curve: Its mean over seeds, y from 0 to 1, with its band.
        seeds: Seeds behind each mean: one (x, y) per seed and shot.
        note: How many seeds, in words.
    """

    curve: Curve
    seeds: Sequence[tuple[float, float]]
    note: str


def few_shot(panels: Sequence[Panel], others: Sequence[Curve], chance: float) -> canvas.Figure:
    """Panels in rows of three, with a key of what is in all of them.

    Args:
        panels: At least one; x in labelled images per class.
        others: Drawn in every panel: the baseline and the controls.
        chance: Accuracy of guessing.
    """
    titles = [_wrapped(panel.curve.label) for panel in panels]
    rows = [titles[i : i + COLUMNS] for i in range(0, len(titles), COLUMNS)]
    tops = [TOP + LINE * max(title.count("\n") + 1 for title in row) for row in rows]
    key = [*((one.label, one.look) for one in others), (CHANCE, BASE)]
    foot = BOTTOM + ROW * (-(-len(key) // (COLUMNS + 1)) + 1)
    height = sum(tops) + ROOM * len(rows) + foot
    wide = (WIDTH - LEFT - RIGHT - (COLUMNS - 1) * GAP) / COLUMNS
    with figures.style():
        figure = canvas.Figure(figsize=(WIDTH, height))
        limits = _limits(panels, others, chance)
        shots = sorted({x for panel in panels for x in panel.curve.x})
        for rank, (panel, title) in enumerate(zip(panels, titles, strict=True)):
            row, column = divmod(rank, COLUMNS)
            down = sum(tops[: row + 1]) + ROOM * (row + 1)
            place = (LEFT + column * (wide + GAP), height - down, wide, ROOM)
            axes = figure.add_axes(_shares(place, height))
            _frame(axes, limits, shots, left=not column, last=rank + COLUMNS >= len(panels))
            axes.set_title(title, fontsize=9.5, loc="left", pad=4, y=1.0, parse_math=False)
            _draw(axes, panel, others, chance)
        _key(figure, key)
    return figure


def _wrapped(label: str) -> str:
    return "\n".join(textwrap.wrap(label, WRAP, max_lines=MOST_LINES, placeholder=" …") or [""])


def _shares(place: tuple[float, float, float, float], height: float) -> tuple[Any, ...]:
    left, bottom, wide, tall = place
    return left / WIDTH, bottom / height, wide / WIDTH, tall / height


def _limits(panels: Sequence[Panel], others: Sequence[Curve], chance: float) -> tuple[float, float]:
    """Percent: from just below chance, or what is lower, to the top of all that is drawn."""
    ends = [end for panel in panels for pair in panel.curve.band for end in pair]
    drawn = [y for one in (*(panel.curve for panel in panels), *others) for y in one.y]
    seeds = [y for panel in panels for _, y in panel.seeds]
    whole = [100 * y for y in (*ends, *drawn, *seeds, chance)]
    low, high = max(min(whole), 0.0), min(max(whole), 100.0)
    room = 0.05 * max(high - low, 1.0)
    return low - room, high + room


def _frame(
    axes: canvas.Axes,
    limits: tuple[float, float],
    shots: Sequence[float],
    *,
    left: bool,
    last: bool,
) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(shots[0] * 2**-0.4, shots[-1] * 2**0.4)
    axes.set_ylim(*limits)
    every = -(-len(shots) // TICKS)
    words = [f"{n:g}" if last and not rank % every else "" for rank, n in enumerate(shots)]
    axes.set_xticks(shots, words)
    axes.xaxis.set_minor_locator(canvas.NullLocator())
    axes.xaxis.set_minor_formatter(canvas.NullFormatter())
    axes.yaxis.set_major_locator(canvas.MaxNLocator(5))
    axes.tick_params(length=2.5, labelsize=8.5, pad=2, labelleft=left)
    axes.grid(visible=False, axis="x")
    if left:
        axes.set_ylabel("test accuracy, %", fontsize=8.5, labelpad=2)
    if last:
        axes.set_xlabel("labelled images per class", fontsize=8.5, labelpad=2)


def _draw(axes: canvas.Axes, panel: Panel, others: Sequence[Curve], chance: float) -> None:
    axes.axhline(100 * chance, color=BASE.colour, linewidth=BASE.width, linestyle=BASE.dash)
    for other in others:
        _line(axes, other, markersize=3.2)
    own, look = panel.curve, panel.curve.look
    if own.band:
        low, high = zip(*own.band, strict=True)
        ends = ([100 * y for y in low], [100 * y for y in high])
        axes.fill_between(own.x, *ends, color=look.colour, alpha=SPREAD, linewidth=0, zorder=2)
    if panel.seeds:
        x, y = zip(*panel.seeds, strict=True)
        dots: dict[str, Any] = {
            "marker": "o",
            "markersize": 2.6,
            "markeredgewidth": 0,
            "alpha": 0.75,
        }
        axes.plot(
            x, [100 * one for one in y], linestyle="none", color=look.colour, zorder=3, **dots
        )
    _line(axes, own, markersize=4.2)
    axes.text(0.03, 0.97, panel.note, transform=axes.transAxes, va="top", fontsize=8.5)


def _line(axes: canvas.Axes, curve: Curve, markersize: float) -> None:
    look = curve.look
    axes.plot(curve.x, [100 * y for y in curve.y], color=look.colour, linestyle=look.dash,
              linewidth=look.width, marker=look.marker, markersize=markersize,
              zorder=2 if look.colour == figures.CONTROL else 4)  # fmt: skip


def _key(figure: canvas.Figure, key: Sequence[tuple[str, figures.Look]]) -> None:
    """What is the same in all panels, under them."""
    columns = COLUMNS + 1
    lines = -(-len(key) // columns)
    axes = figure.add_axes((0, 0, 1, ROW * (lines + 1) / figure.get_figheight()))
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(lines + 0.7, -0.3)
    for rank, (text, look) in enumerate(key):
        x, y = rank % columns + 0.3, rank // columns + 0.3
        axes.plot([x - 0.15, x + 0.05], [y, y], marker=look.marker, markersize=4,
                  color=look.colour, linestyle=look.dash, linewidth=look.width)  # fmt: skip
        axes.annotate(figures.short(text, 22), xy=(x + 0.1, y), va="center", parse_math=False,
                      fontsize=8.5)  # fmt: skip
