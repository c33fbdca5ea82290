"""The checklist of a group: what was looked at, what it showed, and what is not known."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from maskbench.report import masks_words
from maskbench.report.alarms import depends_on_c, under_each_c
from maskbench.report.differences import unfinished
from maskbench.report.frame import PIXELS, PROBE, TRAINED, UNTRAINED, Run
from maskbench.report.judge import judge
from maskbench.report.limits import load
from maskbench.report.recorded import DIRTY, listed, short, told
from maskbench.report.studied import Studied
from maskbench.report.views import Group, amount
from maskbench.report.words import SAID, count, signed
from maskbench.trust import plain

OK, LOOK, WRONG, UNKNOWN = "ok", "look", "failed", "not known"
NAMED = 6
"""Of a longer list so many are named."""
TENTH = 10


@dataclass(frozen=True)
class Finding:
    """A check.

    Args:
        what: What was looked at.
        state: ``ok``; ``look``: read it before the numbers; ``failed``; ``not known``: the runs
            have not recorded it.
        said: What was found, plain text that is not escaped for HTML.
    """

    what: str
    state: str
    said: str


def diagnostics(
    group: Group, studied: Studied | None = None, others: Sequence[Group] = ()
) -> list[Finding]:
    """Every check of a group, one finding each, always in the same order.

    Args:
        group: Runs that may be compared.
        studied: What is known of their masks.
        others: All groups of the report in the order of its page; this one may be among them.
    """
    found = [
        _finished(group),
        _fits(group),
        _anchor(group, UNTRAINED, "an untrained encoder"),
        _anchor(group, PIXELS, "raw pixels"),
        _c(group),
        _loss(group),
        _steps(group),
        _masks(studied),
        _budget(group),
        _seeds(group),
        _alike("Versions", group, _versions),
        _alike("Commit", group, lambda run: _commit(run).removesuffix(DIRTY)),
        _clean(group),
        _alike("Machine", group, lambda run: run.machine),
        _load(group),
        _pixels(group, others),
    ]
    return [Finding(one.what, one.state, plain(one.said)) for one in found]


def _named(words: Iterable[str]) -> str:
    """The first few of a list, and how many more there are."""
    every = list(dict.fromkeys(words))
    more = len(every) - NAMED
    return "; ".join([*every[:NAMED], *([f"and {more} more"] if more > 0 else [])])


def _finished(group: Group) -> Finding:
    tried = judge(group).attempts.values()
    if not group.begun:
        return Finding("Runs", OK, f"All {count(len(group.runs), 'started run')} finished.")
    state = WRONG if any(one.failed for one in tried) else LOOK
    names = _named(f"{run.id} ({run.record['status']})" for run in group.begun)
    return Finding("Runs", state, f"{' '.join(unfinished(group))} {names}.")


def _fits(group: Group) -> Finding:
    """Logistic regressions; older records do not say whether they converged."""
    what, ended, silent, not_there = "Probe fits", 0, 0, []
    for run in group.runs:
        fits = [row.get("converged") for row in _rows(run) if row["probe"].startswith(PROBE)]
        ended += sum(one is True for one in fits)
        silent += sum(not isinstance(one, bool) for one in fits)
        failed = sum(one is False for one in fits)
        not_there += [f"{run.id} ({failed} of {len(fits)})"] if failed else []
    if not_there:
        return Finding(what, LOOK, f"Fits did not converge: {_named(not_there)}.")
    if not silent and not ended:
        return Finding(what, UNKNOWN, "Nothing was probed.")
    if silent:
        return Finding(what, UNKNOWN, f"Whether {silent:,} fits converged is not recorded.")
    return Finding(what, OK, f"All {ended:,} logistic regressions converged.")


def _rows(run: Run) -> list[dict[str, Any]]:
    during = [row for moment in run.record.get("probes_during") or () for row in moment["rows"]]
    return [*run.record["probes"], *run.record["controls"], *during]


def _anchor(group: Group, control: str, name: str) -> Finding:
    """Trained above a control at the largest shot, seed by seed."""
    what, most = f"Trained above {name}", max(group.shots, default=0)
    parts, above, every = [], 0, 0
    for entry in group.entries:
        pairs = [(run.accuracy(TRAINED, most), run.accuracy(control, most)) for run in entry.runs]
        own = [a > b for a, b in pairs if a is not None and b is not None]
        above, every = above + sum(own), every + len(own)
        parts += [f"{entry.label} {sum(own)} of {len(own)}"] if own else []
    if not every:
        return Finding(what, UNKNOWN, "It was not probed.")
    state = OK if above == every else LOOK if above else WRONG
    return Finding(what, state, f"Seeds above it with {most} labels per class: {_named(parts)}.")


def _c(group: Group) -> Finding:
    """Whether FS-AULC orders strategies alike under a tenth and ten times of C."""
    what, base = "Probe's C", group.reference or group.entries[0]
    if len(group.entries) < 2:
        return Finding(what, UNKNOWN, "There is one strategy: nothing to order.")
    each = {e.label: under_each_c(e, base, group) for e in group.entries if e is not base}
    known = [
        f"{label} − {base.label} {', '.join(map(signed, gaps))}"
        for label, gaps in each.items()
        if gaps
    ]
    if not known:
        return Finding(what, UNKNOWN, "No common seed was probed under another C.")
    said = f"Points of FS-AULC under C, C/10 and 10 C: {_named(known)}."
    turned = _named(f"{a} and {b}" for a, b in depends_on_c(group))
    if turned:
        return Finding(what, LOOK, f"{said} The order turns for {turned}.")
    if len(known) < len(each):
        return Finding(what, UNKNOWN, f"{said} The others were not probed under another C.")
    return Finding(what, OK, f"{said} No order turns.")


def _loss(group: Group) -> Finding:
    """The first run of every strategy: its loss falls, and is a number throughout."""
    what, parts, states = "Training loss", [], []
    for entry in group.entries:
        state, said = _course(entry.runs[0])
        states.append(state)
        parts.append(f"{entry.label} {said}")
    state = next((each for each in (WRONG, LOOK, UNKNOWN) if each in states), OK)
    return Finding(what, state, f"First and last tenth, one run each: {_named(parts)}.")


def _course(run: Run) -> tuple[str, str]:
    """State and words of a run's loss; lines are in the order of the images seen."""
    rows = [row for row in run.metrics if "loss" in row]
    numbers = [row for row in rows if all(_is_number(row.get(key)) for key in ("images", "loss"))]
    if not numbers:
        return UNKNOWN, "is not recorded"
    losses = [float(row["loss"]) for row in sorted(numbers, key=lambda row: float(row["images"]))]
    few = max(1, len(losses) // TENTH)
    first, last = sum(losses[:few]) / few, sum(losses[-few:]) / few
    said = f"{first:.3f} to {last:.3f}"
    if len(numbers) < len(rows):
        return WRONG, f"{said}, {count(len(rows) - len(numbers), 'line')} without a finite loss"
    return (OK, said) if last < first else (LOOK, f"{said}, it has not fallen")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _steps(group: Group) -> Finding:
    """Steps that were skipped because a loss or gradient was not finite."""
    what, skipped, silent = "Skipped steps", [], 0
    for run in group.runs:
        nonfinite = run.record.get("nonfinite")
        steps = nonfinite.get("steps_skipped") if isinstance(nonfinite, dict) else None
        if not isinstance(steps, list):
            silent += 1
        elif steps:
            skipped.append(f"{run.id} ({count(len(steps), 'step')})")
    if skipped:
        return Finding(what, LOOK, f"Not finite, and skipped: {_named(skipped)}.")
    if silent:
        return Finding(what, UNKNOWN, f"{silent} of {len(group.runs)} runs did not record it.")
    return Finding(what, OK, "No step was skipped for numbers that are not finite.")


def _masks(studied: Studied | None) -> Finding:
    what = "Collapse of masks"
    if studied is None or not studied.strategies:
        return Finding(what, UNKNOWN, "The masks of this group were not studied.")
    lines = [
        line for label, _, own in studied.strategies for line in masks_words.alarms(label, own)
    ]
    runs = sum(len(own) for _, _, own in studied.strategies)
    if not lines:
        return Finding(
            what, OK, f"No alarm in {count(runs, 'study')}.".replace("studys", "studies")
        )
    return Finding(what, LOOK, f"Alarms: {_named(line.rstrip('.') for line in lines)}.")


def _budget(group: Group) -> Finding:
    what = "Equal budget"
    if not group.views:
        return Finding(what, LOOK, "These runs are matched in no amount.")
    spread = {}
    for view in group.views:
        used = [each for run in group.runs if (each := amount(run, view))]
        spread[view] = max(used) / min(used) - 1 if used else 0.0
    told_of = [f"{SAID[view]} {100 * apart:.2g} %" for view, apart in spread.items()]
    return Finding(what, OK, f"Most over least, minus 1: {listed(told_of)}.")


def _seeds(group: Group) -> Finding:
    seeds = {entry.label: sorted(run.seed for run in entry.runs) for entry in group.entries}
    if len({tuple(own) for own in seeds.values()}) == 1:
        return Finding("Seeds", OK, f"The same of every strategy: {told(_first(seeds))}.")
    parts = _named(f"{label} {told(own)}" for label, own in seeds.items())
    return Finding("Seeds", LOOK, f"They differ, and only common ones are paired: {parts}.")


def _first(seeds: dict[str, list[int]]) -> list[int]:
    return next(iter(seeds.values()))


def _alike(what: str, group: Group, get: Callable[[Run], str]) -> Finding:
    """Whether something of the origin is the same in all runs."""
    found: dict[str, int] = {}
    for run in group.runs:
        found[get(run)] = found.get(get(run), 0) + 1
    if "" in found:
        return Finding(what, UNKNOWN, f"{found['']} of {len(group.runs)} runs did not record it.")
    if len(found) == 1:
        return Finding(what, OK, f"The same in all runs: {next(iter(found))}.")
    parts = _named(f"{name} ({count(n, 'run')})" for name, n in found.items())
    return Finding(what, LOOK, f"{len(found)} in this group: {parts}.")


def _versions(run: Run) -> str:
    return ", ".join(f"{k} {v}" for k, v in sorted(run.record["provenance"]["versions"].items()))


def _commit(run: Run) -> str:
    return short(run.record["provenance"]["commit"] or "")


def _clean(group: Group) -> Finding:
    what, known = "Checkout", [run for run in group.runs if _commit(run)]
    dirty = [run.id for run in known if _commit(run).endswith(DIRTY)]
    if dirty:
        return Finding(what, LOOK, f"Changed files beside the commit: {_named(dirty)}.")
    if len(known) < len(group.runs):
        return Finding(what, UNKNOWN, "Not all runs were made from a git checkout.")
    return Finding(what, OK, "No run was made from changed files.")


def _load(group: Group) -> Finding:
    what, loads = "Machine load", {run.id: load(run) for run in group.runs}
    known = [each for each in loads.values() if each is not None]
    busy = [f"{name} ({each:.2f})" for name, each in loads.items() if each is not None and each > 1]
    if busy:
        return Finding(what, LOOK, f"More than one process per core at the start: {_named(busy)}.")
    if len(known) < len(loads):
        return Finding(
            what, UNKNOWN, f"{len(loads) - len(known)} of {len(loads)} runs did not record it."
        )
    return Finding(what, OK, f"At most {max(known):.2f} processes per core at the start.")


def _pixels(group: Group, others: Sequence[Group]) -> Finding:
    """Whether another group has data of this name and other pixels."""
    what, (name, mark) = "Data of one name", _data(group)
    apart = [
        f"g{number}"
        for number, other in enumerate(others, 1)
        if _data(other)[0] == name and _data(other)[1] != mark
    ]
    if apart:
        return Finding(
            what, LOOK, f"{name} in this group has other pixels than in {listed(apart)}."
        )
    return Finding(what, OK, f"{name} has the same pixels wherever this report names it.")


def _data(group: Group) -> tuple[str, str]:
    data = group.runs[0].record["data"]
    return str(data["name"]), str(data["fingerprint"])
