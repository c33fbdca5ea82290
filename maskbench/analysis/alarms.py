"""Collapse of a mask generator, in words: alarms on the quantities of ``geometry.describe``."""

from collections.abc import Iterable

from maskbench.analysis.quantity import Quantity

ALIKE = 0.1 / 0.375
"""Hamming distance over that of random masks: 0.1 of the patches at a hidden share of 0.75."""
FIXED = 0.9
CERTAIN = 0.05
HALF = 0.5
MISSED = 0.05
STRIPES = 2.0


def alarms(quantities: Iterable[Quantity], progress: float) -> list[str]:
    """What looks like collapse, with the number and the threshold; empty where nothing does.

    Those of soft scores are judged only if the scores were given, low score entropy only before
    half of training. Stripes must also be outside the null band: few masks on a small grid differ
    in direction by chance.

    Args:
        quantities: Of one set of masks.
        progress: Share of training that is done, in [0, 1].

    Raises:
        ValueError: The progress is outside.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress must lie in [0, 1], not {progress}")
    known = {one.name: one for one in quantities}
    found = [_alike(known), _fixed(known), _missed(known), _stripes(known)]
    if progress < HALF:
        found.insert(2, _certain(known, progress))
    return [words for words in found if words]


def _value(known: dict[str, Quantity], name: str) -> float | None:
    return known[name].value if name in known else None


def _alike(known: dict[str, Quantity]) -> str | None:
    value = _value(known, "hamming")
    if value is None or known["hamming"].null is None:
        return None
    threshold = ALIKE * known["hamming"].null
    if value >= threshold:
        return None
    return (
        f"Masks of different images are nearly alike: two differ in {value:.3f} of the patches, "
        f"below {threshold:.3f} (random masks: {known['hamming'].null:.3f})."
    )


def _fixed(known: dict[str, Quantity]) -> str | None:
    value = _value(known, "position_share")
    if value is None or value <= FIXED:
        return None
    return (
        f"Nearly the same mask for all images: position explains {value:.3f} of what is hidden, "
        f"above {FIXED}."
    )


def _certain(known: dict[str, Quantity], progress: float) -> str | None:
    value = _value(known, "score_entropy")
    if value is None or value >= CERTAIN:
        return None
    return (
        f"The generator is already certain at {progress:.0%} of training: score entropy "
        f"{value:.3f} bits, below {CERTAIN}."
    )


def _missed(known: dict[str, Quantity]) -> str | None:
    value = _value(known, "soft_share_error")
    if value is None or abs(value) <= MISSED:
        return None
    side = "more" if value > 0 else "less"
    return (
        f"The soft scores hide {side} than asked: their mean share is off by {value:+.3f}, "
        f"beyond {MISSED}."
    )


def _stripes(known: dict[str, Quantity]) -> str | None:
    ratio = known.get("anisotropy")
    if ratio is None or ratio.null is None:
        return None
    if ratio.value is None:
        vertical = known.get("joins_vertical")
        if vertical is None or vertical.null_low is None or vertical.null_low <= 0:
            return None
        return (
            f"Vertical stripes: no vertical neighbours differ (random masks: {vertical.null:.1f} "
            f"pairs), so anisotropy is beyond {STRIPES:g}."
        )
    low, high = ratio.null_low, ratio.null_high
    inside = low is not None and high is not None and low <= ratio.value <= high
    if inside or 1 / STRIPES <= ratio.value <= STRIPES:
        return None
    kind = "Vertical" if ratio.value > 1 else "Horizontal"
    return (
        f"{kind} stripes: {ratio.value:.3f} times as many horizontal as vertical neighbours "
        f"differ, outside {1 / STRIPES:g} to {STRIPES:g}."
    )
