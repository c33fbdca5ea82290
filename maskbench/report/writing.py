"""A report as files: the page, its numbers as JSON and CSV, its figures for papers."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskbench import trust
from maskbench.errors import StoreError, UsageError
from maskbench.figures.picture import KINDS
from maskbench.findings import table as csv
from maskbench.report import numbers, provenance
from maskbench.report.page import NAME, Report
from maskbench.report.putting import put

NUMBERS, FIGURES = "report.json", "figures"
OURS = re.compile(
    r"(?:leaderboard|runs|few-shot|over-epochs|accuracy-against-cost|left-out|masks-[a-z]+)\.csv"
    r"|figures/[sg]\d+-[a-z0-9-]+\.(?:svg|png|pdf)"
)
"""Names that only a report may have in its folder: they are taken away when a later one no longer
writes them, and are not written over where there is no report."""
FORMULA = tuple("=+-@\t\r")
"""What begins a formula in a spreadsheet."""


def texts(report: Report, folder: Path, kinds: Sequence[str] = KINDS) -> dict[str, str]:
    """The page and its numbers by file name; the same texts from the same records.

    Args:
        report: The report.
        folder: Where it lies, or is to lie: the runs are named as seen from there.
        kinds: Of files for the figures that are written beside it.
    """
    document = numbers.document(report)
    tables = {
        f"{name}.csv": csv([_shielded(row) for row in numbers.rounded(rows)])
        for name, rows in numbers.tables(report, document).items()
        if rows
    }
    drawn = [f"{FIGURES}/{picture.name}.{kind}" for picture in report.pictures for kind in kinds]
    told = {
        **numbers.rounded(numbers.portable(document)),
        "runs": provenance.sources(report, folder),
        "files": sorted([NAME, NUMBERS, *tables, *drawn]),
    }
    return {NAME: report.html, NUMBERS: f"{json.dumps(told, indent=1)}\n", **tables}


def _shielded(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose texts no spreadsheet takes for a formula."""
    return {
        key: f"'{value}" if isinstance(value, str) and value[:1] in FORMULA else value
        for key, value in row.items()
    }


def drawings(report: Report, kinds: Sequence[str] = KINDS) -> Iterator[tuple[str, bytes]]:
    """The figures by file name, one after the other: they take most of the time."""
    for picture in report.pictures:
        for kind, content in picture.files(kinds).items():
            yield f"{FIGURES}/{picture.name}.{kind}", content


def write(report: Report, folder: Path, kinds: Sequence[str] = KINDS) -> tuple[Path, bool]:
    """Put a report into a folder; what an earlier one wrote there and this one does not goes away.

    Args:
        report: The report.
        folder: Made if needed.
        kinds: Of files for the figures; none are written where it is empty.

    Returns:
        The page, and whether an older one was replaced.

    Raises:
        StoreError: It cannot be written.
    """
    page = folder / NAME
    try:
        _refuse(folder)
        (folder / FIGURES if kinds else folder).mkdir(parents=True, exist_ok=True)
        replaced, before = page.exists(), _listed(folder)
        written: set[str] = set()
        for name, content in drawings(report, kinds):
            put(folder / name, content)
            written.add(name)
        for name, text in reversed(texts(report, folder, kinds).items()):  # the page last
            put(folder / name, text)
            written.add(name)
        for name in sorted(before - written):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise StoreError(
            f"cannot write {page}: {why}. Choose another folder (--out; of a benchmark --reports)."
        ) from error
    return page, replaced


def _refuse(folder: Path) -> None:
    """Do not write over files of somebody else.

    Raises:
        StoreError: A table of a report's is there without a report, or figures lie elsewhere.
    """
    if (folder / FIGURES).is_symlink():
        raise StoreError(f"{folder / FIGURES} is a link: choose another --out.")
    if (folder / NAME).exists() or (folder / NUMBERS).exists():
        return
    taken = sorted(path for path in folder.glob("*.csv") if OURS.fullmatch(path.name))
    if taken:
        raise StoreError(f"{taken[0]} is of no report: choose another --out.")


def _listed(folder: Path) -> set[str]:
    """What an earlier report says it wrote, as far as such files are ours to take away."""
    try:
        names = read(folder)["files"]
    except (StoreError, UsageError):
        return set()
    return {name for name in names if OURS.fullmatch(name)}


