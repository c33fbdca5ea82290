"""A figure with its name and what it shows: inline in a page, or as a file of its own."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from matplotlib.figure import Figure

from maskbench import figures

DPI = 160
GRID = "#d9d9d9"
KINDS = ("svg", "png", "pdf")
FONTS = "'DejaVu Sans', Verdana, Arial, sans-serif"
"""Of SVG files, whose text is text: the first is what the figure was laid out with, the others are
no wider or nearly as wide."""
_SILENT = {"svg": ("Date", "Creator"), "png": ("Software",), "pdf": ("CreationDate",)}


@dataclass(frozen=True)
class Picture:
    """A figure of a report.

    Args:
        name: Stem of its files and prefix of its ids; letters, digits and hyphens only.
        figure: What is drawn.
        label: What it shows, in numbers, for those who do not see it.
    """

    name: str
    figure: Figure
    label: str

    def svg(self) -> str:
        """Inline SVG in the page's colours."""
        return figures.as_svg(self.figure, name=self.name, label=self.label)

    def file(self, kind: str) -> bytes:
        """A file of its own: ``svg``, ``png`` or ``pdf``."""
        return as_bytes(self.figure, kind)


def as_bytes(figure: Figure, kind: str) -> bytes:
    """A figure as a file of its own, on white; the same bytes every time.

    Args:
        figure: Is as it was afterwards.
        kind: ``svg`` (text as text), ``png`` (160 dots per inch) or ``pdf`` (fonts embedded).
    """
    buffer = io.BytesIO()
    with figures.style(), warnings.catch_warnings(), _light_grid(figure):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # SVG: the reader's fonts draw it
        metadata = dict.fromkeys(_SILENT[kind])
        figure.savefig(buffer, format=kind, dpi=DPI, facecolor="white", metadata=metadata)
    found = buffer.getvalue()
    if kind == "svg":
        found = re.sub(rb"<[^>]*>", lambda tag: _own_font(tag.group()), found)
    return found


def _own_font(tag: bytes) -> bytes:
    return figures.set_font(tag.decode(), FONTS).encode()


@contextmanager
def _light_grid(figure: Figure) -> Iterator[None]:
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
