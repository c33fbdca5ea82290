"""Run folders sorted: runs that may be ranked, and everything else with the reason."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maskbench.errors import SchemaError, StoreError
from maskbench.report import merging
from maskbench.report.frame import TRAINED, Run, variant
from maskbench.results import RECORD, lacking, read_record
from maskbench.trust import plain

PROBED = "was probed during training"
FLOPS_APART, SECONDS_APART = 1e-3, 1e-2
"""How far a total may be from the sum of its parts, as a share of it: rounding."""


@dataclass(frozen=True)
class LeftOut:
    """Something a report does not rank.

    Args:
        run: Which run.
        status: ``failed``, ``running``, ``unreadable``, ``other schema``, ``no record``,
            ``repeated``, ``copy``, ``conflict``, ``duplicated id``, ``trial``, ``missing file``...
        reason: Why, in words.
        begun: What it was begun as, if it did not finish and its record says so.
        folder: Where it lies.
        record: What it says, if that can be read.
        counted: Where the run of this name lies that counts in its place.
        differs: In what that one and this one differ.
    """

    run: str
    status: str
    reason: str
    begun: Run | None = field(default=None, kw_only=True, compare=False, repr=False)
    folder: Path | None = field(default=None, kw_only=True, compare=False, repr=False)
    record: Mapping[str, Any] | None = field(default=None, kw_only=True, compare=False, repr=False)
    counted: Path | None = field(default=None, kw_only=True, compare=False, repr=False)
    differs: merging.Differences = field(default=(), kw_only=True, compare=False, repr=False)

    def plain(self) -> dict[str, Any]:
        """For JSON, without where it lies."""
        return {name: value for name, value in vars(self).items() if name not in _ASIDE}


_ASIDE = ("begun", "folder", "record", "counted", "differs")


@dataclass(frozen=True)
class Unranked(LeftOut):
    """A finished run whose ledger lacks something or does not add up: listed, compared to nothing.

    Args:
        strategy: Its name.
        seed: Its seed.
        shots: The largest number of labelled images per class it was probed with.
        accuracy: With these; from 0 to 1.
    """

    strategy: str
    seed: int
    shots: int | None
    accuracy: float | None


def read(folders: Iterable[Path]) -> tuple[list[Run], list[LeftOut]]:
    """Runs that may be ranked, and everything else with the reason why it may not."""
    found = _once([_read(folder) for folder in folders])
    left_out = [item for item in found if isinstance(item, LeftOut)]
    named, duplicated = _one_of_each_name(item for item in found if isinstance(item, Run))
    kept, repeated = _first_of_each(named)
    every = [*left_out, *duplicated, *repeated]
    return kept, sorted(every, key=lambda item: (item.run, item.reason))


def _once(found: Sequence[Run | LeftOut]) -> list[Run | LeftOut]:
    """Each run once: copies of it are left out, and are no attempts of their own."""
    held = {item.folder: item.record for item in found if item.folder and item.record}
    copied = merging.copies(held)
    kept: list[Run | LeftOut] = []
    for item in found:
        if item.folder in copied and item.record:
            name, (status, why) = plain(item.record["id"]), copied[item.folder]
            kept.append(LeftOut(name, status, why, folder=item.folder, record=item.record))
        else:
            kept.append(item)
    return kept


def _read(folder: Path) -> Run | LeftOut:
    found = _sorted(folder)
    if isinstance(found, Run):
        return found
    return replace(found, folder=folder)


def _sorted(folder: Path) -> Run | LeftOut:
    name = plain(folder.name)
    if not (folder / RECORD).exists():
        why = f"no {RECORD}: it ended before its first record, or its copy is not whole"
        return LeftOut(name, "no record", why)
    record: dict[str, Any] | None = None
    try:
        record = read_record(folder)
        if record["status"] != "finished":
            why = plain(record.get("error") or "it has not finished")
            begun = _begun(folder, record)
            return LeftOut(name, plain(record["status"]), why, begun=begun, record=record)
        if record["settings"].get("scored_on", "test") != "test":
            why = "a trial of maskbench tune, scored on development images: never compared"
            return LeftOut(name, "trial", why, record=record)
        run, missing = Run.of(folder, record), lacking(record["ledger"])
        if missing:
            return _unranked(run, f"its ledger lacks {', '.join(missing)}")
        run.check()
        apart = _apart(run)
        if apart:
            return _unranked(run, f"its ledger does not add up: {'; '.join(apart)}")
    except StoreError as error:
        why = str(error).replace(str(folder), folder.name)
        status = "other schema" if isinstance(error, SchemaError) else "unreadable"
        return LeftOut(name, status, plain(why))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        why = f"its record is not whole: {type(error).__name__} {error}"
        return LeftOut(name, "unreadable", plain(why), record=record)
    return run


def _begun(folder: Path, record: Any) -> Run | None:
    """A run that did not finish, as far as its record tells; trials of a tuning are none."""
    try:
        run = Run.of(folder, record)
        _ = run.seed, run.planned, variant(run)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None
    return run if record["settings"].get("scored_on", "test") == "test" else None


def _apart(run: Run) -> list[str]:
    """Totals of a whole ledger that are not the sums of their parts, in words."""
    parts = sum(run.cost("flops", part) or 0 for part in run.record["ledger"]["flops"])
    clock = sum(run.cost("seconds", part) or 0 for part in ("training", "setup"))
    flops, seconds = run.cost("flops_total") or 0, run.cost("seconds_total") or 0
    found = []
    if abs(flops - parts) > FLOPS_APART * flops:
        found.append(f"flops_total is {flops:g}, its parts sum to {parts:g}")
    if abs(seconds - clock) > SECONDS_APART * seconds:
        found.append(f"seconds_total is {seconds:g}, training and setup sum to {clock:g}")
    return found


def _unranked(run: Run, why: str) -> Unranked:
    shots = max(run.scores.get(TRAINED, {}), default=None)
    score = None if shots is None else run.accuracy(TRAINED, shots)
    told = (variant(run)[0], run.seed, shots, score)
    return Unranked(run.id, "unbudgeted", why, *told, record=run.record)


def _one_of_each_name(runs: Iterable[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Of different runs of one name that which was started first: who reads a name means one run.

    Runs of one name that are the same are for ``_first_of_each`` to tell.
    """
    first: dict[str, Run] = {}
    kept, duplicated = [], []
    for run in merging.ordered(runs):
        holder = first.setdefault(run.id, run)
        if _given(holder) == _given(run):
            kept.append(run)
            continue
        why = "another run of this id was started first; they differ in"
        duplicated.append(_lost(holder, run, "duplicated id", why))
    return kept, duplicated


