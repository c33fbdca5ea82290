"""The figures of a report: in the page, and beside it as files for papers and slides."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from maskbench.figures.picture import Picture

if TYPE_CHECKING:
    from maskbench.figures.canvas import Figure

PARTS = ("forest", "curves", "epochs", "difficulty")
STUDIED = ("hides", "looks", "moves")


def shown(name: str, draw: Callable[[], "Figure"], label: str) -> dict[str, Any]:
    """A figure for the template and for a file; it is drawn when one of them is made.

    Returns:
        ``svg``, inline, and ``picture``.
    """
    picture = Picture(name, draw, label)
    return {"svg": picture, "picture": picture}


def pictures(chapters: Iterable[Mapping[str, Any]]) -> list[Picture]:
    """Everything that a page draws, in its order.

    Args:
        chapters: What the template shows of each.
    """
    found: list[Mapping[str, Any] | None] = []
    for chapter in chapters:
        found += chapter["frontiers"]
        for group in chapter["groups"]:
            studied = group.get("studied") or {}
            found += [group.get(part) for part in PARTS]
            found += [studied.get(part) for part in STUDIED]
            found.append(group.get("losses"))
    return [part["picture"] for part in found if part and part.get("picture") is not None]
