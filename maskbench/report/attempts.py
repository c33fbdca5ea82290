"""How many runs of a strategy were started, and how many of them failed: none is dropped."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from maskbench.report.frame import Run, variant
from maskbench.report.views import Group, label

FAILED = ("failed", "diverged")
MOST = 0.2
"""A strategy of which more than this share failed gets no verdict: its mean is of survivors."""


@dataclass(frozen=True)
class Attempts:
    """Runs of a strategy in a group.

    Args:
        strategy: Its label.
        ok: Finished and ranked.
        failed: Ended by an error or a diverged loss.
        incomplete: Running or interrupted: neither.
    """

    strategy: str
    ok: int
    failed: int = 0
    incomplete: int = 0

    @property
    def started(self) -> int:
        """All of them."""
        return self.ok + self.failed + self.incomplete

    @property
    def flagged(self) -> bool:
        """Whether more than a fifth of those that ended failed."""
        return self.failed > MOST * (self.ok + self.failed)

    @property
    def told(self) -> str:
        """``5/6``: finished of started; with a mark if it is flagged."""
        return f"{self.ok}/{self.started}{' !' if self.flagged else ''}"

    def plain(self) -> dict[str, int | str | bool]:
        """For JSON."""
        return {**vars(self), "started": self.started, "flagged": self.flagged}


def attempts(group: Group) -> list[Attempts]:
    """One per strategy in the group's order, then those of which no run finished."""
    lost: dict[str, list[Run]] = {}
    for run in group.begun:
        lost.setdefault(str(variant(run)), []).append(run)
    found = [
        _of(entry.label, len(entry.runs), lost.pop(str(variant(entry.runs[0])), []))
        for entry in group.entries
    ]
    every = [*group.runs, *group.begun]
    return [
        *found,
        *sorted((_of(label(rest[0], every), 0, rest) for rest in lost.values()), key=_named),
    ]


def _named(one: Attempts) -> str:
    return one.strategy


def _of(name: str, ok: int, begun: Sequence[Run]) -> Attempts:
    ended = Counter(run.record["status"] in FAILED for run in begun)
    return Attempts(name, ok, ended[True], ended[False])
