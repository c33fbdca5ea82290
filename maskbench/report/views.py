"""Who may be compared with whom: runs of like conditions that consumed the same amount.

There are three views of an amount: images, FLOPs, and seconds on one kind of machine. A group is
matched in at least one of them, and nothing is ranked or subtracted outside of a group.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from maskbench.report.frame import REFERENCE, TRAINED, Run, variant
from maskbench.report.means import Mean, mean, middle
from maskbench.trust import plain

VIEWS = ("images", "flops", "seconds")
TOLERANCE, WIDEST = 0.01, 0.05
BESIDE = ("feature extraction", "clustering")
"""Parts of a run's FLOPs that are no image's: they are spent before the first step."""


@dataclass(frozen=True)
class Entry:
    """A strategy with its runs, by seed; ``label`` names settings where two entries differ."""

    label: str
    runs: Sequence[Run]

    @property
    def is_reference(self) -> bool:
        """Whether this is random masking."""
        return variant(self.runs[0])[0] == REFERENCE

    @property
    def says_cost(self) -> bool:
        """Whether its FLOPs are known; else they are a lower bound."""
        return all(run.says_cost for run in self.runs)

    def mean(self, number: Callable[[Run], float | None]) -> Mean | None:
        """A number's mean over seeds."""
        return mean(number(run) for run in self.runs)

    def paired(self, other: "Entry", number: Callable[[Run], float | None]) -> Mean | None:
        """Mean difference to another entry over the seeds both have."""
        theirs = {run.seed: number(run) for run in other.runs}
        pairs = [(number(run), theirs.get(run.seed)) for run in self.runs]
        return mean(a - b for a, b in pairs if a is not None and b is not None)


@dataclass(frozen=True, eq=False)
class Group:
    """Like runs that may be compared: they consumed the same amount.

    Args:
        conditions: Equal data, model, hidden patches and recipe, in words.
        entries: Strategies, random masking first.
        views: In which all its runs are matched; empty for runs of one strategy that are not.
        begun: Runs that were to be in this group and did not finish.
    """

    conditions: Mapping[str, str]
    entries: Sequence[Entry]
    views: tuple[str, ...] = ("images",)
    begun: Sequence[Run] = ()

    @cached_property
    def reference(self) -> Entry | None:
        """Random masking, if it was run."""
        return next((entry for entry in self.entries if entry.is_reference), None)

    @cached_property
    def runs(self) -> list[Run]:
        """All runs, strategy by strategy."""
        return [run for entry in self.entries for run in entry.runs]

    @cached_property
    def shots(self) -> list[int]:
        """Labelled images per class that every probed run has."""
        return common_shots(self.runs)

    def control(self, feature: str, shots: int) -> float | None:
        """A control's mean accuracy, every seed counted once."""
        by_seed = {run.seed: run.accuracy(feature, shots) for run in reversed(self.runs)}
        return middle(by_seed.values())

    def typical(self, view: str) -> float:
        """What its runs consumed, on average."""
        return middle(amount(run, view) for run in self.runs) or 0.0


def common_shots(runs: Iterable[Run]) -> list[int]:
    """Labelled images per class that every probed one of these runs has."""
    found = [set(run.scores[TRAINED]) for run in runs if TRAINED in run.scores]
    return sorted(set.intersection(*found)) if found else []


def amount(run: Run, view: str) -> float | None:
    """What a run consumed; None where its strategy does not say it."""
    if view == "flops":
        return run.cost("flops_total") if run.says_cost else None
    return run.cost("images" if view == "images" else "seconds_total")


