"""The figures of a report: in the page, and beside it as files for papers and slides."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from maskbench.figures.picture import KINDS, Picture
from maskbench.report.putting import put

FOLDER, INDEX = "figures", "INDEX.txt"
PARTS = ("forest", "curves", "epochs", "difficulty")
STUDIED = ("hides", "looks", "moves")
OURS = re.compile(rf"[a-z0-9]+(-[a-z0-9]+)*\.({'|'.join(KINDS)})")


def shown(name: str, figure: Figure, label: str) -> dict[str, Any]:
    """A figure for the template and for a file.

    Returns:
        ``svg``, inline, and ``picture``.
    """
    picture = Picture(name, figure, label)
    return {"svg": Markup(picture.svg()), "picture": picture}  # noqa: S704 made here


def pictures(
    groups: Iterable[Mapping[str, Any]], costs: Iterable[Mapping[str, Any]]
) -> list[Picture]:
    """Everything that a page draws, in its order.

    Args:
        groups: What the template shows of each group.
        costs: Accuracy against cost, as the template shows it.
    """
    found: list[Mapping[str, Any] | None] = []
    for group in groups:
        studied = group.get("studied") or {}
        found += [group.get(part) for part in PARTS]
        found += [studied.get(part) for part in STUDIED]
        found.append(group.get("losses"))
    return [
        part["picture"] for part in (*found, *costs) if part and part.get("picture") is not None
    ]


def write_pictures(
    pictures: Sequence[Picture], folder: Path, kinds: Sequence[str] = KINDS
) -> list[Path]:
    """Put figures into a folder as ``NAME.KIND``, and their names into its ``INDEX.txt``.

    What the index of an earlier report lists and this one does not have is removed; no other file
    is touched.

    Args:
        pictures: Of unique names.
        folder: Is made if there is something to put into it.
        kinds: Of files: ``svg``, ``png``, ``pdf``.

    Returns:
        The files, picture by picture.

    Raises:
        OSError: Something cannot be written.
    """
    names = {f"{one.name}.{kind}": (one, kind) for one in pictures for kind in kinds}
    earlier = _listed(folder / INDEX)
    if not names and not earlier:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    put(folder / INDEX, "".join(f"{name}\n" for name in dict.fromkeys((*names, *earlier))))
    for name, (one, kind) in names.items():
        put(folder / name, one.file(kind))
    for name in earlier:
        if name not in names:
            (folder / name).unlink(missing_ok=True)
    put(folder / INDEX, "".join(f"{name}\n" for name in names))
    return [folder / name for name in names]


def _listed(index: Path) -> list[str]:
    """Names of figures in an index; what could not be a figure's name is passed over."""
    try:
        lines = index.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if OURS.fullmatch(line)]
