"""Line figures: accuracy over labelled images, loss over the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from maskbench import figures
from maskbench.figures import canvas

SIZE = (5.9, 3.4)
LONGEST = 22
CHANCE = "chance"
MOST_BANDS = 4
"""More of them hide each other."""
BASE = figures.Look(figures.CONTROL, "", (0, (4, 3)), 0.9)


@dataclass(frozen=True)
class Curve:
    """One line of a figure.

    Args:
        label: Written at the end of the line.
        look: How it is drawn.
        x: Ascending.
        y: One value per x.
        band: (low, high) per x, or nothing.
    """

    label: str
    look: figures.Look
    x: Sequence[float]
    y: Sequence[float]
    band: Sequence[tuple[float, float]] = ()


def few_shot_figure(curves: Sequence[Curve], chance: float) -> canvas.Figure:
    """Accuracy over labelled images per class, all curves in one panel.

    Args:
        curves: At least one; y from 0 to 1.
        chance: Accuracy of guessing.
    """
    with figures.style():
        figure, axes = _axes("labelled images per class", "test accuracy, %")
        scaled = [_percent(curve) for curve in curves]
        axes.axhline(100 * chance, color=BASE.colour, linewidth=BASE.width, linestyle=BASE.dash)
        _draw(axes, scaled)
        shots = sorted({x for curve in curves for x in curve.x})
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots, [f"{x:g}" for x in shots])
        axes.xaxis.set_minor_locator(canvas.NullLocator())
        axes.xaxis.set_minor_formatter(canvas.NullFormatter())
        ends = [(curve.label, curve.y[-1], curve.look) for curve in scaled]
        _label_ends(figure, [*ends, (CHANCE, 100 * chance, BASE)])
    return figure


def loss(curves: Sequence[Curve]) -> canvas.Figure:
    """Training loss over the share of the budget.

    Args:
        curves: At least one; x from 0 to 1.
    """
    with figures.style():
        figure, axes = _axes("share of the budget, %", "training loss", height=0.8)
        plain = [
            Curve(curve.label, curve.look, [100 * x for x in curve.x], curve.y) for curve in curves
        ]
        _draw(axes, plain, markers=False)
        axes.set_xlim(0, 100)
        _label_ends(
            figure, [(curve.label, curve.y[-1], curve.look) for curve in plain], markers=False
        )
    return figure


def difficulty(curves: Sequence[Curve]) -> canvas.Figure:
    """Difficulty gap over the share of the budget, zero marked.

    Args:
        curves: At least one; x from 0 to 1, y and band as shares.
    """
    with figures.style():
        figure, axes = _axes("share of the budget, %", "difficulty gap, %", height=0.8)
        scaled = [_percent(curve) for curve in curves]
        many = len(curves) > MOST_BANDS
        bands = [() if many else one.band for one in scaled]
        pairs = zip(scaled, bands, strict=True)
        plain = [Curve(c.label, c.look, [100 * x for x in c.x], c.y, band) for c, band in pairs]
        axes.axhline(0, color=BASE.colour, linewidth=BASE.width, linestyle=BASE.dash)
        _draw(axes, plain)
        axes.set_xlim(-1, 101)
        _label_ends(figure, [(curve.label, curve.y[-1], curve.look) for curve in plain])
    return figure


def over_epochs(curves: Sequence[Curve], quantity: str) -> canvas.Figure:
    """A quantity in percent over the epochs seen; bands for up to four curves.

    Args:
        curves: At least one; x in epochs, y and band as shares.
        quantity: What it is, with its unit.
    """
    with figures.style():
        figure, axes = _axes("epochs", quantity)
        scaled = [_percent(curve) for curve in curves]
        many = len(curves) > MOST_BANDS
        _draw(axes, [replace(curve, band=()) for curve in scaled] if many else scaled)
        axes.set_xlim(left=0)
        _label_ends(figure, [(curve.label, curve.y[-1], curve.look) for curve in scaled])
    return figure


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Move ascending values apart, as little as possible, until ``gap`` lies between any two."""
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([value, 1])
        while len(blocks) > 1 and _top(blocks[-2], gap) + gap > _bottom(blocks[-1], gap):
            centre, count = blocks.pop()
            other, size = blocks.pop()
            blocks.append([(other * size + centre * count) / (size + count), size + count])
    return [
        centre + gap * (i - (count - 1) / 2) for centre, count in blocks for i in range(int(count))
    ]


def _top(block: Sequence[float], gap: float) -> float:
    return block[0] + gap * (block[1] - 1) / 2


def _bottom(block: Sequence[float], gap: float) -> float:
    return block[0] - gap * (block[1] - 1) / 2


def _percent(curve: Curve) -> Curve:
    band = [(100 * low, 100 * high) for low, high in curve.band]
    return Curve(curve.label, curve.look, curve.x, [100 * y for y in curve.y], band)


def _axes(x: str, y: str, height: float = 1.0) -> tuple[canvas.Figure, canvas.Axes]:
    figure = canvas.Figure(figsize=(SIZE[0], SIZE[1] * height))
    axes = figure.add_axes((0.115, 0.15 / height, 0.52, 0.82 if height == 1 else 0.78))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.tick_params(length=3)
    axes.grid(visible=False, axis="x")
    return figure, axes


def _draw(axes: canvas.Axes, curves: Sequence[Curve], *, markers: bool = True) -> None:
    for order, curve in enumerate(reversed(curves)):
        look = curve.look
        if curve.band:
            low, high = zip(*curve.band, strict=True)
            axes.fill_between(curve.x, low, high, color=look.colour, alpha=0.14, linewidth=0)
        axes.plot(
            curve.x,
            curve.y,
            color=look.colour,
            linestyle=look.dash,
            linewidth=look.width,
            marker=look.marker if markers else None,
            zorder=3 + order,
        )


def _label_ends(
    figure: canvas.Figure, ends: Sequence[tuple[str, float, figures.Look]], *, markers: bool = True
) -> None:
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    ordered = sorted(ends, key=lambda end: (end[1], end[0]))
    gap = 0.065 * (high - low) * SIZE[1] / figure.get_figheight()
    heights = spread([y for _, y, _ in ordered], gap)
    for place in reversed(range(len(heights))):  # nothing is drawn above the axes
        most = high - gap * (len(heights) - 1 - place)
        heights[place] = min(heights[place], most)
    across = axes.get_yaxis_transform()
    for (text, _, look), height in zip(ordered, heights, strict=True):
        marker = look.marker if markers and text != CHANCE else None
        key = {"color": look.colour, "linestyle": look.dash, "linewidth": look.width}
        axes.plot([1.03, 1.1], [height] * 2, transform=across, clip_on=False, **key)
        axes.plot([1.065], [height], transform=across, clip_on=False, marker=marker, **key)
        axes.annotate(
            figures.short(text, LONGEST),
            xy=(1.13, height),
            xycoords=across,
            xytext=(0, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            annotation_clip=False,
            parse_math=False,
            color=figures.CONTROL if look.colour == figures.CONTROL else figures.INK,
        )
    axes.set_ylim(low, high)
