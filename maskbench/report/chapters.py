"""Like runs as chapters of the page: their leaderboards in three views, and their groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from maskbench.report import costs, exports
from maskbench.report.apart import Pair
from maskbench.report.board import leaderboard
from maskbench.report.judge import judge
from maskbench.report.verdict import verdict
from maskbench.report.views import VIEWS, Group
from maskbench.report.words import count, matched, views
from maskbench.trust import plain

STRIP = ("images", "FLOPs", "time")
"""What a budget is made of."""
TITLES = {"images": "Equal images", "flops": "Equal FLOPs", "seconds": "Equal time"}
UNMATCHED = "Not matched"


@dataclass(frozen=True)
class Chapter:
    """Groups of like runs, with their numbers among all groups of the page.

    Args:
        groups: (number from 1, group), the one that speaks for the chapter first.
    """

    groups: Sequence[tuple[int, Group]]

    @property
    def lead(self) -> Group:
        """The group whose verdict stands for the chapter."""
        return self.groups[0][1]

    @property
    def conditions(self) -> Mapping[str, str]:
        """What all its runs share."""
        return self.lead.conditions

    @property
    def labels(self) -> list[str]:
        """Its strategies, random masking first."""
        entries = [entry for _, group in self.groups for entry in group.entries]
        ordered = sorted(entries, key=lambda entry: (not entry.is_reference, entry.label))
        return list(dict.fromkeys(entry.label for entry in ordered))

    @property
    def runs(self) -> int:
        """How many runs it has, each counted once."""
        return len({run.key for _, group in self.groups for run in group.runs})


def chapters(groups: Sequence[Group]) -> list[Chapter]:
    """Groups by equal conditions; those with the most strategies and runs first.

    A group that compares with random masking speaks for its chapter before one that does not.
    """
    found: dict[tuple[str, ...], list[tuple[int, Group]]] = {}
    for number, group in enumerate(groups, 1):
        found.setdefault(tuple(group.conditions.values()), []).append((number, group))
    made = [Chapter(sorted(own, key=_weight)) for own in found.values()]
    return sorted(made, key=lambda chapter: _weight(chapter.groups[0]))


def _weight(numbered: tuple[int, Group]) -> tuple[Any, ...]:
    number, group = numbered
    return not judge(group).primary, -len(group.entries), -len(group.runs), number


def tabs(chapter: Chapter, missing: Sequence[Pair]) -> list[dict[str, Any]]:
    """The views of a chapter: its leaderboards under equal images, FLOPs and time.

    Args:
        chapter: Like runs.
        missing: Views of them in which no two strategies are equal.
    """
    found, empty = [], []
    for view in VIEWS:
        own = [(n, group) for n, group in chapter.groups if view in group.views]
        several = [(n, group) for n, group in own if len(group.entries) > 1]
        why = next((pair for pair in missing if pair.view == view), None)
        boards = [board(number, group, view) for number, group in several]
        tab = {"name": view, "title": TITLES[view], "boards": boards, "missing": why}
        if boards:
            found.append(tab)
        elif why:
            empty.append(tab)
    shown = {n for n, group in chapter.groups if len(group.entries) > 1 and group.views}
    alone = [board(n, group, "alone") for n, group in chapter.groups if n not in shown]
    if alone:
        title = UNMATCHED if shown else "Runs"
        found.append({"name": "alone", "title": title, "boards": alone, "missing": None})
    return [*found, *empty]


def board(number: int, group: Group, view: str) -> dict[str, Any]:
    """A leaderboard with its budget strip, as the template shows it."""
    judged = judge(group)
    rows = leaderboard(group)
    return {
        "id": f"b{number}-{view}",
        "group": f"g{number}",
        "title": _amount(group),
        "verdict": verdict(group),
        "shots": rows[0].shots,
        "rows": [
            {
                "row": row,
                "tried": judged.attempts[row.strategy],
                "primary": judged.primary.get(row.strategy),
                "paired": exports.paired(judged.primary.get(row.strategy)),
                "strip": strip,
            }
            for row, strip in zip(rows, strips(group), strict=True)
        ],
        "lost": judged.none_finished,
        "exports": [(kind, _lines(exports.leaderboard_as(group, kind))) for kind in exports.KINDS],
        "survivors": any(row.runs.flagged for row in rows),
        "priors": [(row.strategy, row.prior) for row in rows if row.prior],
        "has_reference": group.reference is not None,
    }


def _lines(text: str) -> Markup:
    """A text whose lines stay lines."""
    return escape(plain(text, lines=True))


def _amount(group: Group) -> str:
    equal = f"equal {views(group.views)}: " if len(group.entries) > 1 and group.views else ""
    return f"{equal}{', '.join(matched(group))}; {count(len(group.runs), 'run')}"


def strips(group: Group) -> list[list[dict[str, Any]]]:
    """What every strategy consumed, in thirds of a strip: text, multiple of random's, length.

    The length is a share of the longest; it is 0 where nothing compares.
    """
    spent = [numbers for _, numbers in costs.relative(group)]
    one_machine = len({run.machine for run in group.runs}) == 1
    found = []
    for numbers in spent:
        row = []
        for name in STRIP:
            most = max((other[name].value or 0 for other in spent), default=0)
            value, times = costs.said(name, numbers[name])
            drawn = name != "time" or one_machine
            length = (numbers[name].value or 0) / most if most and drawn else 0
            row.append({"name": name, "value": value, "times": times, "length": length})
        found.append(row)
    return found
