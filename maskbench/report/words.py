"""Numbers and facts as words; says only what the runs have earned."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from maskbench.report.frame import TRAINED, UNTRAINED, Run
from maskbench.report.means import SEEDS_FOR_INTERVAL, Mean
from maskbench.report.views import Entry, Group
from maskbench.trust import plain

SAID = {"images": "images", "flops": "FLOPs", "seconds": "time"}
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Row:
    """A line of the leaderboard; accuracies and differences from 0 to 1."""

    strategy: str
    seeds: list[int]
    shots: int | None
    accuracy: Mean | None
    fs_aulc: Mean | None
    knn20: Mean | None
    difference: Mean | None
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
        return asdict(self)


def leaderboard(group: Group) -> list[Row]:
    """One row per strategy, in the group's order."""
    return [_row(group, entry) for entry in group.entries]


def _row(group: Group, entry: Entry) -> Row:
    shots = group.shots[-1] if group.shots else None

    def accuracy(run: Run) -> float | None:
        return run.accuracy(TRAINED, shots) if shots else None

    def margin(run: Run) -> float | None:
        trained, untrained = accuracy(run), run.accuracy(UNTRAINED, shots or 0)
        return None if trained is None or untrained is None else trained - untrained

    other = group.reference
    paired = entry.paired(other, accuracy) if other and other is not entry else None
    return Row(
        strategy=entry.label,
        seeds=[run.seed for run in entry.runs],
        shots=shots,
        accuracy=entry.mean(accuracy),
        fs_aulc=entry.mean(Run.aulc),
        knn20=entry.mean(lambda run: run.neighbours.get(TRAINED)),
        difference=paired,
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


def count(n: int, word: str) -> str:
    """``one seed``, ``3 seeds``."""
    number = COUNTS[n] if n < 3 else f"{n:,}"
    return f"{number} {word}" + ("" if n == 1 else "s")


def signed(value: float) -> str:
    """Points with a sign: 0.013 is +1.3."""
    return f"{100 * value:+.1f}".replace("-", "−")


def interval(found: Mean) -> str:
    """Both ends in points, rounded outwards so that rounding never excludes 0."""
    low, high = found.band
    ends = (math.floor(1000 * low) / 10 + 0.0, math.ceil(1000 * high) / 10 + 0.0)
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


def verdict(group: Group) -> str:
    """What this group of runs has earned to say, in one sentence."""
    rows = [row for row in leaderboard(group) if row.difference]
    fewest = min(len(entry.runs) for entry in group.entries)
    few = _few(min((row.difference.n for row in rows if row.difference), default=fewest))
    if not group.shots:
        return "These runs have no probes: this page compares their cost and their masks only."
    if group.reference is None:
        return f"No run of random masking matches: nothing to set apart.{few}"
    if not rows:
        alone = len(group.entries) == 1
        why = "Only random masking was run" if alone else "No seed is shared with random masking"
        return f"{why}: nothing to set apart yet.{few}"
    shots = f"Accuracy with {count(group.shots[-1], 'labelled image')} per class"
    listed = "; ".join(_difference(row) for row in rows)
    return f"{shots} at equal {views(group.views)}: {listed}.{few}"


def _difference(row: Row) -> str:
    found = row.difference
    assert found
    points = f"{row.strategy} − random = {signed(found.value)} points"
    if found.half is None:
        return points
    return f"{points} {interval(found)} (t-interval, {count(found.n, 'seed')})"


def _few(n: int) -> str:
    if n >= SEEDS_FOR_INTERVAL:
        return ""
    if n == 1:
        return " This is one seed: a smoke test, no verdict."
    return f" With {count(n, 'seed')} there is no interval and no verdict."


def epochs(run: Run, images: float) -> float:
    """So many images in passes over the data the run was trained on."""
    budget = run.record["budget"]
    return float(images * budget["epochs"] / budget["images"])
