"""Numbers as words: no claims, and nothing that is slow to import."""

import math
from collections.abc import Sequence

from maskbench.report.frame import Run
from maskbench.report.means import Mean
from maskbench.report.views import Group

SAID = {"images": "images", "flops": "FLOPs", "seconds": "time"}
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def count(n: int, word: str) -> str:
    """``one seed``, ``3 seeds``."""
    number = COUNTS[n] if n < 3 else f"{n:,}"
    return f"{number} {word}" + ("" if n == 1 else "s")


def signed(value: float) -> str:
    """Points with a sign: 0.013 is +1.3; what rounds to nothing is +0.0."""
    return f"{round(100 * value, 1) + 0.0:+.1f}".replace("-", "−")


def p_value(p: float | None) -> str:
    """Three digits, so that 0.0504 stays above 0.05; a dash where there is none."""
    return "–" if p is None else f"{p:.3g}"


def band(found: tuple[float, float] | None) -> str:
    """Both ends in points, rounded outwards so that rounding never excludes 0."""
    if found is None:
        return ""
    ends = (math.floor(1000 * found[0]) / 10 + 0.0, math.ceil(1000 * found[1]) / 10 + 0.0)
    return "[{:.1f}, {:.1f}]".format(*ends).replace("-", "−")


def share(found: Mean | None, *, sign: bool = False) -> str:
    """A mean in percent with its half-width, where it has one."""
    if found is None:
        return "–"
    value = signed(found.value) if sign else f"{100 * found.value:.1f}"
    return value if found.half is None else f"{value} ± {100 * found.half:.1f}"


def big(value: float) -> str:
    """A large count with a scale: 1.23 T."""
    for scale, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {letter}"
    return f"{value:,.0f} "


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def consumed(view: str, value: float) -> str:
    """An amount with its unit: ``10,000 images``, ``5.46 TFLOP``, ``87 s``."""
    if view == "flops":
        return f"{big(value)}FLOP"
    return clock(value) if view == "seconds" else f"{value:,.0f} images"


def clock(seconds: float) -> str:
    """Seconds with three digits or more, so that equal ones look equal and others do not."""
    if seconds < 600:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"


def views(names: Sequence[str]) -> str:
    """Views as a person says them: ``images, FLOPs and time``."""
    said = [SAID[name] for name in names]
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)


def matched(group: Group) -> list[str]:
    """The amounts in which all runs of a group are equal."""
    where = {"seconds": f" on {group.runs[0].machine}"}
    return [
        f"{consumed(view, group.typical(view))}{where.get(view, '')}" for view in group.views
    ] or [f"a budget of {consumed(*group.runs[0].planned)}"]


def epochs(run: Run, images: float) -> float:
    """So many images in passes over the data the run was trained on."""
    budget = run.record["budget"]
    return float(images * budget["epochs"] / budget["images"])
