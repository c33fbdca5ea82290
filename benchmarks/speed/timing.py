"""Interleaved timings: a machine that drifts hits all contenders alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Times:
    """Seconds of a contender, one number per round.

    Args:
        rounds: As measured, in their order.
    """

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one, seconds."""
        return statistics.median(self.rounds)

    def over(self, other: "Times") -> tuple[float, float, float]:
        """Median, lowest and highest ratio of these to another's, round by round."""
        ratios = [mine / theirs for mine, theirs in zip(self.rounds, other.rounds, strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    work: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device | None = None,
    warm: int = 1,
) -> dict[str, Times]:
    """Do all of it in turn, so many times over.

    Args:
        work: What is timed, by name.
        rounds: How often each is timed.
        device: Is waited for before and after each (default: the CPU).
        warm: Rounds before, that do not count.
    """
    where = device or torch.device("cpu")
    found: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(warm + rounds):
        for name, call in work.items():
            wait(where)
            begun = time.perf_counter()
            call()
            wait(where)
            if turn >= warm:
                found[name].append(time.perf_counter() - begun)
    return {name: Times(tuple(seconds)) for name, seconds in found.items()}
