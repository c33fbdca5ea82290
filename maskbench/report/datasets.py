"""Strategies over several data sets: those on which every run of a group was probed alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maskbench import statistics
from maskbench.report.frame import Run
from maskbench.report.judge import by_seed, endpoint, generator, judge
from maskbench.report.means import Mean, mean
from maskbench.report.probed import Elsewhere, Identity, Key, Probed, identity
from maskbench.report.views import Entry, Group
from maskbench.report.words import band, count, share, signed
from maskbench.statistics import Aggregate
from maskbench.trust import plain

SETS, NAMED, LETTERS = 2, 3, 40
"""Data sets that make a mean; data sets and runs that a sentence names; letters of a title."""
FIXED = ("strategy", "seeds", "mean", "− random", "seeds resampled")


@dataclass(frozen=True)
class DataSet:
    """One of the data sets.

    Args:
        title: Its name, as a column has it; no two are the same.
        fingerprint: Of its pixels, labels and ids.
        classes: Their number.
        shots: Labelled images per class that every run has.
        asked: Pool, draws, side and stored of the probes; None for the runs' own data.
    """

    title: str
    fingerprint: str
    classes: int
    shots: tuple[int, ...]
    asked: Mapping[str, int | None] | None


@dataclass(frozen=True)
class Row:
    """A strategy over the data sets; FS-AULC from 0 to 1.

    Args:
        strategy: Its label.
        seeds: Its pretraining seeds.
        mean: Over seeds and data sets.
        difference: To random masking, over the seeds that both have.
        each: By data set, in their order.
        survivors: Whether more than a fifth of its runs failed.
    """

    strategy: str
    seeds: list[int]
    mean: Aggregate
    difference: Aggregate | None
    each: list[Mean | None]
    survivors: bool


@dataclass(frozen=True)
class Across:
    """A group over data sets; without rows where there are fewer than two.

    Args:
        sets: The data sets, the runs' own first.
        rows: One per strategy in the group's order.
        note: Which data sets some runs were probed on and others were not.
    """

    sets: tuple[DataSet, ...]
    rows: tuple[Row, ...]
    note: str


@dataclass(frozen=True)
class _Scored:
    """A data set and every run's FS-AULC there, by the run's key."""

    data: DataSet
    scores: Mapping[str, float]


def over(group: Group, elsewhere: Elsewhere) -> Across:
    """The data sets on which all runs of a group were probed, and the strategies over them."""
    mine = identity(group.runs[0].record["data"])
    own_mark = str(group.runs[0].record["data"]["fingerprint"])
    found: dict[str, list[Probed]] = {}
    for run in group.runs:  # the run's own data is in its record
        given = elsewhere.get(run.key, ())
        found[run.key] = [p for p in given if p.identity != mine and p.key.fingerprint != own_mark]
    others = {name: _common(name, found) for name in _names(found)}
    scored = [one for one in (_own(group), *others.values()) if one]
    lacking = [name for name, one in others.items() if one is None]
    note = _note(group, found, lacking)
    if len(scored) < SETS:
        return Across((), (), note)
    titles = _titles([one.data for one in scored])
    sets = [DataSet(**{**vars(one.data), "title": titles[i]}) for i, one in enumerate(scored)]
    tables = {entry.label: _table(entry, scored) for entry in group.entries}
    rows = [_row(group, entry, tables) for entry in group.entries]
    return Across(tuple(sets), tuple(rows), note)


def _names(found: Mapping[str, Sequence[Probed]]) -> list[Identity]:
    """All data sets that any run was probed on."""
    return sorted({one.identity for own in found.values() for one in own})


def _own(group: Group) -> _Scored | None:
    """The data that the runs were pretrained on, if all were probed there."""
    number, run = endpoint(group), group.runs[0]
    scores = {run.key: value for run in group.runs if (value := number(run)) is not None}
    if len(scores) < len(group.runs) or not run.classes:
        return None
    data = run.record["data"]
    name, mark = plain(data["name"]), plain(data["fingerprint"])
    return _Scored(DataSet(name, mark, run.classes, tuple(group.shots), None), scores)


def _common(name: Identity, found: Mapping[str, Sequence[Probed]]) -> _Scored | None:
    """A data set under the settings under which all runs were first probed on it, if any."""
    first: list[dict[Key, Probed]] = []
    for own in found.values():
        keys: dict[Key, Probed] = {}
        for one in own:
            if one.identity == name:
                keys.setdefault(one.key, one)
        first.append(keys)
    shared = set(first[0]).intersection(*first[1:])
    if not shared:
        return None
    key = min(shared, key=lambda key: (max(own[key].finished for own in first), repr(key)))
    probed = {run: own[key] for run, own in zip(found, first, strict=True)}
    shots = sorted(set.intersection(*({*one.scores} for one in probed.values())))
    if not shots:
        return None
    classes = len(name[1])
    scores = {run: _aulc([one.scores[n] for n in shots], classes) for run, one in probed.items()}
    asked = {k: v for k, v in vars(key).items() if k != "fingerprint"}
    data = DataSet(plain(name[0]), plain(key.fingerprint), classes, tuple(shots), asked)
    return _Scored(data, scores)


def _aulc(accuracies: Sequence[float], classes: int) -> float:
    return float(statistics.normalised(accuracies, 1 / classes).mean())


def _titles(sets: Sequence[DataSet]) -> list[str]:
    """Short names that tell the data sets and the other columns apart."""
    short = [one.title.removeprefix("folder:")[:LETTERS] for one in sets]
    found: list[str] = []
    for one, name in zip(sets, short, strict=True):
        odd = short.count(name) > 1 or name in FIXED
        told = f"{name} ({one.fingerprint[:6]})" if odd else name
        found.append(told if told not in found else f"{told} {len(found) + 1}")
    return found


def _table(entry: Entry, scored: Sequence[_Scored]) -> dict[int, list[float]]:
    """Scores on every data set by seed."""
    columns = [by_seed(entry, lambda run, one=one: one.scores[run.key]) for one in scored]  # type: ignore[misc]
    return {seed: [column[seed] for column in columns] for seed in sorted(columns[0])}


def _row(group: Group, entry: Entry, tables: Mapping[str, Mapping[int, list[float]]]) -> Row:
    own, other = tables[entry.label], group.reference
    difference = None
    if other is not None and other is not entry:
        base = tables[other.label]
        pairs = [np.subtract(own[seed], base[seed]) for seed in own if seed in base]
        difference = statistics.aggregate(pairs, generator()) if pairs else None
    return Row(
        strategy=entry.label,
        seeds=list(own),
        mean=statistics.aggregate(list(own.values()), generator()),
        difference=difference,
        each=[mean(column) for column in zip(*own.values(), strict=True)],
        survivors=judge(group).attempts[entry.label].flagged,
    )


def _note(group: Group, found: Mapping[str, Sequence[Probed]], lacking: Sequence[Identity]) -> str:
    """One line on the data sets that not all runs share; nothing where there is none."""
    told = [_why(group.runs, found, name) for name in lacking[:NAMED]]
    more = len(lacking) - NAMED
    told += [f"and {count(more, 'more data set')}"] if more > 0 else []
    return f"Not averaged over: {'; '.join(told)}." if told else ""


def _why(runs: Sequence[Run], found: Mapping[str, Sequence[Probed]], name: Identity) -> str:
    title = plain(name[0])[:LETTERS]
    lack = [run.id for run in runs if all(one.identity != name for one in found[run.key])]
    if not lack:
        return f"{title} (not all runs were probed alike: images, pool, draws, side, shots)"
    listed = ", ".join(lack[:NAMED]) + (", ..." if len(lack) > NAMED else "")
    return f"{title} ({len(runs) - len(lack)} of {len(runs)} runs were probed there, not {listed})"


# In words


def title(found: Across) -> str:
    """Above the table."""
    return f"over {len(found.sets)} data sets, FS-AULC in %"


def how(found: Across) -> str:
    """What the columns are."""
    own = next((one.title for one in found.sets if one.asked is None), None)
    pretrained = f"; pretrained on {own}" if own else ""
    several = any(row.mean.low is not None for row in found.rows)
    bands = (
        "± and the first brackets: 95 % t-interval over the means of seeds, the one to go by; "
        "seeds resampled: 95 % percentile interval of the difference, whole seeds drawn again, too "
        "narrow with few seeds. "
    )
    return (
        f"Every data set counts the same, 0 = chance on it{pretrained}. − random: points, paired "
        f"by seed. {bands if several else ''}Not tested: no verdict rests on this."
    )


def texts(found: Across) -> list[dict[str, str]]:
    """The table, a row per strategy."""
    names = [one.title for one in found.sets]
    return [
        {
            "strategy": row.strategy,
            "seeds": _seeds(row),
            "mean": share(_mean(row.mean)) + ("*" if row.survivors else ""),
            "− random": _difference(row.difference),
            "seeds resampled": _resampled(row.difference),
            **{name: share(one) for name, one in zip(names, row.each, strict=True)},
        }
        for row in found.rows
    ]


def _seeds(row: Row) -> str:
    paired = row.difference.seeds if row.difference else len(row.seeds)
    return f"{len(row.seeds)}" + (f", {paired} paired" if paired < len(row.seeds) else "")


def _mean(one: Aggregate) -> Mean:
    return Mean(one.value, None if one.high is None else one.high - one.value, one.seeds)


def _difference(one: Aggregate | None) -> str:
    if one is None:
        return "–"
    ends = None if one.low is None or one.high is None else (one.low, one.high)
    return f"{signed(one.value)} {band(ends)}".strip()


def _resampled(one: Aggregate | None) -> str:
    if one is None or one.resampled_low is None or one.resampled_high is None:
        return "–"
    return band((one.resampled_low, one.resampled_high))
