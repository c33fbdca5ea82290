"""Small copies of runs: what a report reads of them, to be published beside it."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from maskbench import trust
from maskbench.errors import StoreError
from maskbench.findings import FOLDER, JSON, VALUES
from maskbench.report import probed
from maskbench.report.putting import put
from maskbench.report.reading import read
from maskbench.report.views import groups
from maskbench.results import MASKS, METRICS, RECORD

RECORDS = "records"
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
        entry.runs[0].folder.resolve()
        for group in groups(read(folders)[0])
        for entry in group.entries
    }
    names: dict[str, Path] = {}
    for folder in folders:
        name, number = folder.resolve().name, 1
        while name in names:
            number += 1
            name = f"{folder.resolve().name}-copy{number}"
        names[name] = folder
    try:
        if home.is_symlink():
            home.unlink()
        shutil.rmtree(home, ignore_errors=True)
        for name, folder in names.items():
            wanted = [*ALWAYS, *_probes(folder)]
            wanted += SHOWN if folder.resolve() in shown else ()
            _copy(folder, home / name, wanted)
    except OSError as error:
        raise StoreError(f"cannot write {home}: {error.strerror or error}.") from error
    return [home / name for name in names]


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
