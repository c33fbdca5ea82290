"""A figure with its name and what it shows: inline in a page, or as a file of its own."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from maskbench import figures
from maskbench.figures import canvas

DPI = 160
GRID = "#d9d9d9"
KINDS = ("svg", "png", "pdf")
FONTS = "'DejaVu Sans', Verdana, Arial, sans-serif"
"""Of SVG files, whose text is text: the first is what the figure was laid out with, the others are
no wider or nearly as wide."""
_SILENT = {"png": ("Software",), "pdf": ("CreationDate",)}


@dataclass(frozen=True)
class Picture:
    """A figure of a report.

    Args:
        name: Stem of its files and prefix of its ids; letters, digits and hyphens only.
        draw: Makes what is drawn, the same every time; it is not kept, a report has many.
        label: What it shows, in numbers, for those who do not see it.
    """

    name: str
    draw: Callable[[], canvas.Figure]
    label: str

    @property
    def figure(self) -> canvas.Figure:
        """Drawn anew."""
        return self.draw()

    def svg(self) -> str:
        """Inline SVG in the page's colours."""
        return figures.themed(self._raw, name=self.name, label=self.label)

    def __html__(self) -> str:
        """What a template shows of it: it is drawn then."""
        return self.svg()

    def file(self, kind: str) -> bytes:
        """A file of its own: ``svg``, ``png`` or ``pdf``."""
        return self.files([kind])[kind]

    def files(self, kinds: Sequence[str]) -> dict[str, bytes]:
        """Several of them, drawn once."""
        figure = self.draw() if set(kinds) - {"svg"} else None
        return {
            kind: _on_white(self._raw) if kind == "svg" or not figure else as_bytes(figure, kind)
            for kind in kinds
        }

    @cached_property
    def _raw(self) -> str:
        return figures.raw_svg(self.draw())


def as_bytes(figure: canvas.Figure, kind: str) -> bytes:
    """A figure as a file of its own, on white; the same bytes every time.

    Args:
        figure: Is as it was afterwards.
        kind: ``svg`` (text as text), ``png`` (160 dots per inch) or ``pdf`` (fonts embedded).
    """
    if kind == "svg":
        return _on_white(figures.raw_svg(figure))
    buffer = io.BytesIO()
    with figures.style(), warnings.catch_warnings(), _light_grid(figure):
        warnings.filterwarnings("ignore", "Glyph .* missing")
        metadata = dict.fromkeys(_SILENT[kind])
        figure.savefig(buffer, format=kind, dpi=DPI, facecolor="white", metadata=metadata)
    return buffer.getvalue()


def _on_white(raw: str) -> bytes:
    """SVG as a file: its own fonts, a light grid, a white ground."""
    text = re.sub(r"<[^>]*>", lambda tag: _of_file(tag.group()), raw)
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return re.sub(r"<svg[^>]*>", lambda tag: f"{tag.group()}\n{ground}", text, count=1).encode()


def _of_file(tag: str) -> str:
    return figures.set_font(tag, FONTS).replace(figures.GRID, GRID)


@contextmanager
def _light_grid(figure: canvas.Figure) -> Iterator[None]:
    lines = [
        line for axes in figure.axes for line in (*axes.get_xgridlines(), *axes.get_ygridlines())
    ]
    before = [line.get_color() for line in lines]
    for line in lines:
        line.set_color(GRID)
    try:
        yield
    finally:
        for line, colour in zip(lines, before, strict=True):
            line.set_color(colour)
