"""What strategies cost, beside random masking; values and multiples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from maskbench.report.frame import Run
from maskbench.report.views import Entry, Group
from maskbench.report.words import big, clock


@dataclass(frozen=True)
class Cost:
    """A number of a strategy.

    Args:
        value: Mean over seeds; None when it was not measured.
        relative: As a multiple of random masking's; None where it does not compare.
        at_least: Whether it is a lower bound: the strategy does not say what it costs.
    """

    value: float | None
    relative: float | None
    at_least: bool

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def _per_image(*keys: str) -> Callable[[Run], float | None]:
    return lambda run: (run.cost(*keys) or 0) / (run.cost("images") or 1)


def _memory(run: Run) -> float | None:
    """Of the accelerator, or of the machine where there is none."""
    on_device = run.cost("peak_memory_bytes", "device")
    return run.cost("peak_memory_bytes", "host") if on_device is None else on_device


NUMBERS: dict[str, Callable[[Run], float | None]] = {
    "images": lambda run: run.cost("images"),
    "FLOP / image": _per_image("flops_total"),
    "FLOPs": lambda run: run.cost("flops_total"),
    "s / image": _per_image("seconds", "training"),
    "time": lambda run: run.cost("seconds_total"),
    "memory": _memory,
}
BY_FLOPS = ("FLOP / image", "FLOPs")
BY_MACHINE = ("s / image", "time", "memory")


@lru_cache(maxsize=64)
def relative(group: Group) -> Sequence[tuple[str, Mapping[str, Cost]]]:
    """Every strategy of a group with its numbers; computed once."""
    return tuple(
        (entry.label, {name: _cost(group.reference, entry, name) for name in NUMBERS})
        for entry in group.entries
    )


def _cost(reference: Entry | None, entry: Entry, name: str) -> Cost:
    own = entry.mean(NUMBERS[name])
    base = reference.mean(NUMBERS[name]) if reference and _alike(reference, entry, name) else None
    times = own.value / base.value if own and base and base.value else None
    return Cost(own.value if own else None, times, name in BY_FLOPS and not entry.says_cost)


def _alike(reference: Entry, entry: Entry, name: str) -> bool:
    machines = {run.machine for run in (*reference.runs, *entry.runs)}
    return name not in BY_MACHINE or len(machines) == 1


def said(name: str, cost: Cost) -> tuple[str, str]:
    """A cost and its multiple of random's in words, as little room as possible."""
    bound = "≥ " if cost.at_least else ""
    times = "–" if cost.relative is None else f"{bound}{cost.relative:.2f}×"
    return "–" if cost.value is None else f"{bound}{_worded(name, cost.value)}", times


def _worded(name: str, value: float) -> str:
    if name == "images":
        return f"{value:,.0f}"
    if name in BY_FLOPS:
        return big(value).strip()
    if name == "memory":
        return f"{value / 2**30:.2f} GiB"
    return clock(value) if name == "time" or value >= 1 else f"{1000 * value:.3g} ms"
