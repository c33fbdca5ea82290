"""From a group to its statistics: who differs from random masking, by how much, how surely."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from maskbench import statistics
from maskbench.report.attempts import Attempts, attempts
from maskbench.report.frame import TRAINED, Run
from maskbench.report.views import Entry, Group
from maskbench.statistics import Contrast

RANDOM_KEY = 20
"""Of the generator behind flips and resamples: the same runs give the same page."""

Number = Callable[[Run], float | None]


@dataclass(frozen=True)
class Judged:
    """Everything that is tested in a group.

    Args:
        primary: Strategy to its paired differences to random in FS-AULC, Holm over them all.
        secondary: (endpoint, strategy) to the same for other endpoints: exploratory,
            Benjamini-Hochberg over them all.
        ranks: Strategy to its rank letter; None without one.
        attempts: Strategy to its runs, those with no finished run too.
        findings: Strategy to what its primary contrast has shown, if anything.
    """

    primary: Mapping[str, Contrast]
    secondary: Mapping[tuple[str, str], Contrast]
    ranks: Mapping[str, str | None]
    attempts: Mapping[str, Attempts]
    findings: Mapping[str, str | None]

    @property
    def none_finished(self) -> list[Attempts]:
        """Strategies of which no run finished: they have no row of numbers."""
        return [one for one in self.attempts.values() if not one.ok]

    @property
    def survivors(self) -> list[Attempts]:
        """Strategies of which too many runs failed."""
        return [one for one in self.attempts.values() if one.flagged]


@lru_cache(maxsize=64)
def judge(group: Group) -> Judged:
    """The statistics of a group; computed once."""
    tried = {one.strategy: one for one in attempts(group)}
    primary = _primary(group)
    reference = group.reference
    spoilt = reference is not None and tried[reference.label].flagged
    findings = {
        name: None if spoilt or tried[name].flagged else statistics.finding(one)
        for name, one in primary.items()
    }
    return Judged(primary, _secondary(group), _ranks(group, tried), tried, findings)


def endpoint(group: Group) -> Number:
    """FS-AULC over the shots that all runs of a group have."""
    return lambda run: run.aulc(group.shots) if group.shots else None


def secondary(group: Group) -> dict[str, Number]:
    """The other endpoints by name: the largest shot, and 20 nearest neighbours."""
    found: dict[str, Number] = {"20-NN": lambda run: run.neighbours.get(TRAINED)}
    if group.shots:
        most = group.shots[-1]
        return {f"{most}-shot": lambda run: run.accuracy(TRAINED, most), **found}
    return found


def _primary(group: Group) -> dict[str, Contrast]:
    found = _contrasts(group, endpoint(group))
    return dict(zip(found, statistics.holm(list(found.values())), strict=True))


def _secondary(group: Group) -> dict[tuple[str, str], Contrast]:
    found = {
        (name, label): one
        for name, number in secondary(group).items()
        for label, one in _contrasts(group, number).items()
    }
    return dict(zip(found, statistics.benjamini_hochberg(list(found.values())), strict=True))


def _contrasts(group: Group, number: Number) -> dict[str, Contrast]:
    """Strategy to its differences to random over the seeds that both have."""
    found: dict[str, Contrast] = {}
    if group.reference is None:
        return found
    base = by_seed(group.reference, number)
    for entry in group.entries:
        own = by_seed(entry, number)
        seeds = sorted(own.keys() & base.keys())
        if seeds and not entry.is_reference:
            ours, theirs = ([scores[seed] for seed in seeds] for scores in (own, base))
            found[entry.label] = statistics.contrast(ours, theirs, generator())
    return found


def by_seed(entry: Entry, number: Number) -> dict[int, float]:
    """A number of every run that has it, by seed."""
    found = ((run.seed, number(run)) for run in entry.runs)
    return {seed: value for seed, value in found if value is not None}


def generator() -> np.random.Generator:
    """A fresh generator, the same every time."""
    return np.random.default_rng(RANDOM_KEY)


def _ranks(group: Group, tried: Mapping[str, Attempts]) -> dict[str, str | None]:
    """Letters over the strategies that may be ranked, by FS-AULC."""
    names = [entry.label for entry in group.entries if not tried[entry.label].flagged]
    scores = [by_seed(entry, endpoint(group)) for entry in group.entries if entry.label in names]
    return dict(zip(names, statistics.letters(table(scores)), strict=True))


def table(scores: Sequence[Mapping[int, float]]) -> statistics.Array:
    """Scores by strategy and seed, shape (strategies, seeds); NaN where a seed is missing."""
    seeds = sorted({seed for own in scores for seed in own})
    found = [[own.get(seed, np.nan) for seed in seeds] for own in scores]
    return np.array(found, dtype=np.float64).reshape(len(scores), len(seeds))
