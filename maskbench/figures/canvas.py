"""What figures are drawn with: Matplotlib, which is imported when something is drawn, not before.

The names are Matplotlib's own: ``canvas.Figure`` is ``matplotlib.figure.Figure``. Modules that name
them in their signatures postpone these (``from __future__ import annotations``).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib import colormaps, rc_context
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import (
        FuncFormatter,
        LogLocator,
        MaxNLocator,
        NullFormatter,
        NullLocator,
    )

__all__ = [
    "Axes", "Figure", "FuncFormatter", "LogLocator", "MaxNLocator", "NullFormatter", "NullLocator",
    "colormaps", "rc_context",
]  # fmt: skip
ELSEWHERE = {"Axes": "axes", "Figure": "figure", "colormaps": "", "rc_context": ""}
"""Modules of Matplotlib; the other names are of its tickers."""


def __getattr__(name: str) -> Any:
    """A name of ``__all__``, from its module (PEP 562).

    Raises:
        AttributeError: It is none of these.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = ".".join(filter(None, ("matplotlib", ELSEWHERE.get(name, "ticker"))))
    return getattr(import_module(module), name)
