"""Epochs to the baseline's accuracy, from probes during training."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from maskbench.report.frame import Moment, Run
from maskbench.report.means import Mean, mean
from maskbench.report.views import Entry, Group
from maskbench.report.words import epochs

HOW = "maskbench run --probe-at 25,50,75,100%"


@dataclass(frozen=True)
class Reach:
    """When a strategy reached random masking's final accuracy.

    Args:
        strategy: Its label.
        seeds: How many were probed during training and have a partner.
        reached: How many of them got there; the means are over these.
        early: How many of these were there at their first probe already, so that their numbers
            are upper ends.
        epochs: Until then.
        epochs_relative: As a multiple of all epochs of random's run.
        flops_relative: The same for FLOPs; None where they are not known.
        seconds_relative: The same for seconds; None where machines differ.
    """

    strategy: str
    seeds: int
    reached: int
    early: int
    epochs: Mean | None
    epochs_relative: Mean | None
    flops_relative: Mean | None
    seconds_relative: Mean | None


def reaches(group: Group) -> list[Reach]:
    """A row per strategy that was probed during training; equal images with random only."""
    reference, shots = group.reference, max(group.shots, default=None)
    if reference is None or shots is None or "images" not in group.views or len(group.entries) < 2:
        return []
    found = (_reach(entry, reference, shots) for entry in group.entries)
    return [reach for reach in found if reach.seeds]


def _reach(entry: Entry, reference: Entry, shots: int) -> Reach:
    base = {run.seed: run for run in reference.runs}
    pairs = [(run, base[run.seed]) for run in entry.runs if run.seed in base]
    probed = [(run, other) for run, other in pairs if _probed(run, other, shots)]
    met = [(run, other, first(run.moments, _goal(other, shots), shots)) for run, other in probed]
    there = [(run, other, moment) for run, other, moment in met if moment]
    one_machine = len({run.machine for pair in probed for run in pair}) == 1
    counted = all(run.says_cost for pair in probed for run in pair)
    relative = [
        (
            moment.images / (other.cost("images") or 1),
            moment.flops / (other.cost("flops_total") or 1) if counted else None,
            moment.seconds / (other.cost("seconds_total") or 1) if one_machine else None,
        )
        for _, other, moment in there
    ]
    return Reach(
        strategy=entry.label,
        seeds=len(probed),
        reached=len(there),
        early=sum(moment.images == run.moments[0].images for run, _, moment in there),
        epochs=mean(epochs(run, moment.images) for run, _, moment in there),
        epochs_relative=mean(images for images, _, _ in relative),
        flops_relative=mean(flops for _, flops, _ in relative),
        seconds_relative=mean(seconds for _, _, seconds in relative),
    )


def _goal(run: Run, shots: int) -> float:
    return run.moments[-1].scores[shots]


def _probed(run: Run, other: Run, shots: int) -> bool:
    """Whether there is a moment during training and all that is needed was probed."""
    known = all(shots in moment.scores for moment in run.moments)
    return len(run.moments) > 1 and known and shots in other.moments[-1].scores


def first(moments: Sequence[Moment], goal: float, shots: int) -> Moment | None:
    """The first moment at which an accuracy is reached, linear between two; None if never.

    What was there at the first moment is not traced back: that moment is returned.
    """
    if moments[0].scores[shots] >= goal:
        return moments[0]
    for before, after in pairwise(moments):
        low, high = before.scores[shots], after.scores[shots]
        if low < goal <= high:
            way = (goal - low) / (high - low)
            return Moment(
                before.images + way * (after.images - before.images),
                before.flops + way * (after.flops - before.flops),
                before.seconds + way * (after.seconds - before.seconds),
                {shots: goal},
            )
    return None
