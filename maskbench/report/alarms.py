"""Warnings that belong above a table: what would make its numbers mean something else."""

from itertools import combinations, pairwise

from maskbench.report.board import Row, leaderboard
from maskbench.report.frame import PROBE, TRAINED, VARIED
from maskbench.report.judge import by_seed, judge
from maskbench.report.verdict import lost
from maskbench.report.views import Entry, Group

RISING = (1, 4, 16)


def alarms(group: Group) -> list[str]:
    """Warnings in words; nothing where all is as it should be.

    Failed runs, the range anchors of a healthy suite (accuracy rises with labels, training beats
    none), and a ranking that turns with the regularisation of the probe.
    """
    found = [
        f"{lost(one)}: {'its mean is of survivors' if one.ok else 'there is no mean'}, and it gets "
        "no rank and no verdict."
        for one in judge(group).survivors
    ]
    below = [row.strategy for row in leaderboard(group) if _below(row)]
    if below:
        found.append(
            f"Not above an untrained encoder: {', '.join(below)}. Under this budget pretraining "
            "has not paid off there, so differences between strategies say little."
        )
    flat = [entry.label for entry in group.entries if not _rises(entry, group)]
    if flat:
        shots = ", ".join(str(n) for n in RISING if n in group.shots)
        found.append(f"Accuracy does not rise with labels ({shots} per class): {', '.join(flat)}.")
    turned = depends_on_c(group)
    if turned:
        pairs = "; ".join(f"{a} and {b}" for a, b in turned)
        found.append(
            f"The ranking depends on C: under a tenth or ten times of the probe's C, {pairs} "
            "change places."
        )
    return found


def _below(row: Row) -> bool:
    return row.over_untrained is not None and row.over_untrained.value <= 0


def _rises(entry: Entry, group: Group) -> bool:
    shots = [n for n in RISING if n in group.shots]
    means = [entry.mean(lambda run, n=n: run.accuracy(TRAINED, n)) for n in shots]  # type: ignore[misc]
    known = [mean.value for mean in means if mean]
    return all(low < high for low, high in pairwise(known))


def depends_on_c(group: Group) -> list[tuple[str, str]]:
    """Pairs of strategies whose order by FS-AULC turns under another C; over their common seeds."""
    found = []
    for one, other in combinations(group.entries, 2):
        at_c, *elsewhere = under_each_c(one, other, group) or [0.0]
        if any(gap * at_c < 0 for gap in elsewhere):
            found.append((one.label, other.label))
    return found


def under_each_c(one: Entry, other: Entry, group: Group) -> list[float]:
    """Mean difference in FS-AULC under C and under every one of ``VARIED``, from -1 to 1.

    Over the shots and seeds of both that were probed under every C; empty where there is none.
    """
    runs = (*one.runs, *other.runs)
    probed = [{*run.varied.get(name, {})} for run in runs for name in VARIED]
    shots = sorted(set(group.shots).intersection(*(found for found in probed if found)))
    if not shots:
        return []

    def scores(entry: Entry, probe: str) -> dict[int, float]:
        return by_seed(entry, lambda run: run.aulc(shots, probe))

    under = [(scores(one, probe), scores(other, probe)) for probe in (PROBE, *VARIED)]
    seeds = sorted(set.intersection(*(set(found) for pair in under for found in pair)))
    return [sum(a[s] - b[s] for s in seeds) / len(seeds) for a, b in under] if seeds else []
