"""Paired differences to random masking as rows of texts, for the terminal and the page."""

from collections.abc import Iterable

from maskbench.report.judge import judge
from maskbench.report.views import Group
from maskbench.report.words import band, count, p_value, signed
from maskbench.statistics import FOR_INTERVAL, FOR_TEST, Contrast

ABOVE = "seeds > 0, %"
HOW = (
    "Points of FS-AULC, by pretraining seed, the same seeds of both. In brackets: 95 % t-interval. "
    "d_z: mean over standard deviation. Seeds > 0: share of seeds above random, with its Wilson "
    "interval. p: exact sign-flip test, corrected by Holm's method over all strategies of the "
    "table; from six seeds on."
)
EXPLORATORY = (
    "Exploratory: points of accuracy. p: exact sign-flip test, corrected by Benjamini and "
    "Hochberg's method over this table; from six seeds on. No verdict rests on these."
)


def differences(group: Group) -> list[dict[str, str]]:
    """The primary endpoint; nothing below three seeds."""
    return [
        {
            "strategy": name,
            "seeds": str(one.seeds),
            "tier": one.tier,
            "− random": _points(one),
            "d_z": "–" if one.d_z is None else f"{one.d_z:.2f}".replace("-", "−"),
            ABOVE: _above(one),
            "Holm p": p_value(one.p_adjusted),
        }
        for name, one in judge(group).primary.items()
        if one.seeds >= FOR_INTERVAL
    ]


def exploratory(group: Group) -> list[dict[str, str]]:
    """The other endpoints; nothing below three seeds, p from six on."""
    return [
        {
            "strategy": name,
            "endpoint": endpoint,
            "− random": _points(one),
            "BH p": p_value(one.p_adjusted),
        }
        for (endpoint, name), one in judge(group).secondary.items()
        if one.seeds >= FOR_INTERVAL
    ]


def tested(group: Group) -> bool:
    """Whether any endpoint has a p-value."""
    return any(one.seeds >= FOR_TEST for one in judge(group).secondary.values())


def power(group: Group) -> list[str]:
    """What so many seeds can show: a sentence per strategy, from three seeds on."""
    return [_power(name, one) for name, one in judge(group).primary.items() if one.band]


def _power(name: str, one: Contrast) -> str:
    found = f"{name}: with {count(one.seeds, 'seed')} only differences above "
    found += f"{100 * (one.detectable or 0):.1f} points would show (80 % power)"
    if one.correlation is None:
        return f"{found}."
    return f"{found}; paired runs correlate {one.correlation:.2f}.".replace(" -", " −")


def unfinished(group: Group) -> list[str]:
    """What became of runs that were started and did not finish, a sentence per strategy."""
    return [
        f"{one.strategy}: {one.ok} of {one.started} started runs finished"
        f"{_and((one.failed, 'failed'), (one.incomplete, 'incomplete'))}"
        f"{' (none to average)' if not one.ok else ''}."
        for one in judge(group).attempts.values()
        if one.started > one.ok
    ]


def _and(*parts: tuple[int, str]) -> str:
    told: Iterable[str] = (f"{n} {word}" for n, word in parts if n)
    return "".join(f", {each}" for each in told)


def _points(one: Contrast) -> str:
    return f"{signed(one.value)} {band(one.band)}".strip()


def _above(one: Contrast) -> str:
    if one.above is None or one.above_low is None or one.above_high is None:
        return "–"
    return f"{100 * one.above:.0f} [{100 * one.above_low:.0f}, {100 * one.above_high:.0f}]"
