"""Paired differences to random masking as a figure, with its numbers as texts."""

from functools import partial
from typing import Any

from maskbench.figures import forest as drawn
from maskbench.report.drawings import shown
from maskbench.report.judge import judge
from maskbench.report.pictures import look
from maskbench.report.views import Group
from maskbench.report.words import band, p_value, signed
from maskbench.statistics import MARGIN, Contrast

AXIS = "FS-AULC, difference to random in points"


def forest(group: Group, name: str) -> dict[str, Any] | None:
    """The primary endpoint of every strategy against random masking, by pretraining seed.

    Args:
        group: Runs that may be compared.
        name: Of the picture.

    Returns:
        ``svg``, ``picture``, ``margin`` in points, ``rows`` of texts; None where no strategy
        shares a seed with random masking.
    """
    found = judge(group).primary
    if not found:
        return None
    ranks = {entry.label: rank for rank, entry in enumerate(group.entries)}
    rows = [
        drawn.Row(
            label,
            look(group, ranks[label]),
            one.differences,
            one.value if one.band else None,
            one.band,
            _told(one).replace(", n", "\nn"),
        )
        for label, one in found.items()
    ]
    told = "; ".join(f"{label} {_told(one)}" for label, one in found.items())
    draw = partial(drawn.forest, rows, MARGIN, title=AXIS)
    return {
        **shown(name, draw, f"FS-AULC minus that of random, in points: {told}."),
        "margin": 100 * MARGIN,
        "rows": [_row(label, one) for label, one in found.items()],
    }


def _told(one: Contrast) -> str:
    """The mean, its interval, n and p: as much of it as there is."""
    if not one.band:
        return f"n = {one.seeds}, no interval"
    p = "" if one.p_adjusted is None else f", Holm p = {p_value(one.p_adjusted)}"
    return f"{signed(one.value)} {band(one.band)}, n = {one.seeds}{p}"


def _row(label: str, one: Contrast) -> dict[str, str]:
    return {
        "strategy": label,
        "n": str(one.seeds),
        "− random": signed(one.value),
        "95 % interval": band(one.band) or "–",
        "Holm p": p_value(one.p_adjusted),
        "by seed": " ".join(signed(difference) for difference in one.differences),
    }
