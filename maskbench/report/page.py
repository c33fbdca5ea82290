"""One HTML page from runs: no network, no script, the same bytes for the same records."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from maskbench.errors import StoreError
from maskbench.figures.picture import Picture
from maskbench.findings import table as csv
from maskbench.report import (
    across,
    board,
    costs,
    datasets,
    differences,
    drawings,
    limits,
    masked,
    pictures,
    probed,
    tables,
    words,
)
from maskbench.report.alarms import alarms
from maskbench.report.apart import Pair, missing_views, not_compared
from maskbench.report.forest import forest
from maskbench.report.frame import Run
from maskbench.report.frontier import Frontier, frontiers
from maskbench.report.judge import judge
from maskbench.report.progress import over_epochs
from maskbench.report.putting import put
from maskbench.report.reading import LeftOut, Unranked, read
from maskbench.report.studied import Studied, numbered, studied
from maskbench.report.verdict import verdict
from maskbench.report.views import Entry, Group, groups
from maskbench.trust import plain

NAME = "report.html"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Report:
    """A page and what it was made of.

    Args:
        html: The page.
        groups: Runs by what may be compared.
        left_out: What is not ranked, and why; the page says so itself.
        differing: In what the groups differ.
        not_compared: Pairs that share no group, and why.
        missing_views: Views in which no two strategies are equal, and how to get there.
        frontiers: Accuracy against cost, by like runs.
        across: Means over data sets, one per group; most have none.
        studies: What is known of the masks, one per group; nothing where another group shows it.
        pictures: The page's figures, in its order.
    """

    html: str
    groups: Sequence[Group]
    left_out: Sequence[LeftOut]
    differing: Sequence[str]
    not_compared: Sequence[Pair]
    missing_views: Sequence[Pair]
    frontiers: Sequence[Frontier]
    across: Sequence[datasets.Across]
    studies: Sequence[Studied]
    pictures: Sequence[Picture] = ()

    @property
    def unranked(self) -> list[Unranked]:
        """Finished runs whose ledger lacks something."""
        return [item for item in self.left_out if isinstance(item, Unranked)]


@dataclass
class _Shown:
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


def make(folders: Sequence[Path]) -> Report:
    """A report of the runs in these folders."""
    runs, left_out = read(folders)
    found = groups(runs, [item.begun for item in left_out if item.begun])
    elsewhere, unread = probed.read(runs)
    left_out += unread
    means = [datasets.over(group, elsewhere) for group in found]
    differing, parts, shown, studies = _differing(found), [], _Shown(), []
    for number, (group, mean) in enumerate(zip(found, means, strict=True), 1):
        part, missing = _group(group, f"g{number}", differing, shown)
        masks, unstudied = studied(group) if part["full"] else (Studied(), [])
        studies.append(masks)
        about = {"studied": masked.section(group, masks, f"g{number}-study")}
        parts.append({**part, **_data_sets(group, mean), **about})
        left_out += [item for item in (*missing, *unstudied) if item not in left_out]
    report = Report(
        html="",
        groups=found,
        left_out=left_out,
        differing=differing,
        not_compared=not_compared(runs, found),
        missing_views=missing_views(runs, found),
        frontiers=frontiers(runs),
        across=means,
        studies=studies,
    )
    spent = [across.against_cost(f, f"cost{i}") for i, f in enumerate(report.frontiers, 1)]
    html = _html(report, parts, spent, runs)
    return replace(report, html=html, pictures=drawings.pictures(parts, spent))


def _html(
    report: Report,
    parts: Sequence[dict[str, Any]],
    spent: Sequence[dict[str, Any]],
    runs: Sequence[Run],
) -> str:
    template = _environment().get_template("page.html")
    return template.render(
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),  # noqa: S704 our own file
        groups=parts,
        titles={part["id"]: part["title"] for part in parts},
        differing=report.differing,
        runs=len(runs),
        frontiers=spent,
        not_compared=report.not_compared,
        missing_views=report.missing_views,
        unranked=report.unranked,
        left_out=[item for item in report.left_out if not isinstance(item, Unranked)],
        provenance=[tables.origin(run) for run in _each(report.groups)],
    )


def _each(found: Sequence[Group]) -> list[Run]:
    """All runs once, in the order of the groups."""
    return list({run.key: run for group in found for run in group.runs}.values())


def write(report: Report, folder: Path) -> tuple[Path, bool]:
    """Put the page into a folder; beside it its figures as files, and what is known of masks.

    Returns:
        The page, and whether an older one was replaced.

    Raises:
        StoreError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replaced = (folder / NAME).exists()
        for table, rows in numbered(report.studies).items():
            path = folder / f"masks-{table}.csv"
            if rows or path.exists():  # what is there is of another report
                put(path, csv(rows))
        drawings.write_pictures(report.pictures, folder / drawings.FOLDER)
        put(folder / NAME, report.html)
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"cannot write {folder / NAME}: {why}. Choose another --out.") from error
    return folder / NAME, replaced


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        finalize=_finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        share=words.share, count=words.count, duration=words.duration, signed=words.signed
    )
    return environment


