"""How a run is looked after; nothing here changes what it computes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maskbench import trackers
from maskbench.budget import Budget
from maskbench.errors import UsageError


@dataclass(frozen=True)
class Care:
    """Checkpoints, what happens when a number is not finite, and who else is told the numbers.

    Args:
        every: Seconds between two checkpoints.
        skips: How many steps whose loss or gradient is not finite may be skipped.
        pieces: Into how many pieces a batch is cut to save memory.
        moments: Whether the model and the strategy are kept as they were at every look at the
            masks, so that ``maskbench masks`` can mask other images.
        track: Trackers that are told the run's numbers, too.
    """

    every: float = 600.0
    skips: int = 0
    pieces: int = 1
    moments: bool = True
    track: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        every: str,
        on_nonfinite: str,
        pieces: int = 1,
        *,
        moments: bool = True,
        track: str = "",
    ) -> "Care":
        """From what ``--checkpoint-every``, ``--on-nonfinite``, ``--accumulate``, ... take.

        Raises:
            UsageError: No time, neither ``stop`` nor ``skip:K``, less than one piece, or a tracker
                that is not known or not installed.
        """
        try:
            found = Budget.parse(every)
        except UsageError:
            found = None
        if found is None or found.kind != "seconds":
            raise UsageError(f"--checkpoint-every {every!r}: give a time, like 30s, 10min or 1h.")
        skip = re.fullmatch(r"stop|skip:(\d{1,9})", on_nonfinite)
        if not skip:
            raise UsageError(
                f"--on-nonfinite {on_nonfinite!r}: choose stop, or skip:K with a whole number K."
            )
        if pieces < 1:
            raise UsageError(f"--accumulate {pieces}: choose at least 1.")
        return cls(float(found.amount), int(skip[1] or 0), pieces, moments, trackers.named(track))

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Care":
        """From its fields as JSON has them, where a tuple is a list."""
        return cls(**{**told, "track": tuple(told.get("track", ()))})

    def words(self) -> tuple[str, ...]:
        """The options of ``maskbench run`` that ask for this care."""
        return (
            *("--checkpoint-every", f"{self.every:g}s"),
            *("--on-nonfinite", f"skip:{self.skips}" if self.skips else "stop"),
            *("--accumulate", str(self.pieces)),
            "--moments" if self.moments else "--no-moments",
            *(("--track", ",".join(self.track)) if self.track else ()),
        )
