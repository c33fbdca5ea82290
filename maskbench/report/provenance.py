"""Where every run of a report comes from: its store, machine, versions, commit and benchmark."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskbench.report.merging import origin
from maskbench.results import RECORD

if TYPE_CHECKING:
    from maskbench.report.page import Report
    from maskbench.report.reading import LeftOut

Rows = list[dict[str, Any]]
COUNTED = "counted"
PLACES = ("folder", "counted")
"""What names folders, of something that was left out."""


def rows(report: "Report") -> Rows:
    """All runs that were given: where they lie, whether they count, where they were made.

    ``as`` is ``counted``, or the status under which the run is left out.
    """
    held = _held(report)
    found = []
    for folder in sorted(report.folders):
        counts, record = held.get(folder, (None, None))
        place = {"folder": str(folder), "store": str(folder.parent)}
        found.append({**place, "sha256": _hash(folder), "as": counts, **origin(record or {})})
    return found


def sources(report: "Report", home: Path) -> Rows:
    """The same as seen from a report's own folder."""
    return [
        {**row, "folder": Path(os.path.relpath(row["folder"], home)).as_posix()}
        for row in ({name: row[name] for name in row if name != "store"} for row in rows(report))
    ]


def left_out(item: "LeftOut") -> dict[str, Any]:
    """Something that was left out, for programs: where it lies, and in what it differs."""
    told: dict[str, Any] = item.plain()
    if item.differs:
        told["differs"] = {name: [one, other] for name, one, other in item.differs}
        told["counted"] = str(item.counted)
    return {**told, "folder": item.folder and str(item.folder)}


def stores(report: "Report") -> Rows:
    """A row per store: how many of its runs count, and what became of the others."""
    by_store: dict[str, Rows] = {}
    for row in rows(report):
        by_store.setdefault(row["store"], []).append(row)
    return [_store(name, found) for name, found in by_store.items()]


def _store(name: str, found: Rows) -> dict[str, Any]:
    kinds = Counter(_KINDS.get(row["as"], "other") for row in found)
    versions, machines = (
        ", ".join(sorted({row[key] for row in found} - {None})) for key in ("maskbench", "machine")
    )
    told = {kind: kinds[kind] for kind in (COUNTED, "copies", "conflicts", "other")}
    made = f"maskbench {versions or 'not known'} on {machines or 'no known machine'}"
    return {"store": name, "runs": len(found), **told, "made by": made}


_KINDS = {COUNTED: COUNTED, "copy": "copies", "conflict": "conflicts", "duplicated id": "conflicts"}


def _held(report: "Report") -> dict[Path, tuple[str, Mapping[str, Any] | None]]:
    """Folder to what the report did with it, and its record."""
    found: dict[Path, tuple[str, Mapping[str, Any] | None]] = {
        item.folder: (item.status, item.record) for item in report.left_out if item.folder
    }
    runs = {run.key: run for group in report.groups for run in group.runs}
    return found | {run.folder: (COUNTED, run.record) for run in runs.values()}


def _hash(folder: Path) -> str | None:
    try:
        return hashlib.sha256((folder / RECORD).read_bytes()).hexdigest()
    except OSError:
        return None
