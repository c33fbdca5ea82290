"""Run folders sorted: runs that may be ranked, and everything else with the reason."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskbench.errors import SchemaError, StoreError
from maskbench.report.apart import unlike
from maskbench.report.frame import TRAINED, Run, variant
from maskbench.report.words import consumed
from maskbench.results import RECORD, lacking, read_record
from maskbench.trust import plain

FLOPS_APART, SECONDS_APART = 1e-3, 1e-2
"""How far a total may be from the sum of its parts, as a share of it: rounding."""


@dataclass(frozen=True)
class LeftOut:
    """Something a report does not rank.

    Args:
        run: Which run.
        status: ``failed``, ``running``, ``unreadable``, ``other schema``, ``no record``,
            ``repeated``, ``duplicated id``, ``trial``, ``missing file``...
        reason: Why, in words.
        begun: What it was begun as, if it did not finish and its record says so.
    """

    run: str
    status: str
    reason: str
    begun: Run | None = field(default=None, kw_only=True, compare=False, repr=False)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {name: value for name, value in vars(self).items() if name != "begun"}


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
    found = [_read(folder) for folder in folders]
    left_out = [item for item in found if isinstance(item, LeftOut)]
    named, duplicated = _one_of_each_name(item for item in found if isinstance(item, Run))
    kept, repeated = _first_of_each(named)
    every = [*left_out, *duplicated, *repeated]
    return kept, sorted(every, key=lambda item: (item.run, item.reason))


def _read(folder: Path) -> Run | LeftOut:
    name = plain(folder.name)
    if not (folder / RECORD).exists():
        why = f"no {RECORD}: it ended before its first record, or its copy is not whole"
        return LeftOut(name, "no record", why)
    try:
        record = read_record(folder)
        if record["status"] != "finished":
            why = plain(record.get("error") or "it has not finished")
            return LeftOut(name, plain(record["status"]), why, begun=_begun(folder, record))
        if record["settings"].get("scored_on", "test") != "test":
            why = "a trial of maskbench tune, scored on development images: never compared"
            return LeftOut(name, "trial", why)
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
        return LeftOut(name, "unreadable", plain(why))
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
    return Unranked(run.id, "unbudgeted", why, variant(run)[0], run.seed, shots, score)


def _one_of_each_name(runs: Iterable[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Of different runs of one name that which was started first: who reads a name means one run.

    Runs of one name that are the same are for ``_first_of_each`` to tell.
    """
    first: dict[str, Run] = {}
    kept, duplicated = [], []
    for run in sorted(runs, key=_order):
        holder = first.setdefault(run.id, run)
        if _given(holder) == _given(run):
            kept.append(run)
            continue
        why = f"another run of this id was started first; they differ in {_differing(holder, run)}"
        duplicated.append(LeftOut(run.id, "duplicated id", plain(why)))
    return kept, duplicated


def _differing(one: Run, other: Run) -> str:
    """In what two runs differ, of all that makes a run: of the first and of the other."""
    parts = [unlike(one, other)]
    for name, ours, theirs in (
        ("strategy", _strategy(one), _strategy(other)),
        ("seed", str(one.seed), str(other.seed)),
        ("budget", consumed(*one.planned), consumed(*other.planned)),
        ("machine", one.machine, other.machine),
    ):
        parts.append(f"{name}: {ours} and {theirs}" if ours != theirs else "")
    return "; ".join(part for part in parts if part)


def _strategy(run: Run) -> str:
    name, settings = variant(run)
    told = ", ".join(f"{key}={value}" for key, value in settings.items())
    return f"{name} ({told})" if told else name


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
    for run in sorted(runs, key=lambda run: (len(run.moments) < 2, *_order(run))):
        first = kept.setdefault(_given(run), run)
        if first is not run:
            repeated.append(LeftOut(run.id, "repeated", _again(first, run)))
    return list(kept.values()), repeated


def _again(first: Run, run: Run) -> str:
    if first.folder.resolve() == run.folder.resolve():
        return f"the same folder as {first.id}, by another path"
    before = "came first" if _order(first) < _order(run) else "was probed during training"
    return f"the same strategy, seed, budget and conditions as {first.id}, which {before}"


def _order(run: Run) -> tuple[str, int, str, str]:
    return run.started, len(run.id), run.id, run.key
