"""What the parts of the speed benchmark share: a command line each, tables, and their record."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from tabulate import tabulate

from maskbench.provenance import provenance

Found = dict[str, Any]
T = TypeVar("T")


def table(rows: Sequence[Mapping[str, Any]], form: str = "simple") -> str:
    """Rows as a table of text; a column that some rows lack is empty there.

    Args:
        rows: Of any keys.
        form: As ``tabulate`` calls it.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(key)) for key in keys] for row in rows]
    heads = [key.replace("_", " ") for key in keys]
    found: str = tabulate(cells, heads, tablefmt=form, disable_numparse=True)
    return found


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " to ".join(map(_cell, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def recorded(part: str, found: Found, quick: bool) -> Found:
    """A part's numbers with the machine and the versions they were measured with."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {"part": part, "quick": quick, **found, "provenance": provenance(device)}


def nothing(found: Found) -> None:
    """Takes what is known so far, and leaves it."""


def tell(row: Mapping[str, Any]) -> None:
    """A row as soon as it is known: a JSON document on a line of stderr."""
    print(json.dumps(row), file=sys.stderr, flush=True)


def picked(settings: Mapping[str, T], only: str | None) -> list[T]:
    """The settings, or the one that is named.

    Raises:
        SystemExit: There is none of that name.
    """
    if only is None:
        return list(settings.values())
    if only not in settings:
        raise SystemExit(f"no setting {only!r} here; there are {', '.join(settings)}")
    return [settings[only]]


def main(part: str, measure: Callable[[bool], Found]) -> None:
    """The command line of one part.

    Args:
        part: Its name.
        measure: Takes whether it is to be quick.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.speed.{part}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and settings")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    given = parser.parse_args()
    found = recorded(part, measure(given.quick), given.quick)
    print(json.dumps(found) if given.json else table(found["rows"]))
