"""What a group of runs cannot tell, from its facts."""

from collections import Counter

from maskbench.report.frame import Run
from maskbench.report.judge import judge
from maskbench.report.means import SEEDS_FOR_INTERVAL
from maskbench.report.views import Group
from maskbench.report.words import count, epochs
from maskbench.trust import plain

SHOWN = 18
"""So many characters of a version or commit."""


def limits(group: Group, sets: int = 1) -> list[str]:
    """What the group cannot tell, from its facts.

    Args:
        group: Runs that may be compared.
        sets: Data sets over which its runs are averaged.
    """
    found = [_limit_seeds(group)]
    judged = judge(group)
    several = [one for one in judged.primary.values() if one.band]
    if len(several) > 1:
        found.append(
            f"The {len(several)} intervals hold one at a time; they are not corrected for being "
            f"{len(several)} comparisons. From six seeds on p-values are."
        )
    if judged.primary:
        found.append(
            "All runs were probed on the same few-shot draws: differences hold for these draws, "
            "and an interval does not cover other ones."
        )
    run = group.runs[0]
    if run.classes:
        name = plain(run.record["data"]["name"])
        where = f"{name} alone" if sets < 2 else f"{sets} data sets, and the verdict is of {name}"
        found.append(
            f"Everything was probed on {where}, with the encoder frozen: other data, full "
            "fine-tuning or dense tasks may order strategies otherwise."
        )
    found.append(_limit_scale(group))
    found += _limit_seconds(group)
    found.append(_limit_versions(group))
    return [sentence for sentence in found if sentence]


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
    model = run.record["model"]
    longest = max(epochs(run, run.cost("images") or 0) for run in group.runs)
    tuned = (
        "Only the learning rate was chosen per strategy; the rest of the recipe is shared."
        if run.trials
        else "The recipe is shared, not tuned per strategy."
    )
    passes = f"{longest:.3g} epoch{'' if longest == 1 else 's'}"
    return plain(
        f"The scale is {model['preset']} ({model['width']} wide, {model['depth']} blocks, "
        f"{model['image']} px) for {passes}: what holds here need not hold at "
        f"other sizes or longer schedules. {tuned}"
    )


def _limit_seconds(group: Group) -> list[str]:
    found = []
    if len({run.machine for run in group.runs}) > 1:
        found.append("Not all runs used the same kind of machine; seconds compare within one only.")
    busy = [waiting for run in group.runs if (waiting := load(run) or 0) > 1]
    if busy:
        worst = max(busy)
        found.append(
            f"Seconds are those of a busy machine: {count(len(busy), 'run')} began with up to "
            f"{worst:.1f} processes waiting per core. FLOPs are counted and do not depend on it."
        )
    return found


def load(run: Run) -> float | None:
    """Processes waiting per core when a run began; None where that is not recorded."""
    provenance = run.record["provenance"]
    waiting, cores = provenance.get("load"), provenance["device"].get("cores")
    known = isinstance(waiting, int | float) and isinstance(cores, int) and cores > 0
    return waiting / cores if known else None


def _limit_versions(group: Group) -> str:
    """Which versions and commits the runs come from, if from several; and how many from each."""
    found: dict[str, Counter[str]] = {}
    for run in group.runs:
        provenance = run.record["provenance"]
        told = {"commit": provenance["commit"], **provenance["versions"]}
        for name, number in told.items():
            said = plain(number or "not known")[:SHOWN]
            found.setdefault(plain(name), Counter())[said] += 1
    apart = [
        f"{name} " + ", ".join(f"{told} ({count(n, 'run')})" for told, n in sorted(seen.items()))
        for name, seen in sorted(found.items())
        if len(seen) > 1 or seen.total() < len(group.runs)
    ]
    if not apart:
        return ""
    return (
        "The runs come from different versions of the code or of its libraries: "
        f"{'; '.join(apart)}."
    )
