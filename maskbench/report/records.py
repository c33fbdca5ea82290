"""Small copies of runs: what a report reads of them, to be published beside it."""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from maskbench import trust
from maskbench.errors import StoreError
from maskbench.findings import FOLDER, JSON, VALUES
from maskbench.report import probed
from maskbench.report.frame import Run
from maskbench.report.putting import put
from maskbench.report.reading import read
from maskbench.report.tape import read_masks
from maskbench.report.views import Entry, groups
from maskbench.results import MASKS, METRICS, RECORD

RECORDS, NUMBERS = "records", "report.json"
ALWAYS = (RECORD, f"{FOLDER}/{JSON}", f"{FOLDER}/{VALUES}")
SHOWN = (METRICS, MASKS)
"""Of the run that stands for its strategy in pictures: the lowest seed."""


def copy(folders: Sequence[Path], out: Path) -> list[Path]:
    """Copy what a report reads of runs; encoders, features and checkpoints are not among it.

    Args:
        folders: Of the runs.
        out: The report's folder; the copies lie in its ``records``. What lay there is replaced.

    Returns:
        The copies, one per folder.

    Raises:
        StoreError: One of the runs lies there itself, or it cannot be written.
    """
    home = out / RECORDS
    if any(folder.resolve().is_relative_to(home.resolve()) for folder in folders):
        raise StoreError(f"{home} holds the runs themselves: name the store they were copied from.")
    shown = {
        run.folder.resolve()
        for group in groups(read(folders)[0])
        for entry in group.entries
        for run in _shown(entry)
    }
    names: dict[str, Path] = {}
    for folder in folders:
        name, number = folder.resolve().name, 1
        while name in names:
            number += 1
            name = f"{folder.resolve().name}-copy{number}"
        names[name] = folder
    try:
        _ours(home)
        fresh = home.with_name(f".{RECORDS}.{os.getpid()}.tmp")
        for name, folder in names.items():
            wanted = [*ALWAYS, *_probes(folder)]
            wanted += SHOWN if folder.resolve() in shown else ()
            _copy(folder, fresh / name, wanted)
        if home.exists():
            shutil.rmtree(home)
        fresh.replace(home)
    except OSError as error:
        raise StoreError(f"cannot write {home}: {error.strerror or error}.") from error
    return [home / name for name in names]


def _shown(entry: Entry) -> list[Run]:
    """The runs whose metrics and masks a page reads: up to the first that has masks."""
    found = []
    for run in entry.runs:
        found.append(run)
        try:
            read_masks(run.folder)
        except StoreError:
            continue
        break
    return found


def _ours(home: Path) -> None:
    """Refuse to replace a folder that is not the copies of an earlier report.

    Raises:
        StoreError: Something else lies there.
    """
    if not home.exists() and not home.is_symlink():
        return
    text = home.parent / NUMBERS
    try:
        told = trust.parse(text.read_text(encoding="utf-8"), smallest=0)["runs"]
        known = {str(row["folder"]) for row in told}
    except (OSError, ValueError, KeyError, TypeError):
        known = set()
    there = {f"{RECORDS}/{path.name}" for path in home.iterdir()}
    if home.is_symlink() or not there <= known:
        raise StoreError(
            f"{home} holds other things than the records of an earlier report: choose another "
            "--out, or move it."
        )


def _probes(folder: Path) -> list[str]:
    try:
        names = trust.listed(folder, probed.FOLDER, probed.SUFFIX)
    except StoreError:
        return []
    return [f"{probed.FOLDER}/{name}" for name in names[: probed.MOST]]


def _copy(folder: Path, to: Path, names: Iterable[str]) -> None:
    """Files that are there and regular; a report says of the others what it says of the run."""
    to.mkdir(parents=True)
    for name in names:
        try:
            path = trust.inside(folder, name, trust.MAX_BYTES)
        except (FileNotFoundError, StoreError):
            continue
        (to / name).parent.mkdir(exist_ok=True)
        put(to / name, path.read_bytes())
