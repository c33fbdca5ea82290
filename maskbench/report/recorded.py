"""Recorded values as words: all of them where runs differ, none where nothing is recorded."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from maskbench.report.frame import Run

DIRTY = "-dirty"
"""How the commit of a changed checkout ends."""

Getter = Callable[[Run], Any]


def told(value: Any) -> str:
    """A recorded value: ``5,000``, ``0.032``, ``yes``, ``1, 2, 4``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(told, value))
    return str(value)


def listed(words: Sequence[str], last: str = "and") -> str:
    """``a, b and c``."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def short(commit: str) -> str:
    """A commit by twelve digits, with the mark of a changed checkout."""
    dirty = commit.endswith(DIRTY)
    return commit.removesuffix(DIRTY)[:12] + (DIRTY if dirty else "")


def either(runs: Iterable[Run], get: Getter) -> str:
    """A value of all runs: ``16 or 32`` where they differ, nothing where none has recorded it."""
    values = (get(run) for run in runs)
    return listed(list(dict.fromkeys(told(v) for v in values if v is not None)), "or")


def said(runs: Iterable[Run], parts: Sequence[tuple[str, Getter]]) -> str:
    """Values in a line, each in its form at the ``#``; those not recorded are left out."""
    found = [(form, either(runs, get)) for form, get in parts]
    one = {form: form.removesuffix("s") for form, value in found if value == "1"}
    return ", ".join(one.get(form, form).replace("#", value, 1) for form, value in found if value)


def of(part: str, key: str) -> Getter:
    """A value of a part of the record."""
    return lambda run: run.record[part].get(key)
