"""The leaderboard: a row per strategy with its accuracy, its differences and its cost."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from maskbench import statistics
from maskbench.report.attempts import Attempts
from maskbench.report.frame import TRAINED, UNTRAINED, Run
from maskbench.report.judge import endpoint, judge
from maskbench.report.means import Mean
from maskbench.report.views import Entry, Group
from maskbench.report.words import count
from maskbench.statistics import Contrast
from maskbench.trust import plain


@dataclass(frozen=True)
class Row:
    """A line of the leaderboard; accuracies and differences from 0 to 1.

    ``primary`` is the paired difference to random masking in FS-AULC with all its statistics,
    ``paired`` its mean and interval alone; ``difference`` is that in accuracy with ``shots``
    labelled images per class.
    """

    strategy: str
    seeds: list[int]
    shots: int | None
    accuracy: Mean | None
    fs_aulc: Mean | None
    knn20: Mean | None
    difference: Mean | None
    paired: Mean | None
    primary: Contrast | None
    finding: str | None
    rank: str | None
    tier: str
    runs: Attempts
    over_untrained: Mean | None
    flops_relative: float
    flops_known: bool
    seconds_relative: float | None
    images_per_s: float
    training_seconds: float
    learning_rate: str
    prior: str

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "runs": self.runs.plain()}


@lru_cache(maxsize=64)
def leaderboard(group: Group) -> Sequence[Row]:
    """One row per strategy, in the group's order; computed once."""
    return tuple(_row(group, entry) for entry in group.entries)


def _row(group: Group, entry: Entry) -> Row:
    shots = group.shots[-1] if group.shots else None
    judged = judge(group)

    def accuracy(run: Run) -> float | None:
        return run.accuracy(TRAINED, shots) if shots else None

    def margin(run: Run) -> float | None:
        trained, untrained = accuracy(run), run.accuracy(UNTRAINED, shots or 0)
        return None if trained is None or untrained is None else trained - untrained

    other = group.reference
    base = other if other is not entry else None
    return Row(
        strategy=entry.label,
        seeds=[run.seed for run in entry.runs],
        shots=shots,
        accuracy=entry.mean(accuracy),
        fs_aulc=entry.mean(endpoint(group)),
        knn20=entry.mean(lambda run: run.neighbours.get(TRAINED)),
        difference=entry.paired(base, accuracy) if base else None,
        paired=entry.paired(base, endpoint(group)) if base else None,
        primary=judged.primary.get(entry.label),
        finding=judged.findings.get(entry.label),
        rank=judged.ranks.get(entry.label),
        tier=statistics.tier(len(entry.runs)),
        runs=judged.attempts[entry.label],
        over_untrained=entry.mean(margin),
        flops_relative=_sure(entry.mean(lambda run: run.cost("flops_relative_to_random"))),
        flops_known=entry.says_cost,
        seconds_relative=_relative_seconds(group, entry),
        images_per_s=_sure(entry.mean(lambda run: run.cost("images_per_s"))),
        training_seconds=_sure(entry.mean(lambda run: run.cost("seconds", "training"))),
        learning_rate=_learning_rate(entry),
        prior=_prior(entry),
    )


def _learning_rate(entry: Entry) -> str:
    """The rate its runs used and how it was found."""

    def one(run: Run) -> str:
        found = f"chosen from {count(run.trials, 'trial')}" if run.trials else "not tuned"
        return plain(f"{run.record['settings'].get('base_lr')}, {found}")

    return "; ".join(dict.fromkeys(one(run) for run in entry.runs))


def learning_rates(group: Group) -> str:
    """One sentence on the strategies' learning rates; shared by all if none was tuned."""
    rates = {row.strategy: row.learning_rate for row in leaderboard(group)}
    if len(set(rates.values())) == 1:
        return f"Base learning rate: {next(iter(rates.values()))}."
    listed = "; ".join(f"{strategy} {rate}" for strategy, rate in rates.items())
    return f"Base learning rates: {listed}."


def _prior(entry: Entry) -> str:
    """What its runs knew from outside, each once."""
    found = (plain(run.record["strategy"].get("prior") or "") for run in entry.runs)
    return "; ".join(prior for prior in dict.fromkeys(found) if prior)


def _sure(found: Mean | None) -> float:
    return found.value if found else math.nan


def _relative_seconds(group: Group, entry: Entry) -> float | None:
    """Seconds per image as a multiple of random's, where all ran on the same kind of machine."""
    other = group.reference
    if other is None or len({run.machine for run in (*entry.runs, *other.runs)}) > 1:
        return None
    own, theirs = (
        _sure(
            e.mean(lambda run: (run.cost("seconds", "training") or 0) / (run.cost("images") or 1))
        )
        for e in (entry, other)
    )
    return own / theirs
