"""What the template shows of one group: texts, rows and figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from maskbench.report import (
    across,
    board,
    costs,
    datasets,
    differences,
    limits,
    pictures,
    tables,
    words,
)
from maskbench.report.alarms import alarms
from maskbench.report.diagnostics import diagnostics
from maskbench.report.forest import forest
from maskbench.report.judge import judge
from maskbench.report.methods import methods
from maskbench.report.player import player
from maskbench.report.progress import over_epochs
from maskbench.report.studied import Studied
from maskbench.report.verdict import verdict
from maskbench.report.views import Entry, Group
from maskbench.trust import plain


@dataclass
class Shown:
    """What earlier groups of the page have shown in full: run to group's id."""

    runs: dict[str, str] = field(default_factory=dict)

    def new(self, entries: Sequence[Entry]) -> list[Entry]:
        """Entries of which something was not shown yet."""
        return [e for e in entries if any(run.key not in self.runs for run in e.runs)]

    def where(self, group: Group) -> list[str]:
        """The groups that show runs of this one."""
        found = (self.runs[run.key] for run in group.runs if run.key in self.runs)
        return list(dict.fromkeys(found))

    def add(self, group: Group, name: str) -> None:
        """From here on a group's runs are shown under this id."""
        for run in group.runs:
            self.runs.setdefault(run.key, name)


def section(
    group: Group, name: str, others: Sequence[Group], shown: Shown, studied: Studied
) -> dict[str, Any]:
    """Everything the template shows of a group.

    Where all its runs were shown before there are no figures, only links to them.

    Args:
        group: Runs that may be compared.
        name: Its id in the page.
        others: All groups of the page.
        shown: What groups before it have shown; this one is added.
        studied: What is known of its masks.
    """
    fresh, earlier = shown.new(group.entries), shown.where(group)
    part = {
        "id": name,
        "facts": tables.facts(group),
        "title": title(group, others),
        "verdict": verdict(group),
        "alarms": alarms(group),
        "rates": board.learning_rates(group),
        **_statistics(group),
        "has_reference": group.reference is not None,
        "cost": tables.cost(group),
        "relative": _relative(group),
        "machines": len({run.machine for run in group.runs}),
        "labels": [entry.label for entry in group.entries],
        "seeds": max(len(entry.runs) for entry in group.entries),
        "reach": across.to_reach(group),
        "forest": forest(group, f"{name}-forest"),
        "full": bool(fresh),
        "earlier": earlier,
    }
    if not fresh:
        return {**part, "epochs": None}
    reels = pictures.reels(group, fresh, studied)
    shown.add(group, name)
    return part | {
        "curves": pictures.few_shot(group, f"{name}-few-shot"),
        "epochs": over_epochs(group, f"{name}-epochs"),
        "losses": pictures.losses(group, f"{name}-loss"),
        "difficulty": pictures.difficulty(group, f"{name}-difficulty"),
        "masks": pictures.masks(reels),
        "player": player(reels),
    }


def _statistics(group: Group) -> dict[str, Any]:
    """What differs from random, and what so many seeds can show."""
    return {
        "differences": differences.differences(group),
        "exploratory": differences.exploratory(group),
        "power": differences.power(group),
        "none_finished": judge(group).none_finished,
        "unfinished": differences.unfinished(group),
        "how": {"primary": differences.HOW, "exploratory": differences.EXPLORATORY},
    }


def about(
    group: Group, over: datasets.Across, studied: Studied, others: Sequence[Group]
) -> dict[str, Any]:
    """The mean over data sets, or why there is none; checks, methods and limits of a group.

    Args:
        group: Runs that may be compared.
        over: Its mean over data sets.
        studied: What is known of its masks.
        others: All groups of the page.
    """
    shown = {"title": datasets.title(over), "rows": datasets.texts(over), "how": datasets.how(over)}
    return {
        "over": shown if over.rows else None,
        "over_note": over.note,
        "diagnostics": diagnostics(group, studied, others),
        "methods": methods(group, len(over.sets), studied),
        "limits": limits.limits(group, len(over.sets)),
    }


def _relative(group: Group) -> dict[str, Any]:
    """The cost table relative to random."""
    rows = [
        (label, [costs.said(name, cost) for name, cost in numbers.items()])
        for label, numbers in costs.relative(group)
    ]
    silent = [entry.label for entry in group.entries if not entry.says_cost]
    return {"names": list(costs.NUMBERS), "rows": rows, "silent": silent}


def title(group: Group, found: Sequence[Group]) -> str:
    """The group in a few words, with what sets it apart from all groups of the page."""
    equal = (
        f"equal {words.views(group.views)}" if len(group.entries) > 1 else group.entries[0].label
    )
    amount = ", ".join(words.matched(group))
    return plain(f"{setting(group, found)}, {equal}: {amount}")


def setting(group: Group, found: Sequence[Group]) -> str:
    """What a group's runs share, in a few words: data, model, and what sets them apart.

    Args:
        group: Runs that may be compared.
        found: All groups of the page.
    """
    record, given = group.runs[0].record, group.conditions
    apart = differing(found)
    parts = [given["data"] if "data" in apart else record["data"]["name"]]
    parts.append(record["model"]["preset"])
    for name in ("hidden", "recipe", "probes"):
        if name in apart:
            others = [other.conditions[name].split(", ") for other in found]
            own = given[name].split(", ")
            parts += [part for part in own if not all(part in other for other in others)]
    return plain(", ".join(parts).replace("_", " "))


def differing(found: Sequence[Group]) -> list[str]:
    """In what the groups are not all equal: conditions, and the budget."""
    if len(found) < 2:
        return []
    names = found[0].conditions
    unlike = [name for name in names if len({group.conditions[name] for group in found}) > 1]
    alike = {tuple(group.conditions.values()) for group in found}
    return [*unlike, *(["budget"] if len(alike) < len(found) else [])]
