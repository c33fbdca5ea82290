"""What cannot be compared, why, and the command that would change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from maskbench.report.again import matching, placed
from maskbench.report.frame import Run, variant
from maskbench.report.means import middle
from maskbench.report.views import VIEWS, Entry, Group, amount, cells, likes
from maskbench.report.words import SAID, consumed


@dataclass(frozen=True)
class Pair:
    """Two entries that share no group.

    Args:
        a: The one.
        b: The other.
        why: In what they differ.
        command: What would make a comparable run; nothing for unlike conditions.
        here: The same from the current folder: it names the store, where that is not ``runs``.
        view: In which they would have to be equal; None where no single one is meant.
    """

    a: str
    b: str
    why: str
    command: str = ""
    here: str = ""
    view: str | None = None


def not_compared(runs: Sequence[Run], groups: Sequence[Group]) -> list[Pair]:
    """All pairs of strategies under a budget that no group holds together.

    A strategy under two budgets is not a pair: it is not to be compared with itself.
    """
    together = [{run.key for run in group.runs} for group in groups]
    named = [(entry, _named(entry, runs)) for like in likes(runs) for entry in cells(like)]
    found = []
    for (a, name), (b, other) in combinations(named, 2):
        one, two = ({run.key for run in entry.runs} for entry in (a, b))
        if any(one & members and two & members for members in together):
            continue
        if a.runs[0].conditions != b.runs[0].conditions:
            found.append(Pair(name, other, unlike(a.runs[0], b.runs[0])))
        elif str(variant(a.runs[0])) != str(variant(b.runs[0])):
            view = "flops" if _costs_known(a, b) else "images"
            commands = _commands(b.runs[0], a.runs[0], view)
            found.append(Pair(name, other, _unequal(a, b), *commands))
    return found


def _named(entry: Entry, runs: Sequence[Run]) -> str:
    """A strategy, its budget, and the data and model where the report has several."""
    run = entry.runs[0]
    parts = [entry.label, consumed(*run.planned)]
    for name in ("data", "model"):
        if len({other.conditions[name] for other in runs}) > 1:
            parts.append(run.conditions[name].partition(" (")[0])
    return ", ".join(parts)


def unlike(a: Run, b: Run) -> str:
    """The conditions in which two runs differ, in words; of texts with several parts only those."""
    return "; ".join(f"{name}: {mine} and {theirs}" for name, mine, theirs in conditions(a, b))


def conditions(a: Run, b: Run) -> list[tuple[str, str, str]]:
    """The conditions in which two runs differ: the name, that of the one and that of the other."""
    found = []
    for name, mine in a.conditions.items():
        theirs = b.conditions[name]
        if mine != theirs:
            one, two = mine.split(", "), theirs.split(", ")
            own = ", ".join(part for part in one if part not in two) or mine
            other = ", ".join(part for part in two if part not in one) or theirs
            found.append((name, own.replace("_", " "), other.replace("_", " ")))
    return found


def _unequal(a: Entry, b: Entry) -> str:
    """The amounts of two entries in every view."""
    return ", ".join(_amounts(a, b, view) for view in VIEWS)


def _amounts(a: Entry, b: Entry, view: str) -> str:
    one, two = (middle(amount(run, view) for run in entry.runs) for entry in (a, b))
    if one is None or two is None:
        return f"{SAID[view]} not known"
    if view == "seconds" and len({run.machine for run in (*a.runs, *b.runs)}) > 1:
        return "time on other machines"
    words = [consumed(view, mean) for mean in (one, two)]
    pair = f"{words[0].removesuffix(' images')} and {words[1]}"
    return f"{pair} ({max(one, two) / min(one, two):.2f}×)"


def _costs_known(*entries: Entry) -> bool:
    return all(entry.says_cost for entry in entries)


def missing_views(runs: Sequence[Run], groups: Sequence[Group]) -> list[Pair]:
    """For like runs of several strategies, each view in which no two of them are equal."""
    found = []
    for like in likes(runs):
        longest = sorted(cells(like), key=lambda e: -max(run.cost("images") or 0 for run in e.runs))
        entries = sorted(longest, key=lambda entry: not entry.is_reference)
        first = entries[0].runs[0]
        other = next((e.runs[0] for e in entries if variant(e.runs[0]) != variant(first)), None)
        given = [group for group in groups if group.conditions == first.conditions]
        seen = {view for group in given if len(group.entries) > 1 for view in group.views}
        for view in VIEWS:
            if other and view not in seen:
                known = view != "flops" or all(run.says_cost for run in (first, other))
                commands = _commands(other, first, view) if known else ("", "")
                why = _missing(view, known=known)
                found.append(Pair(first.id, other.id, why, *commands, view))
    return found


def _commands(run: Run, other: Run, view: str) -> tuple[str, str]:
    """What would make a run that can be compared: anywhere, and as it works from here."""
    near = matching(run, other, view, near=True)
    return matching(run, other, view), placed(near, run.folder)


def _missing(view: str, *, known: bool) -> str:
    if known:
        return f"No two strategies consumed equal {SAID[view]}."
    return f"No two strategies consumed equal {SAID[view]}: not all of them say what they cost."
