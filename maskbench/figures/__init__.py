"""Figures as text and bytes: numbers in, inline SVG or a data URI out; no pyplot, no globals."""

from __future__ import annotations

import base64
import html
import io
import re
import warnings
from dataclasses import dataclass
from typing import Any

from PIL import Image

from maskbench.figures import canvas

INK, LINE, GRID, CONTROL = "#010203", "#040506", "#040507", "#767677"
SERIES = (INK, "#d55e00", "#0072b2", "#009e73", "#cc79a7")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "d", "p")
SCALE = 1.35
"""Pixels per point in a page, at most: letters have one size in all figures."""
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
"""Twelve markers: as many strategies are told apart without a look at their colours."""
_COLOURS = {
    INK: "currentColor",
    LINE: "var(--line)",
    GRID: "var(--line)",
    CONTROL: "var(--control)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(SERIES) if i},
}
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "maskbench",
    "pdf.fonttype": 42,
    "text.usetex": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
}


@dataclass(frozen=True)
class Look:
    """How one series is drawn: never told apart by colour alone."""

    colour: str
    marker: str
    dash: Any
    width: float = 1.8


def look(rank: int) -> Look:
    """The look of a strategy; rank 0 is the reference, drawn in the colour of the text."""
    return Look(
        SERIES[rank % len(SERIES)], MARKERS[rank % len(MARKERS)], DASHES[rank % len(DASHES)]
    )


def stroke(look: Look) -> str:
    """A look as CSS, of lines that the page draws itself: as the figures' lines, in its colours."""
    told = f"stroke: {_COLOURS[look.colour]}; stroke-width: {look.width:g}"
    if look.dash == "-":
        return told
    _, pattern = look.dash
    dashes = " ".join(f"{look.width * length:g}" for length in pattern)  # as Matplotlib scales them
    return f"{told}; stroke-dasharray: {dashes}"


def control(rank: int) -> Look:
    """The look of a control: thin, grey, no strategy's."""
    return Look(CONTROL, ("x", "+", "1")[rank % 3], (0, (1, 1.5)), 1.2)


def style() -> Any:
    """A context in which figures are made; nothing global changes."""
    return canvas.rc_context(_RC)


def raw_svg(figure: canvas.Figure) -> str:
    """A figure as SVG in the colours it was made with, transparent; the same every time."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts draw the text
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def themed(raw: str, *, name: str, label: str) -> str:
    """Inline SVG: themed by the page's CSS, ids unique by ``name``.

    Args:
        raw: Of ``raw_svg``.
        name: Prefix of every id; unique in the page, letters, digits and hyphens only.
        label: What the figure shows, for those who do not see it.
    """
    text = raw[raw.index("<svg") :]
    text = re.sub(r"<style type=\"text/css\">.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", lambda tag: _themed(tag.group(), name), text)  # texts stay as told
    box = re.search(r'viewBox="[\d.]+ [\d.]+ ([\d.]+) [^"]*"', text)
    size = f'{box.group()} style="max-width: {SCALE * float(box.group(1)):.0f}px"' if box else ""
    head = f'<svg {size} role="img" aria-label="{html.escape(label)}">'
    return re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)


def _themed(tag: str, name: str) -> str:
    """A tag with ids of its own, the page's font and the page's colours."""
    tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag)
    tag = set_font(tag, "inherit")
    for colour, themed in _COLOURS.items():
        tag = tag.replace(colour, themed)
    return tag


def set_font(svg: str, family: str) -> str:
    """Texts of an SVG in another font family; Matplotlib writes it in one of two ways."""
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: ", svg)
    return re.sub(r"(\bfont-family: )[^;\"]*", rf"\g<1>{family}", svg)


def short(text: str, most: int) -> str:
    """At most so many characters: a long text keeps its head and its tail."""
    if len(text) <= most:
        return text
    tail = most // 2
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def as_png(image: Image.Image) -> str:
    """A PNG as a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