def read(folder: Path) -> dict[str, Any]:
    """The numbers of a report that was written before.

    Raises:
        UsageError: There is none.
        StoreError: It cannot be read, or is of another schema.
    """
    path = folder / NUMBERS
    try:
        found = trust.parse(trust.read_text(folder, NUMBERS), smallest=0)
    except FileNotFoundError as error:
        raise UsageError(
            f"no report at {path}: 'maskbench compare --out {folder}' makes one."
        ) from error
    except ValueError as error:
        raise StoreError(f"{path} is not a readable report: {error}.") from error
    known = isinstance(found, dict) and found.get("schema") == numbers.SCHEMA
    lists = known and all(isinstance(found.get(key), list) for key in ("runs", "files"))
    whole = lists and isinstance(found.get("made_with"), dict)
    if not whole or not all(isinstance(name, str) for name in found["files"]):
        raise StoreError(f"{path} is not a report of schema {numbers.SCHEMA}: make it again.")
    return dict(found)


def runs_of(folder: Path) -> list[Path]:
    """The run folders that a report was made of, as it names them.

    Raises:
        UsageError: There is no report, or one of the runs is not there.
        StoreError: The report cannot be read.
    """
    rows = read(folder)["runs"]
    found = [folder / str(row.get("folder")) for row in rows if isinstance(row, dict)]
    gone = [path for path in found if not path.is_dir()]
    if gone:
        raise UsageError(
            f"{len(gone)} of the {len(found)} runs of {folder / NUMBERS} are not there: "
            f"{gone[0]}. Name the runs or the store that holds them."
        )
    return found


def kinds_of(folder: Path) -> list[str]:
    """The kinds of files in which a written report has its figures."""
    names = read(folder)["files"]
    return [kind for kind in KINDS if any(name.endswith(f".{kind}") for name in names)]


@dataclass(frozen=True)
class Difference:
    """A file of a report that is not what its records give.

    Args:
        file: Its name in the report's folder.
        state: ``differs``, ``missing`` or ``not from these records``.
    """

    file: str
    state: str


def check(report: Report, folder: Path) -> tuple[list[Difference], list[str]]:
    """Compare a written report with one made now from its records.

    The bytes of pages and figures are those of the libraries that drew them: where these have
    other versions, only numbers are compared.

    Args:
        report: Made from the records.
        folder: Where the written one lies.

    Returns:
        What is not the same, and libraries whose versions are others ("name old, here new").

    Raises:
        UsageError: There is no report.
        StoreError: It cannot be read.
    """
    there = read(folder)
    now = numbers.made_with()
    others = [
        f"{name} {there['made_with'].get(name, 'none')}, here {number}"
        for name, number in now.items()
        if there["made_with"].get(name) != number
    ]
    kinds = kinds_of(folder)
    wanted: dict[str, bytes] = {
        name: text.encode() for name, text in texts(report, folder, kinds).items()
    }
    told = json.loads(wanted.pop(NUMBERS))
    if others:
        wanted = {name: text for name, text in wanted.items() if name.endswith(".csv")}
    else:
        wanted |= dict(drawings(report, kinds))
    found = [_state(folder, name, content) for name, content in sorted(wanted.items())]
    if _numbers_of(told) != _numbers_of(there):
        found.append(Difference(NUMBERS, "differs"))
    extra = [] if others else sorted(set(there["files"]) - set(wanted) - {NUMBERS})
    return [
        *(one for one in found if one),
        *(Difference(name, "not from these records") for name in extra),
    ], others


def _numbers_of(told: dict[str, Any]) -> dict[str, Any]:
    """What a report says, wherever its runs lie and whatever drew it: records by their hashes."""
    hashes = [row.get("sha256") for row in told["runs"] if isinstance(row, dict)]
    rest = {key: value for key, value in told.items() if key not in ("made_with", "files")}
    return {**rest, "runs": sorted(map(str, hashes))}


def _state(folder: Path, name: str, content: bytes) -> Difference | None:
    try:
        same = (folder / name).read_bytes() == content
    except OSError:
        return Difference(name, "missing")
    return None if same else Difference(name, "differs")
