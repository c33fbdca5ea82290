"""One HTML page from runs: no network, no script, the same bytes for the same records."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from maskbench.errors import StoreError
from maskbench.report import pictures, tables, words
from maskbench.report.frame import Group, LeftOut, groups, read, text

NAME = "report.html"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Report:
    """A page and what it was made of.

    Args:
        html: The page.
        groups: Runs by what may be compared.
        left_out: What the page does not show, and why; it says so itself.
        differing: Conditions in which the groups differ.
    """

    html: str
    groups: Sequence[Group]
    left_out: Sequence[LeftOut]
    differing: Sequence[str]


def make(folders: Sequence[Path]) -> Report:
    """A report of the runs in these folders."""
    runs, left_out = read(folders)
    found = groups(runs)
    differing, parts = _differing(found), []
    for number, group in enumerate(found, 1):
        part, missing = _group(group, number, differing)
        parts.append(part)
        left_out += missing
    html = (
        _environment()
        .get_template("page.html")
        .render(
            style=Markup((HERE / "style.css").read_text(encoding="utf-8")),  # noqa: S704 our own file
            groups=parts,
            differing=differing,
            runs=len(runs),
            left_out=left_out,
            provenance=[tables.origin(run) for group in found for run in group.runs],
        )
    )
    return Report(html, found, left_out, differing)


def write(report: Report, folder: Path) -> tuple[Path, bool]:
    """Put the page into a folder, in one go.

    Returns:
        The file, and whether an older one was replaced.

    Raises:
        StoreError: It cannot be written.
    """
    path = folder / NAME
    temporary = folder / f".{NAME}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replaced = path.exists()
        temporary.write_text(report.html, encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"cannot write {path}: {why}. Choose another --out.") from error
    return path, replaced


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        share=words.share, count=words.count, duration=words.duration, signed=words.signed
    )
    return environment


def _group(
    group: Group, number: int, differing: Sequence[str]
) -> tuple[dict[str, Any], list[LeftOut]]:
    """Everything the template shows of a group, and files that were missing."""
    name = f"g{number}"
    losses, no_losses = pictures.losses(group, f"{name}-loss")
    masks, no_masks = pictures.masks(group)
    part = {
        "id": name,
        "facts": tables.facts(group),
        "title": _title(group, differing),
        "verdict": words.verdict(group),
        "rows": words.leaderboard(group),
        "has_reference": group.reference is not None,
        "curves": pictures.few_shot(group, f"{name}-curves"),
        "cost": tables.cost(group),
        "machines": len({run.machine for run in group.runs}),
        "labels": [entry.label for entry in group.entries],
        "losses": losses,
        "difficulty": pictures.difficulty(group, f"{name}-gap"),
        "masks": masks,
        "limits": words.limits(group),
    }
    return part, [*no_masks, *no_losses]


def _title(group: Group, differing: Sequence[str]) -> str:
    """The group in a few words, with what sets it apart."""
    record, given = group.runs[0].record, group.conditions
    data = given["data"] if "data" in differing else record["data"]["name"]
    parts = [data, record["model"]["preset"], f"{record['budget']['epochs']:g} epochs"]
    parts += [given[name].replace("_", " ") for name in ("hidden", "recipe") if name in differing]
    return text(", ".join(parts))


def _differing(found: Sequence[Group]) -> list[str]:
    """The conditions in which the groups are not all equal."""
    if len(found) < 2:
        return []
    names = found[0].conditions
    return [name for name in names if len({group.conditions[name] for group in found}) > 1]
