"""The mask player: the same images under every strategy, over training, as data for the page."""

import base64
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import compress
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from maskbench import figures
from maskbench.analysis import drift
from maskbench.figures import canvas
from maskbench.report.frame import Run
from maskbench.report.study_file import Found
from maskbench.report.tape import Tape

COUNT = 6
"""Images that are shown."""
PIXELS = 2_000_000
"""Of all reconstructions of a group together, at most about so many: they make the page large."""
QUALITY, GAP = 82, 4
LAYERS = ("image", "mask", "reconstruction", "saliency")
WIDE, HIGH, LEFT, TOP = 560, 96, 34, 8


@dataclass(frozen=True)
class Reel:
    """One strategy in the player.

    Args:
        label: The strategy.
        look: Of the strategy in the group's figures; its schedule is drawn in it.
        run: The run that stands for it.
        tape: Its masks.
        study: What is known of them; None without a study.
    """

    label: str
    look: figures.Look
    run: Run
    tape: Tape
    study: Found | None

    @property
    def shares(self) -> list[float]:
        """Of the budget, of every moment."""
        steps = self.run.cost("steps") or 1
        return [float(step / steps) for step in self.tape.steps]


def player(reels: Sequence[Reel]) -> dict[str, Any] | None:
    """Everything the template and the script need; None where nothing can be played.

    Only strategies whose masks are of the images of the first are played; the others are named.

    Args:
        reels: One per strategy.
    """
    same = [_same(reel.tape, reels[0].tape) for reel in reels]
    alike = list(compress(reels, same))
    if not alike:
        return None
    first = alike[0].tape
    count = min(COUNT, len(first.shown))
    moments = max(alike, key=lambda reel: len(reel.shares)).shares
    side = _side(first, len(alike), len(moments), count)
    lambdas = [drift.logged(reel.run.metrics) for reel in alike]
    image, own = _sprite(first.shown[:count])
    strategies = [
        _strategy(reel, course, count, side) for reel, course in zip(alike, lambdas, strict=True)
    ]
    sources = list(dict.fromkeys(name for one in strategies for name in one["saliency"]))
    told = {
        "count": count,
        "rows": int(first.hidden.shape[2]),
        "gap": GAP,
        "side": own,
        "rebuilt_side": side,
        "image": image,
        "colours": _text(_colours()),
        "shares": [round(share, 4) for share in moments],
        "strategies": strategies,
    }
    rebuilt = any(reel.tape.rebuilt is not None for reel in alike)
    there = {"reconstruction": rebuilt, "saliency": bool(sources)}
    return {
        "count": count,
        "moments": len(moments),
        "layers": [(name, name, there.get(name, True)) for name in LAYERS],
        "sources": sources,
        "strategies": [{"label": reel.label, "seed": reel.run.seed} for reel in alike],
        "schedule": _schedule(alike, lambdas),
        "courses": [
            {"label": reel.label, "stroke": figures.stroke(reel.look)}
            for reel in compress(alike, lambdas)
        ],
        "others": [reel.label for reel, played in zip(reels, same, strict=True) if not played],
        "data": Markup(_embedded(told)),  # noqa: S704 escaped for a script element
    }


def _same(tape: Tape, other: Tape) -> bool:
    grids = tape.hidden.shape[1:] == other.hidden.shape[1:]
    return grids and np.array_equal(tape.shown, other.shown)


