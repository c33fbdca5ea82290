"""The figures of a study of masks: one run's, or several strategies' in the same panels."""

from __future__ import annotations

import io
import math
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskbench import figures
from maskbench.figures import canvas
from maskbench.figures import masks as pictures
from maskbench.figures.curves import Curve
from maskbench.figures.panels import Panel, panels
from maskbench.figures.picture import as_bytes

if TYPE_CHECKING:
    from maskbench.analysis.study import Study

SHOWN = 6
SHAPES = {
    "moran": "Moran's I (blockiness)",
    "visible_components": "visible components",
    "low_frequency": "low-frequency share",
    "slope": "spectral slope",
    "anisotropy": "anisotropy",
    "hamming": "difference between images",
    "position_share": "position share",
    "same_image": "difference of two draws",
    "score_entropy": "score entropy, bits",
}
DRIFTS = {
    "difficulty gap": "difficulty gap, own model",
    "difficulty frozen gap": "difficulty gap, frozen model",
    "lambda": "lambda",
    "turnover": "turnover since the moment before",
    "map drift": "drift of the frequency map, bits",
}
"""Which quantities are drawn, and their titles."""

Rows = Sequence[Mapping[str, Any]]
Series = Sequence[tuple[str, figures.Look, Mapping[str, Rows]]]
"""Label, look and tables of each strategy."""


def saliency_panels(series: Series, metric: str = "auc") -> list[Panel]:
    """One panel per source: does the mask hide what is salient?"""
    first = series[0][2]["saliency"]
    found = []
    for source in dict.fromkeys(row["source"] for row in first):
        chosen = [
            (
                look,
                [r for r in tables["saliency"] if (r["source"], r["metric"]) == (source, metric)],
            )
            for _, look, tables in series
        ]
        title = f"{metric.upper() if metric == 'auc' else metric}: {source}"
        found.append(_panel(title, chosen, ("uniform_low", "uniform_high"), note="no such map"))
    return found


def geometry_panels(series: Series) -> list[Panel]:
    """What masks look like; quantities that nobody has are left out."""
    found = []
    for name, title in SHAPES.items():
        chosen = [
            (look, [row for row in tables["geometry"] if row["name"] == name])
            for _, look, tables in series
        ]
        if any(row["value"] is not None for _, rows in chosen for row in rows):
            found.append(_panel(title, chosen, ("null_low", "null_high")))
    return found


def drift_panels(series: Series) -> list[Panel]:
    """How masks move over the budget."""
    found = []
    for name, title in DRIFTS.items():
        chosen = [
            (look, [row for row in tables["drift"] if row["quantity"] == name])
            for _, look, tables in series
        ]
        if any(rows for _, rows in chosen):
            neutral = next((r["null"] for _, rows in chosen for r in rows), None)
            found.append(_panel(title, chosen, None, neutral=neutral))
    return found


def effect_panels(series: Series) -> list[Panel]:
    """What draws the masks, all else equal: log-odds per deviation."""
    names = dict.fromkeys(row["covariate"] for _, _, t in series for row in t["effects"])
    return [
        _panel(
            f"log-odds: {name}",
            [(k, [row for row in t["effects"] if row["covariate"] == name]) for _, k, t in series],
            None,
            neutral=0.0,
        )
        for name in names
    ]


def _panel(
    title: str,
    chosen: Sequence[tuple[figures.Look, Rows]],
    band: tuple[str, str] | None,
    *,
    neutral: float | None = None,
    note: str = "",
) -> Panel:
    curves = []
    for look, rows in chosen:
        known = [row for row in rows if row["value"] is not None]
        if known:
            ends = [(row["low"], row["high"]) for row in known]
            whole = ends if all(None not in end for end in ends) else []
            x, y = [row["share"] for row in known], [row["value"] for row in known]
            curves.append(Curve("", look, x, y, whole))
    null = None
    if band:
        rows = next((r for _, r in chosen if r), [])
        known = [row for row in rows if row.get(band[0]) is not None]
        if known:
            null = (
                [row["share"] for row in known],
                [row[band[0]] for row in known],
                [row[band[1]] for row in known],
            )
    return Panel(title, curves, null, neutral, note)


def figures_of(
    facts: Mapping[str, Any],
    study: Study,
    images: NDArray[np.uint8],
    hidden: NDArray[np.bool_],
    kinds: Sequence[str] = ("svg", "png"),
) -> dict[str, bytes]:
    """A run's figures as files: the curves in all kinds, the pictures as PNG.

    Args:
        facts: Of the study; ``run`` and ``moments``.
        study: What was found.
        images: The first few of the images, uint8.
        hidden: Their masks, (moments, images, rows, columns).
        kinds: Of files: ``svg``, ``png``, ``pdf``.
    """
    series = [(str(facts["run"]), figures.look(2), study.tables)]
    found: dict[str, bytes] = {}
    for name, drawn in (
        ("saliency", saliency_panels(series)),
        ("effects", effect_panels(series)),
        ("geometry", geometry_panels(series)),
        ("drift", drift_panels(series)),
    ):
        if drawn:
            figure = panels(drawn, [])
            found |= {f"{name}.{kind}": as_bytes(figure, kind) for kind in kinds}
    shares = [100 * moment["share"] for moment in facts["moments"]]
    found["frequency.png"] = _frequency(study, shares)
    return {**found, "masks.png": picture(images, hidden)}


def _frequency(study: Study, shares: Sequence[float]) -> bytes:
    """How often each patch is hidden, a map per moment, with the scale."""
    maps = study.frequency
    centre = float(maps.mean())
    span = pictures.reach(list(maps), centre)
    with figures.style():
        down = math.ceil(len(maps) / 5)
        figure = canvas.Figure(figsize=(7.4, 1.62 * down))
        axes = figure.subplots(down, 5, squeeze=False).ravel()
        image = None
        for axis in axes:
            axis.set_axis_off()
        for axis, frequency, share in zip(axes, maps, shares, strict=False):
            image = axis.imshow(
                frequency, cmap=pictures.DIVERGING, vmin=centre - span, vmax=centre + span
            )
            axis.set_title(f"{share:.3g} %", fontsize=9)
        if image is not None:
            bar = figure.colorbar(image, ax=axes.tolist(), shrink=0.8, label="hidden")
            bar.outline.set_visible(False)
        return as_bytes(figure, "png")


def picture(images: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> bytes:
    """Images in full, then under the masks of each moment: a PNG.

    Args:
        images: Uint8, (images, side, side, 3).
        hidden: (moments, images, rows, columns).
    """
    uris = pictures.strips(images[:SHOWN], hidden[:, :SHOWN])
    strips = [Image.open(io.BytesIO(b64decode(uri.partition(",")[2]))) for uri in uris]
    gap = pictures.GAP
    width, height = strips[0].size
    canvas = Image.new("RGB", (len(strips) * (width + gap) - gap, height), "white")
    for rank, strip in enumerate(strips):
        rgba = strip.convert("RGBA")
        canvas.paste(rgba, (rank * (width + gap), 0), rgba)
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