def _lost(first: Run, run: Run, status: str, why: str) -> LeftOut:
    """A run that does not count because another one does."""
    differs = merging.differences(first, run)
    return LeftOut(
        run.id,
        status,
        plain(f"{why} {merging.in_words(differs)}"),
        folder=run.folder,
        record=run.record,
        counted=first.folder,
        differs=differs,
    )


def _given(run: Run) -> tuple[Any, ...]:
    """What a run was to be; where seconds are the budget, on which machine."""
    timed = run.machine if run.planned[0] == "seconds" else None
    return (*run.conditions.values(), *run.planned, timed, str(variant(run)), run.seed)


def _first_of_each(runs: Iterable[Run]) -> tuple[list[Run], list[LeftOut]]:
    """The run that was started first counts, so that nobody repeats one until it looks good.

    Only one that was probed during training as well may take its place.
    """
    kept: dict[tuple[Any, ...], Run] = {}
    repeated = []
    for run in sorted(merging.ordered(runs), key=lambda run: len(run.moments) < 2):
        first = kept.setdefault(_given(run), run)
        if first is not run:
            repeated.append(_again(first, run))
    return list(kept.values()), repeated


def _again(first: Run, run: Run) -> LeftOut:
    if first.folder.resolve() == run.folder.resolve():
        why = f"the same folder as {first.id}, by another path"
    elif first.id == run.id:
        why = f"another run of this id and settings {_before(first, run)}; they differ in"
        return _lost(first, run, "conflict", why)
    else:
        before = "came first" if merging.begin(first) < merging.begin(run) else PROBED
        why = f"the same strategy, seed, budget and conditions as {first.id}, which {before}"
    return LeftOut(run.id, "repeated", why, folder=run.folder, record=run.record)


def _before(first: Run, run: Run) -> str:
    """Why the one counts and not the other of its name."""
    if first.started == run.started and len(first.moments) == len(run.moments):
        return "counts: both began in one second, and the smaller hash decides"
    return "was started first" if first.started <= run.started else PROBED
