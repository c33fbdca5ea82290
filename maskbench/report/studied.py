"""The studies of a group's masks: which can be put side by side, and the rows they give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maskbench.analysis import nulls
from maskbench.errors import StoreError
from maskbench.report import together
from maskbench.report.reading import LeftOut
from maskbench.report.study_file import Found, has_study, read_study
from maskbench.report.together import Rows
from maskbench.report.views import Group
from maskbench.trust import plain

TABLES = ("saliency", "effects", "geometry", "drift", "trends")
TESTED = ("saliency", "effects", "trends")
"""Tables with p-values."""
APART = 0.02
"""How far moments may be apart that are put side by side, as a share of the budget: rounding to
whole steps."""


@dataclass(frozen=True)
class Studied:
    """What is known of the masks of a group.

    Args:
        strategies: Label, place among the group's strategies, and studies by seed, without rows.
        tables: Rows of all strategies by table, see ``TABLES``.
    """

    strategies: Sequence[tuple[str, int, Sequence[Found]]] = ()
    tables: Mapping[str, Rows] = field(default_factory=lambda: {name: [] for name in TABLES})

    def of(self, label: str) -> dict[str, Rows]:
        """The tables of one strategy."""
        return {
            name: [row for row in rows if row["strategy"] == label]
            for name, rows in self.tables.items()
        }

    @property
    def first(self) -> Found:
        """One of the studies; what they share is the same in all."""
        return self.strategies[0][2][0]


def studied(group: Group) -> tuple[Studied, list[LeftOut]]:
    """The studies of a group's runs put together, and what could not be.

    A group in which no run has a study is older than these: nothing is missing there.
    """
    if not any(has_study(run) for run in group.runs):
        return Studied(), []
    found, left_out = [], []
    for run in group.runs:
        try:
            found.append(read_study(run))
        except StoreError as error:
            why = f"its masks are not in the study of masks: {error}"
            left_out.append(LeftOut(run.id, "missing file", plain(why)))
    alike, unlike = _alike(found)
    left_out += unlike
    kept = {one.run.key: one for one in alike}
    strategies = []
    for rank, entry in enumerate(group.entries):
        own = [kept[run.key] for run in entry.runs if run.key in kept]
        if own:
            strategies.append((entry.label, rank, own))
    tables = _tables(strategies)
    heads = [(label, rank, [one.head for one in own]) for label, rank, own in strategies]
    return Studied(heads, tables), left_out


def _alike(found: Sequence[Found]) -> tuple[list[Found], list[LeftOut]]:
    """The largest set of studies of the same images, grid, reference and moments; and the rest."""
    sets: list[list[Found]] = []
    for one in found:
        home = next((same for same in sets if not _unlike(same[0], one)), None)
        if home is None:
            sets.append([one])
        else:
            home.append(one)
    if not sets:
        return [], []
    most = max(sets, key=len)
    left_out = [
        LeftOut(
            one.run.id,
            "other masks",
            f"its masks were studied {_unlike(most[0], one)} than those of {most[0].run.id}",
        )
        for same in sets
        if same is not most
        for one in same
    ]
    return most, left_out


def _unlike(one: Found, other: Found) -> str:
    """In what two studies differ; empty where they can be put side by side."""
    words = ("on other data", "on other images", "on other images", "on another grid", "by a model")
    for what, ours, theirs in zip(words, one.conditions, other.conditions, strict=True):
        if ours != theirs:
            return "with another reference model" if what == "by a model" else what
    shares = list(zip(one.shares, other.shares, strict=False))
    same = len(one.shares) == len(other.shares)
    return "" if same and all(abs(a - b) <= APART for a, b in shares) else "at other moments"


def _tables(strategies: Sequence[tuple[str, int, Sequence[Found]]]) -> dict[str, Rows]:
    """All rows; p-values of trends adjusted over the table."""
    tables: dict[str, Rows] = {name: [] for name in TABLES}
    for label, _, found in strategies:
        for name, rows in together.tables(found).items():
            tables[name] += [{"strategy": label, **row} for row in rows]
    for name in TESTED:
        q = nulls.adjusted([row["p"] for row in tables[name]])
        tables[name] = [{**row, "q": one} for row, one in zip(tables[name], q, strict=True)]
    return tables


def numbered(found: Sequence[Studied]) -> dict[str, Rows]:
    """The rows of all groups by table, each with its group's number; texts are plain."""
    return {
        name: [
            {"group": number, **{key: _plain(value) for key, value in row.items()}}
            for number, one in enumerate(found, 1)
            for row in one.tables[name]
        ]
        for name in TABLES
    }


def _plain(value: Any) -> Any:
    return plain(value) if isinstance(value, str) else value