def _finalize(value: Any) -> Any:
    """Whatever the page shows is plain; what was made here as HTML stays as it is."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _group(
    group: Group, name: str, differing: Sequence[str], shown: _Shown
) -> tuple[dict[str, Any], list[LeftOut]]:
    """Everything the template shows of a group, and files that were missing.

    Where all its runs were shown before there are no figures, only links to them.
    """
    fresh, earlier = shown.new(group.entries), shown.where(group)
    part = {
        "id": name,
        "facts": tables.facts(group),
        "title": _title(group, differing),
        "verdict": verdict(group),
        "alarms": alarms(group),
        "rows": board.leaderboard(group),
        **_statistics(group),
        "equal": words.views(group.views) if group.views else "",
        "rates": board.learning_rates(group),
        "has_reference": group.reference is not None,
        "cost": tables.cost(group),
        "relative": _relative(group),
        "machines": len({run.machine for run in group.runs}),
        "labels": [entry.label for entry in group.entries],
        "reach": across.to_reach(group),
        "forest": forest(group, f"{name}-forest"),
        "epochs": None,
        "full": bool(fresh),
        "earlier": earlier,
    }
    if not fresh:
        return part, []
    losses, no_losses = pictures.losses(group, f"{name}-loss")
    masks, no_masks = pictures.masks(fresh)
    shown.add(group, name)
    part |= {
        "epochs": over_epochs(group, f"{name}-epochs"),
        "curves": pictures.few_shot(group, f"{name}-few-shot"),
        "losses": losses,
        "difficulty": pictures.difficulty(group, f"{name}-gap"),
        "masks": masks,
    }
    return part, [*no_masks, *no_losses]


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


def _data_sets(group: Group, over: datasets.Across) -> dict[str, Any]:
    """The mean over data sets, or why there is none, and what the group cannot tell."""
    shown = {"title": datasets.title(over), "rows": datasets.texts(over), "how": datasets.how(over)}
    return {
        "over": shown if over.rows else None,
        "over_note": over.note,
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


def _title(group: Group, differing: Sequence[str]) -> str:
    """The group in a few words, with what sets it apart."""
    record, given = group.runs[0].record, group.conditions
    data = given["data"] if "data" in differing else record["data"]["name"]
    parts = [data, record["model"]["preset"]]
    parts += [given[name].replace("_", " ") for name in ("hidden", "recipe") if name in differing]
    equal = (
        f"equal {words.views(group.views)}" if len(group.entries) > 1 else group.entries[0].label
    )
    return plain(f"{', '.join(parts)}, {equal}: {', '.join(words.matched(group))}")


def _differing(found: Sequence[Group]) -> list[str]:
    """In what the groups are not all equal: conditions, and the budget."""
    if len(found) < 2:
        return []
    names = found[0].conditions
    unlike = [name for name in names if len({group.conditions[name] for group in found}) > 1]
    alike = {tuple(group.conditions.values()) for group in found}
    return [*unlike, *(["budget"] if len(alike) < len(found) else [])]