def likes(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs by equal conditions, in order of them."""
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(run.conditions.values()), []).append(run)
    return [found[given] for given in sorted(found)]


def cells(like: Sequence[Run]) -> list[Entry]:
    """Like runs by strategy and the budget they were given; every run is in one."""
    found: dict[Any, list[Run]] = {}
    for run in sorted(like, key=lambda run: (*run.planned, run.seed, run.id)):
        found.setdefault(_cell(run), []).append(run)
    entries = [Entry(label(same[0], like), same) for same in found.values()]
    return sorted(entries, key=lambda entry: (not entry.is_reference, entry.label))


def _cell(run: Run) -> tuple[str, tuple[str, float]]:
    return str(variant(run)), run.planned


def groups(runs: Iterable[Run], begun: Sequence[Run] = ()) -> list[Group]:
    """Images first, then FLOPs, then seconds; larger budgets and random masking first within.

    Args:
        runs: Finished.
        begun: Not finished; each is kept with the groups it was meant for.
    """
    found = [group for like in likes(runs) for group in _groups(like)]
    found = [replace(one, begun=[run for run in begun if _meant_for(run, one)]) for one in found]

    def place(group: Group) -> tuple[Any, ...]:
        view = group.views[0] if group.views else "images"
        conditions = tuple(group.conditions.values())
        return VIEWS.index(view), -group.typical(view), conditions, [run.id for run in group.runs]

    return sorted(found, key=place)


def _meant_for(run: Run, group: Group) -> bool:
    """Whether it was begun like runs of its strategy there; of any, if that has none there."""
    begun, there = ({**found, "probes": ""} for found in (run.conditions, group.conditions))
    if begun != there:  # what has not finished has no probes
        return False
    own = [other for other in group.runs if str(variant(other)) == str(variant(run))]
    return any(other.planned == run.planned for other in own or group.runs)


def _groups(like: Sequence[Run]) -> list[Group]:
    """Several strategies by equal amounts, and what is left over strategy by strategy."""
    matched: dict[frozenset[str], list[str]] = {}
    for view in VIEWS:
        for members in _clusters(like, like, view):
            matched.setdefault(frozenset(run.key for run in members), []).append(view)
    found, covered = [], set[str]()
    for ids, views in matched.items():
        entries = _entries([run for run in like if run.key in ids], like)
        if len(entries) > 1:
            found.append(Group(like[0].conditions, entries, tuple(views)))
            covered |= ids
    for cell in cells(like):
        if not {run.key for run in cell.runs} <= covered:
            own = tuple(view for view in VIEWS if [len(cell.runs)] == _sizes(cell.runs, view))
            found.append(Group(like[0].conditions, [cell], own))
    return found


def _sizes(runs: Sequence[Run], view: str) -> list[int]:
    return [len(cluster) for cluster in _split(runs, view)]


def _clusters(runs: Sequence[Run], like: Sequence[Run], view: str) -> list[list[Run]]:
    """Runs within reach of the smallest of their cluster; one per strategy and seed."""
    found: list[list[Run]] = []
    for cluster in _split(runs, view):
        kept = _once_each(_meant(cluster, like, view), view)
        whole = len(kept) == len(cluster)  # else the smallest may be gone
        found += [kept] if whole else _clusters(kept, like, view)
    return found


def _split(runs: Sequence[Run], view: str) -> list[list[Run]]:
    known = []
    for run in runs:
        used = amount(run, view)
        if used is not None:
            known.append((run.machine if view == "seconds" else "", used, run.id, run.key, run))
    found: list[list[Run]] = []
    for *_, run in sorted(known, key=lambda item: item[:4]):
        if found and reachable(found[-1][0], run, view):
            found[-1].append(run)
        else:
            found.append([run])
    return found


def reachable(smaller: Run, larger: Run, view: str) -> bool:
    """Whether two runs consumed the same amount.

    Images are counted and must be equal. FLOPs may be apart by 1 % or by an image of the costlier
    strategy, seconds by 1 % or by a step of it, whichever is more, but never by more than 5 %;
    seconds count on one kind of machine only.
    """
    low, high = amount(smaller, view), amount(larger, view)
    if low is None or high is None:
        return False
    if view == "images":
        return low == high
    if view == "seconds" and smaller.machine != larger.machine:
        return False
    most = max(high, low)
    unit = max(_unit(smaller, view), _unit(larger, view))
    return abs(high - low) <= min(max(unit, TOLERANCE * most), WIDEST * most)


def _unit(run: Run, view: str) -> float:
    """The least by which a run of such a budget can differ: an image's FLOPs, a step's seconds."""
    if view == "seconds":
        return (run.cost("seconds", "training") or 0) / (run.cost("steps") or 1)
    beside = sum(run.cost("flops", part) or 0 for part in BESIDE)
    return ((run.cost("flops_total") or 0) - beside) / (run.cost("images") or 1)


def _meant(cluster: Sequence[Run], like: Sequence[Run], view: str) -> list[Run]:
    """Without seeds that came near by chance while others of the same budget did not.

    Where a run was given a budget of this kind, all are meant.
    """
    if any(run.planned[0] == view for run in cluster):
        return list(cluster)
    inside = {run.key for run in cluster}
    broken = {_cell(run) for run in like if run.key not in inside}
    return [run for run in cluster if _cell(run) not in broken]


def _once_each(cluster: Sequence[Run], view: str) -> list[Run]:
    """Of a strategy's runs of one seed that which was given such a budget, then the first."""
    kept: dict[Any, Run] = {}
    for run in sorted(cluster, key=lambda run: (run.planned[0] != view, run.started, run.id)):
        kept.setdefault((str(variant(run)), run.seed), run)
    return list(kept.values())


def _entries(runs: Sequence[Run], like: Sequence[Run]) -> list[Entry]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(str(variant(run)), []).append(run)
    members = [sorted(same, key=lambda run: (run.seed, run.id)) for same in found.values()]
    entries = [Entry(label(same[0], like), same) for same in members]
    return sorted(entries, key=lambda entry: (not entry.is_reference, entry.label))


def label(run: Run, runs: Sequence[Run]) -> str:
    """The strategy's name, with those settings in which runs of that name differ."""
    name, settings = variant(run)
    others = [variant(other)[1] for other in runs if variant(other)[0] == name]
    differing = [key for key in settings if any(o.get(key) != settings[key] for o in others)]
    words = ", ".join(f"{key}={settings[key]}" for key in differing)
    return plain(f"{name} ({words})" if words else name)
