"""What lies in a data folder; nothing is opened, and no link leads out of it."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from maskbench.data.packed import Bad, File
from maskbench.trust import plain


def listing(folder: Path) -> tuple[list[str], list[str]]:
    """Sorted names of the folders and of the other entries in a folder, without hidden ones."""
    with os.scandir(folder) as found:
        entries = [(e.name, _follows(e.is_dir)) for e in found if not e.name.startswith(".")]
    entries.sort()
    return [n for n, is_dir in entries if is_dir], [n for n, is_dir in entries if not is_dir]


def _follows(kind: Callable[[], bool]) -> bool:
    """What an entry is behind its links; a loop of links is nothing."""
    try:
        return kind()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False


def walk(folder: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below a folder that is not a real folder, each with ``prefix`` + its path."""
    waiting = [(folder, prefix)]
    while waiting:
        here, before = waiting.pop()
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{before}{entry.name}/"))
                else:
                    yield before + entry.name, entry


def _leaves(entry: os.DirEntry[str], root: Path) -> str:
    """Why a link is not followed; nothing for a file, or a link that stays in the folder."""
    if not entry.is_symlink():
        return ""
    try:
        stays = Path(entry.path).resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return "loop of links"
    return "" if stays else "link out of the folder"


def scan(root: Path, prefix: str, classes: Sequence[str]) -> tuple[list[File], list[Bad]]:
    """All files below ``root / prefix``, sorted, and those that are refused unopened."""
    index = {name: label for label, name in enumerate(classes)}
    good, bad = [], []
    for path, entry in sorted(walk(str(root / prefix), prefix), key=lambda item: item[0]):
        parts = path.split("/")
        if why := _leaves(entry, root):
            bad.append(Bad(plain(path), why))
        elif not _follows(entry.is_file):
            bad.append(Bad(plain(path), "not a regular file"))
        elif not (found := entry.stat()).st_size:
            bad.append(Bad(plain(path), "empty file"))
        elif classes and len(parts) < 3:
            bad.append(Bad(plain(path), "not in a class folder"))
        else:
            label = index[parts[1]] if classes else -1
            good.append(File(path, label, found.st_size, found.st_mtime_ns))
    return good, bad
