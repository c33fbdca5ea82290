"""Numbers and facts as words; says only what the runs have earned."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from maskbench.report.frame import TRAINED, UNTRAINED, Entry, Group, Run, flat, text
from maskbench.report.means import SEEDS_FOR_INTERVAL, Mean

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
    seconds_relative: float | None
    images_per_s: float
    training_seconds: float
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
        seconds_relative=_relative_seconds(group, entry),
        images_per_s=_sure(entry.mean(lambda run: run.cost("images_per_s"))),
        training_seconds=_sure(entry.mean(lambda run: run.cost("seconds", "training"))),
        prior=_prior(entry),
    )


def _prior(entry: Entry) -> str:
    """What its runs knew from outside, each once."""
    found = (text(run.record["strategy"].get("prior") or "") for run in entry.runs)
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


def verdict(group: Group) -> str:
    """What this group of runs has earned to say, in one sentence."""
    rows = [row for row in leaderboard(group) if row.difference]
    fewest = min(len(entry.runs) for entry in group.entries)
    few = _few(min((row.difference.n for row in rows if row.difference), default=fewest))
    if not group.shots:
        return "These runs have no probes: this page compares their cost and their masks only."
    if group.reference is None:
        return f"Random masking was not run under these conditions: nothing to set apart.{few}"
    if not rows:
        alone = len(group.entries) == 1
        why = "Only random masking was run" if alone else "No seed is shared with random masking"
        return f"{why}: nothing to set apart yet.{few}"
    shots = f"Accuracy with {count(group.shots[-1], 'labelled image')} per class"
    listed = "; ".join(_difference(row) for row in rows)
    return f"{shots}: {listed}.{few}"


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


def limits(group: Group) -> list[str]:
    """What the group cannot tell, from its facts."""
    found = [_limit_seeds(group)]
    below = [row.strategy for row in leaderboard(group) if _below(row.over_untrained)]
    if below:
        found.append(
            f"Not above an untrained encoder: {', '.join(below)}. Under this budget pretraining "
            "has not paid off there, so differences between strategies say little."
        )
    compared = [row for row in leaderboard(group) if row.difference and row.difference.half]
    if len(compared) > 1:
        found.append(
            f"The {len(compared)} intervals hold one at a time; they are not corrected for being "
            f"{len(compared)} comparisons."
        )
    run = group.runs[0]
    if run.classes:
        found.append(
            f"Everything was probed on {text(run.record['data']['name'])} alone, with the encoder "
            "frozen: other data, full fine-tuning or dense tasks may order strategies otherwise."
        )
    found.append(_limit_scale(group))
    found += _limit_seconds(group)
    versions = {_versions(run) for run in group.runs}
    if len(versions) > 1:
        found.append("The runs come from different versions of the code or of its libraries.")
    return [sentence for sentence in found if sentence]


def _below(margin: Mean | None) -> bool:
    return margin is not None and margin.value <= 0


def _limit_seeds(group: Group) -> str:
    fewest = min(len(entry.runs) for entry in group.entries)
    if fewest < SEEDS_FOR_INTERVAL:
        return (
            f"At least one strategy has only {count(fewest, 'seed')}: how much a number would move "
            "with another seed is not known here, so small differences mean nothing yet."
        )
    return (
        f"The intervals are over {fewest} or more seeds of the same recipe; they do not cover "
        "other learning rates, hidden shares or schedules."
    )


def _limit_scale(group: Group) -> str:
    run = group.runs[0]
    model, budget = run.record["model"], run.record["budget"]
    return text(
        f"The scale is {model['preset']} ({model['width']} wide, {model['depth']} blocks, "
        f"{model['image']} px) for {budget['epochs']:g} epochs: what holds here need not hold at "
        "other sizes or longer schedules. The recipe is shared, not tuned per strategy."
    )


def _limit_seconds(group: Group) -> list[str]:
    found = []
    if len({run.machine for run in group.runs}) > 1:
        found.append("Not all runs used the same kind of machine; seconds compare within one only.")
    busy = [run for run in group.runs if _load(run) > 1]
    if busy:
        worst = max(_load(run) for run in busy)
        found.append(
            f"Seconds are those of a busy machine: {count(len(busy), 'run')} began with up to "
            f"{worst:.1f} processes waiting per core. FLOPs are counted and do not depend on it."
        )
    return found


def _load(run: Run) -> float:
    provenance = run.record["provenance"]
    load, cores = provenance.get("load"), provenance["device"].get("cores")
    known = isinstance(load, int | float) and isinstance(cores, int) and cores > 0
    return load / cores if known else 0.0


def _versions(run: Run) -> str:
    provenance = run.record["provenance"]
    return json.dumps([provenance["versions"], provenance["commit"]], sort_keys=True)


def command(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The command that makes a run with these settings."""
    words = ["maskbench", "run", "--strategy", str(settings["strategy"])]
    for key in ("budget", "data", "model", "hidden", "batch", "base_lr", "limit", "draws"):
        words += _option(key, settings.get(key), defaults.get(key))
    for key in ("max_bad", "seed", "device", "precision"):
        words += _option(key, settings.get(key), defaults.get(key))
    words += ["--compile"] if settings.get("compile") else []
    for key, value in flat(settings.get("strategy_settings") or {}).items():
        words += ["--set", f"{key}={value}"]
    return text(shlex.join(words))


def _option(key: str, value: Any, default: Any) -> Sequence[str]:
    if value is None or value == default:
        return []
    return [f"--{'lr' if key == 'base_lr' else key.replace('_', '-')}", str(value)]