def _embedded(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _strategy(reel: Reel, course: Mapping[float, float], count: int, side: int) -> dict[str, Any]:
    tape = reel.tape
    bits = [np.packbits(moment[:count].reshape(-1)) for moment in tape.hidden]
    shares = reel.shares
    told = {
        "label": reel.label,
        "shares": [round(share, 4) for share in shares],
        "hidden": [_text(each) for each in bits],
        "saliency": _maps(reel, count),
        "words": [_words(share, course) for share in shares],
    }
    if tape.rebuilt is not None and len(tape.rebuilt) == len(shares):
        told["rebuilt"] = [_sprite(moment[:count], side)[0] for moment in tape.rebuilt]
    return told


def _words(share: float, course: Mapping[float, float]) -> str:
    text = f"{100 * share:.3g} % of the budget"
    if not course:
        return text
    value = np.interp(share, list(course), list(course.values()))
    return f"{text}, λ = {value:.2f}".replace("-", "−")


def _maps(reel: Reel, count: int) -> dict[str, str]:
    """Saliency of the images by source, each image from its least to its most salient patch."""
    found: dict[str, str] = {}
    if reel.study is None or not _of_these(reel.study, reel.tape):
        return found
    for name, maps in reel.study.maps.items():
        own = maps[:count]
        if len(own) < count or not np.isfinite(own).all():
            continue
        low, high = own.min(axis=(1, 2), keepdims=True), own.max(axis=(1, 2), keepdims=True)
        levels = (own - low) / np.where(high > low, high - low, 1)
        found[name] = _text((255 * levels).round().astype(np.uint8))
    return found


def _of_these(study: Found, tape: Tape) -> bool:
    """Whether a study begins with the images of a tape."""
    positions = tape.positions[: study.document.images]
    return hashlib.sha256(positions.tobytes()).hexdigest() == study.document.images_sha256


def _side(tape: Tape, strategies: int, moments: int, count: int) -> int:
    """Pixels along a reconstruction's side: whole ones per patch, fewer where there are many."""
    rows, own = int(tape.hidden.shape[2]), int(tape.shown.shape[1])
    if tape.rebuilt is not None:
        own = int(tape.rebuilt.shape[2])
    most = math.isqrt(PIXELS // (strategies * moments * count))
    return own if own <= most else max(rows, most // rows * rows)


def _sprite(images: NDArray[np.uint8], side: int | None = None) -> tuple[str, int]:
    """Images side by side as one WebP data URI, and their side in pixels."""
    count, own = images.shape[:2]
    wanted = side or min(own, 96)
    joined = Image.fromarray(np.ascontiguousarray(images.transpose(1, 0, 2, 3)).reshape(own, -1, 3))
    if wanted != own:
        joined = joined.resize((count * wanted, wanted), Image.Resampling.BOX)
    buffer = io.BytesIO()
    joined.save(buffer, format="WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", wanted


def _text(array: NDArray[np.uint8]) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _colours() -> NDArray[np.uint8]:
    """256 colours from dark to bright, uniform to the eye: (256, 3)."""
    found: NDArray[np.uint8] = canvas.colormaps["cividis"](np.arange(256), bytes=True)[:, :3]
    return found


def _schedule(reels: Sequence[Reel], courses: Sequence[Mapping[float, float]]) -> Markup | str:
    """Lambda over the budget as inline SVG, with a line that the script moves."""
    known = [(reel, course) for reel, course in zip(reels, courses, strict=True) if course]
    if not known:
        return ""
    values = [value for _, course in known for value in course.values()]
    low, high = min(*values, 0.0), max(*values, 0.0)
    span = high - low or 1.0

    def x(share: float) -> float:
        return LEFT + share * (WIDE - LEFT - 8)

    def y(value: float) -> float:
        return TOP + (high - value) / span * (HIGH - 2 * TOP)

    drawn = [
        f'<line class="zero" x1="{x(0):.1f}" x2="{x(1):.1f}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>'
    ]
    for reel, course in known:
        points = " ".join(f"{x(share):.1f},{y(value):.1f}" for share, value in _thin(course))
        stroke = figures.stroke(reel.look)
        drawn.append(f'<polyline class="course" style="{stroke}" points="{points}"/>')
    ticks = "".join(
        f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}">{value:.2g}</text>'
        for value in sorted({low, high})
    )
    now = (
        f'<line class="now" data-left="{x(0):.1f}" data-wide="{x(1) - x(0):.1f}" '
        f'x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{TOP}" y2="{HIGH - TOP}"/>'
    )
    said = "; ".join(
        f"{reel.label}: {next(iter(course.values())):.2g} at first, "
        f"{list(course.values())[-1]:.2g} at the end"
        for reel, course in known
    )
    label = escape(f"Lambda over the budget. {said}.", quote=True)
    body = f"{''.join(drawn)}{ticks}{now}"
    return Markup(  # noqa: S704 numbers, and an escaped label
        f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{label}">{body}</svg>'
    )


def _thin(course: Mapping[float, float], most: int = 120) -> list[tuple[float, float]]:
    points = list(course.items())
    chosen = np.unique(np.linspace(0, len(points) - 1, most).astype(int))
    return [points[index] for index in chosen]
