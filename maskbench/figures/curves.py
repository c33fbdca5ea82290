"""Line figures: accuracy over labelled images, loss over the budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from maskbench import figures

SIZE = (6.4, 3.7)
LONGEST = 22


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


def few_shot(curves: Sequence[Curve], chance: float, *, name: str, label: str) -> str:
    """Accuracy over labelled images per class, as inline SVG.

    Args:
        curves: At least one; y from 0 to 1.
        chance: Accuracy of guessing.
        name: Unique in the page.
        label: For those who do not see it.
    """
    with figures.style():
        figure, axes = _axes("labelled images per class", "test accuracy, %")
        scaled = [_percent(curve) for curve in curves]
        axes.axhline(100 * chance, color=figures.CONTROL, linewidth=0.9, linestyle=(0, (4, 3)))
        _draw(axes, scaled)
        shots = sorted({x for curve in curves for x in curve.x})
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots, [f"{x:g}" for x in shots])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        ends = [(curve.label, curve.y[-1], curve.look) for curve in scaled]
        _label_ends(axes, [*ends, ("chance", 100 * chance, figures.control(0))])
        return figures.as_svg(figure, name=name, label=label)


def loss(curves: Sequence[Curve], *, name: str, label: str) -> str:
    """Training loss over the share of the budget, as inline SVG.

    Args:
        curves: At least one; x from 0 to 1.
        name: Unique in the page.
        label: For those who do not see it.
    """
    with figures.style():
        figure, axes = _axes("share of the budget, %", "training loss", height=0.8)
        plain = [
            Curve(curve.label, curve.look, [100 * x for x in curve.x], curve.y) for curve in curves
        ]
        _draw(axes, plain, markers=False)
        axes.set_xlim(0, 100)
        _label_ends(axes, [(curve.label, curve.y[-1], curve.look) for curve in plain])
        return figures.as_svg(figure, name=name, label=label)


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


def _axes(x: str, y: str, height: float = 1.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(SIZE[0], SIZE[1] * height))
    axes = figure.add_axes((0.085, 0.14 / height, 0.64, 0.83 if height == 1 else 0.79))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.tick_params(length=3)
    axes.grid(visible=False, axis="x")
    return figure, axes


def _draw(axes: Axes, curves: Sequence[Curve], *, markers: bool = True) -> None:
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


def _label_ends(axes: Axes, ends: Sequence[tuple[str, float, figures.Look]]) -> None:
    low, high = axes.get_ylim()
    ordered = sorted(ends, key=lambda end: (end[1], end[0]))
    heights = spread([y for _, y, _ in ordered], 0.065 * (high - low) * SIZE[1] / _height(axes))
    for (text, _, look), height in zip(ordered, heights, strict=True):
        short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        axes.annotate(
            short,
            xy=(1, height),
            xycoords=axes.get_yaxis_transform(),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
            parse_math=False,
            color=figures.CONTROL if look.colour == figures.CONTROL else figures.INK,
        )
    axes.set_ylim(low, high)


def _height(axes: Axes) -> float:
    return float(axes.figure.get_figheight())
