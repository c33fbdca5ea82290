"""One HTML page from runs: no network, readable without script, the same bytes every time."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from maskbench.figures.picture import Picture
from maskbench.report import (
    across,
    chapters,
    datasets,
    drawings,
    masked,
    numbers,
    pictures,
    probed,
    sections,
    words,
)
from maskbench.report import runs as origins
from maskbench.report.apart import Pair, missing_views, not_compared
from maskbench.report.frontier import Frontier, frontiers
from maskbench.report.reading import LeftOut, Unranked, read
from maskbench.report.studied import Studied, studied
from maskbench.report.views import Group, groups
from maskbench.trust import plain

if TYPE_CHECKING:
    import jinja2

NAME = "report.html"
HERE = Path(__file__).parent
FEW, PAIRS = 6, 100
"""So many chapters, or strategies' masks, are shown at once, further ones can be unfolded; and so
many pairs that cannot be compared."""


@dataclass(frozen=True)
class Report:
    """What runs say, and a page of it, which is made and whose figures are drawn when it is read.

    Args:
        groups: Runs by what may be compared.
        left_out: What is not ranked, and why; the page says so itself.
        differing: In what the groups differ.
        not_compared: Pairs that share no group, and why.
        missing_views: Views in which no two strategies are equal, and how to get there.
        frontiers: Accuracy against cost, by like runs.
        across: Means over data sets, one per group; most have none.
        studies: What is known of the masks, one per group; nothing where another group shows it.
        folders: Of all the runs, those that were left out too.
    """

    groups: Sequence[Group]
    left_out: Sequence[LeftOut]
    differing: Sequence[str]
    not_compared: Sequence[Pair]
    missing_views: Sequence[Pair]
    frontiers: Sequence[Frontier]
    across: Sequence[datasets.Across]
    studies: Sequence[Studied]
    folders: Sequence[Path] = ()

    @property
    def unranked(self) -> list[Unranked]:
        """Finished runs whose ledger lacks something."""
        return [item for item in self.left_out if isinstance(item, Unranked)]

    @cached_property
    def html(self) -> str:
        """The page."""
        return _html(self.told)

    @cached_property
    def pictures(self) -> Sequence[Picture]:
        """All figures, in the page's order."""
        return drawings.pictures(self.told["chapters"])

    @cached_property
    def told(self) -> dict[str, Any]:
        """Everything the template shows."""
        return _told(self, _parts(self))


def make(folders: Sequence[Path]) -> Report:
    """A report of the runs in these folders."""
    runs, left_out = read(folders)
    found = groups(runs, [item.begun for item in left_out if item.begun])
    elsewhere, unread = probed.read(runs)
    left_out += unread
    means = [datasets.over(group, elsewhere) for group in found]
    shown, studies = sections.Shown(), []
    for group in found:
        fresh = shown.new(group.entries)
        masks, unstudied = studied(group) if fresh else (Studied(), [])
        missing = pictures.unread(group, fresh) if fresh else []
        shown.add(group, "")
        studies.append(masks)
        left_out += [item for item in (*missing, *unstudied) if item not in left_out]
    return Report(
        groups=found,
        left_out=left_out,
        differing=sections.differing(found),
        not_compared=not_compared(runs, found),
        missing_views=missing_views(runs, found),
        frontiers=frontiers(runs),
        across=means,
        studies=studies,
        folders=list(folders),
    )


def _parts(report: Report) -> list[dict[str, Any]]:
    """What the template shows of each group."""
    parts, shown = [], sections.Shown()
    known = zip(report.groups, report.across, report.studies, strict=True)
    for number, (group, mean, masks) in enumerate(known, 1):
        part = sections.section(group, f"g{number}", report.groups, shown, masks)
        about = {"studied": masked.section(group, masks, f"g{number}")}
        parts.append({**part, **sections.about(group, mean, masks, report.groups), **about})
    return parts


def _told(report: Report, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Everything the template shows."""
    made = chapters.chapters(report.groups)
    titles = {part["id"]: part["title"] for part in parts}
    shown = [_chapter(report, chapter, f"s{place}", parts) for place, chapter in enumerate(made, 1)]
    return {
        "chapters": shown,
        "few": FEW,
        "most_pairs": PAIRS,
        "titles": titles,
        "differing": report.differing,
        "runs": len({run.key for group in report.groups for run in group.runs}),
        "strategies": list(dict.fromkeys(label for chapter in made for label in chapter.labels)),
        "not_compared": report.not_compared,
        "unranked": report.unranked,
        "left_out": [item for item in report.left_out if not isinstance(item, Unranked)],
        "origins": origins.origins(made),
        "made_with": ", ".join(f"{name} {n}" for name, n in numbers.made_with().items()),
    }


def _chapter(
    report: Report, chapter: chapters.Chapter, name: str, parts: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Like runs, with their leaderboards, their groups and their accuracy against cost."""
    own = {run.id for _, group in chapter.groups for run in group.runs}
    missing = [pair for pair in report.missing_views if pair.a in own]
    against = [found for found in report.frontiers if found.conditions == chapter.conditions]
    lead = parts[chapter.groups[0][0] - 1]
    return {
        "id": name,
        "title": sections.setting(chapter.lead, report.groups),
        "verdict": lead["verdict"],
        "alarms": lead["alarms"],
        "facts": lead["facts"],
        "labels": chapter.labels,
        "runs": chapter.runs,
        "tabs": chapters.tabs(chapter, missing),
        "groups": [parts[number - 1] for number, _ in chapter.groups],
        "frontiers": [
            across.against_cost(found, f"{name}-cost{i}") for i, found in enumerate(against, 1)
        ],
    }


def _html(told: dict[str, Any]) -> str:
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode()
    template = _environment().get_template("page.html")
    return template.render(
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),  # noqa: S704 our own files
        script=Markup(script),  # noqa: S704 our own, too
        script_hash=digest,
        **told,
    )


@cache
def _environment() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        finalize=_finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        share=words.share,
        count=words.count,
        duration=words.duration,
        signed=words.signed,
        p=words.p_value,
    )
    return environment


def _finalize(value: Any) -> Any:
    """Whatever the page shows is plain; what was made here as HTML stays as it is."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
