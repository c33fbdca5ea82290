"""Small multiples over the budget: one panel per quantity, all strategies in each; nulls grey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maskbench import figures
from maskbench.figures import canvas
from maskbench.figures.curves import BASE, LONGEST, MOST_BANDS, Curve

WIDTH, ROOM, GAP = 7.4, 1.45, 0.62
LEFT, TOP, BOTTOM, ROW = 0.52, 0.3, 0.46, 0.21
COLUMNS = 3
BAND = 0.25


@dataclass(frozen=True)
class Panel:
    """One quantity over the budget.

    Args:
        title: What it is, with its unit.
        curves: One per strategy, x from 0 to 1; NaN leaves a gap.
        null: Shares, low and high ends of where random masks lie; or nothing.
        neutral: A value to mark; or nothing.
        note: Written where there is no curve.
    """

    title: str
    curves: Sequence[Curve]
    null: tuple[Sequence[float], Sequence[float], Sequence[float]] | None = None
    neutral: float | None = None
    note: str = ""


Key = Sequence[tuple[str, figures.Look]]


def height_of(drawn: Sequence[Panel], key: Key) -> float:
    """Inches that these panels and their key are high."""
    return -(-len(drawn) // COLUMNS) * (TOP + ROOM) + BOTTOM + ROW * (_lines(key) + 0.5)


def _lines(key: Key) -> int:
    return -(-len(key) // COLUMNS) if len(key) > 1 else 0


def panels(drawn: Sequence[Panel], key: Key, *, aside: float = 0.0) -> canvas.Figure:
    """Panels in rows of three, a key below where there are several curves; bands for up to four.

    Args:
        drawn: At least one.
        key: Labels and looks of the curves.
        aside: Inches that are left free on the left.
    """
    lines, height, width = _lines(key), height_of(drawn, key), WIDTH + aside
    wide = (WIDTH - LEFT - (COLUMNS - 1) * GAP - 0.08) / COLUMNS
    with figures.style():
        figure = canvas.Figure(figsize=(width, height))
        for rank, panel in enumerate(drawn):
            row, column = divmod(rank, COLUMNS)
            left = aside + LEFT + column * (wide + GAP)
            bottom = height - (row + 1) * (TOP + ROOM)
            axes = figure.add_axes((left / width, bottom / height, wide / width, ROOM / height))
            last = rank + COLUMNS >= len(drawn)
            _draw(axes, panel, last=last)
        if lines:
            _key(figure, key, lines, aside / width)
    return figure


def _draw(axes: canvas.Axes, panel: Panel, *, last: bool) -> None:
    axes.set_title(panel.title, fontsize=9.5, loc="left", pad=4, y=1.0, parse_math=False)
    axes.tick_params(length=2.5, labelsize=8.5, pad=2)
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-2, 102)
    axes.set_xticks([0, 50, 100], ["0", "50", "100"] if last else ["", "", ""])
    if last:
        axes.set_xlabel("% of the budget", fontsize=8.5, labelpad=1)
    if not panel.curves:
        axes.text(0.5, 0.5, panel.note or "not known", transform=axes.transAxes, ha="center",
                  va="center", fontsize=8.5, wrap=True)  # fmt: skip
        axes.set_yticks([])
        return
    if panel.null:
        x, low, high = panel.null
        axes.fill_between([100 * share for share in x], low, high, color=figures.CONTROL,
                          alpha=BAND, linewidth=0, zorder=1)  # fmt: skip
    if panel.neutral is not None:
        axes.axhline(
            panel.neutral, color=BASE.colour, linewidth=BASE.width, linestyle=BASE.dash, zorder=1
        )
    for order, curve in enumerate(reversed(panel.curves)):
        x = [100 * share for share in curve.x]
        look = curve.look
        if curve.band and len(panel.curves) <= MOST_BANDS:
            low, high = zip(*curve.band, strict=True)
            axes.fill_between(x, low, high, color=look.colour, alpha=0.16, linewidth=0, zorder=2)
        axes.plot(x, curve.y, color=look.colour, linestyle=look.dash, linewidth=1.4,
                  marker=look.marker, markersize=3.4, zorder=3 + order)  # fmt: skip


def _key(figure: canvas.Figure, key: Key, lines: int, left: float) -> None:
    axes = figure.add_axes((left, 0, 1 - left, ROW * (lines + 0.5) / figure.get_figheight()))
    axes.set_axis_off()
    axes.set_xlim(0, COLUMNS)
    axes.set_ylim(lines + 0.5, 0)
    for rank, (text, look) in enumerate(key):
        x, y = rank % COLUMNS + 0.2, rank // COLUMNS + 0.5
        style = {"color": look.colour, "linestyle": look.dash, "linewidth": 1.4}
        axes.plot([x - 0.12, x + 0.04], [y, y], marker=look.marker, markersize=4, **style)
        axes.annotate(
            figures.short(text, LONGEST),
            xy=(x + 0.09, y),
            va="center",
            parse_math=False,
            fontsize=9,
        )
