"""The verdict of a group, generated from its tests: it says only what its seeds have earned."""

from maskbench.report.attempts import Attempts
from maskbench.report.judge import Judged, judge
from maskbench.report.views import Group
from maskbench.report.words import band, count, p_value, signed, views
from maskbench.statistics import FOR_CLAIM, MARGIN, Contrast, Tier, tier

WITHIN = f"no difference within {100 * MARGIN:.1f} point"


def verdict(group: Group) -> str:
    """What this group of runs has earned to say."""
    judged = judge(group)
    fewest = min(len(entry.runs) for entry in group.entries)
    tail = _tail(min((one.seeds for one in judged.primary.values()), default=fewest))
    if not group.shots:
        return "These runs have no probes: this page compares their cost and their masks only."
    if group.reference is None:
        return f"No run of random masking matches: nothing to set apart.{tail}"
    if not judged.primary:
        alone = len(group.entries) == 1
        why = "Only random masking was run" if alone else "No seed is shared with random masking"
        return f"{why}: nothing to set apart yet.{tail}"
    listed = "; ".join(_one(judged, name, group.reference.label) for name in judged.primary)
    others = [entry.label for entry in group.entries if not entry.is_reference]
    lone = [label for label in others if label not in judged.primary]
    listed += f"; no seed shared with random: {', '.join(lone)}" if lone else ""
    return f"Few-shot accuracy (FS-AULC) at equal {views(group.views)}: {listed}.{tail}"


def _one(judged: Judged, name: str, reference: str) -> str:
    """A strategy's part of the sentence."""
    one, found = judged.primary[name], judged.findings[name]
    points = f"{name} − random = {signed(one.value)} points"
    points += f" {band(one.band)}" if one.band else ""
    spoilt = [judged.attempts[each] for each in (name, reference) if judged.attempts[each].flagged]
    if spoilt:
        return f"{points}, but {' and '.join(lost(each) for each in spoilt)}: no verdict"
    if one.tier is Tier.SMOKE:
        return f"{points}, observed in {'one run' if one.seeds == 1 else 'two runs'}"
    if one.tier is Tier.DRAFT:
        return f"{points} ({count(one.seeds, 'seed')})"
    if found in ("better", "worse"):
        said = f"{name} is {found} than random: {points} ({tests(one)})"
        small = max(abs(end) for end in one.band or (1.0,)) < one.margin
        return f"{said}, by less than {100 * one.margin:.1f} point" if small else said
    if found == "within":
        return f"{name}: {WITHIN}, {points} ({tests(one)}, equivalence p = {_equal(one)})"
    return f"{points} ({tests(one)}), consistent with {_consistent(one)}"


def tests(one: Contrast) -> str:
    """What stands behind a difference: ``8 seeds, d_z = 1.20, Holm p = 0.0078``."""
    said = [count(one.seeds, "seed")]
    said += [] if one.d_z is None else [f"d_z = {one.d_z:.2f}".replace("-", "−")]
    said += [] if one.p_adjusted is None else [f"Holm p = {p_value(one.p_adjusted)}"]
    return ", ".join(said)


def _equal(one: Contrast) -> str:
    return p_value(one.p_equivalent)


def _consistent(one: Contrast) -> str:
    return {1: "a gain", -1: "a loss"}.get(one.side, "no difference")


def lost(one: Attempts) -> str:
    """``2 of 5 runs of clmae failed``."""
    return f"{one.failed} of {one.ok + one.failed} runs of {one.strategy} failed"


def _tail(seeds: int) -> str:
    """What the fewest paired seeds of the group allow."""
    found = tier(seeds)
    if found is Tier.SMOKE:
        one = " This is one seed: a smoke test, no verdict."
        return one if seeds == 1 else " With two seeds there is no interval and no verdict."
    if found is Tier.DRAFT:
        return f" A draft: {count(seeds, 'seed')} give an interval and no test."
    if found is Tier.STANDARD:
        return f" {count(seeds, 'seed')}: a verdict takes {FOR_CLAIM}."
    return ""
