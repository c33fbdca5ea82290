"""How many runs go on at a time on this machine, and what each of them may use."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from maskbench.benchmark.layout import Plan
from maskbench.budget import Budget
from maskbench.errors import UsageError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Slots:
    """Places for runs, by number.

    Args:
        environments: What is added to the environment of the process of each.
        shared: Whether two of them share a device.
    """

    environments: tuple[Mapping[str, str], ...]
    shared: bool

    def __len__(self) -> int:
        return len(self.environments)


def slots(jobs: int | None, pack: int, gpus: list[str], cores: int) -> Slots:
    """Places for runs.

    Args:
        jobs: Runs at a time, at most; None: as many as devices and ``pack`` give.
        pack: Runs that share a device.
        gpus: What ``CUDA_VISIBLE_DEVICES`` would call each GPU; none: the CPU is the one device.
        cores: Of this machine; divided among runs at a time, unless ``OMP_NUM_THREADS`` is set.

    Raises:
        UsageError: Less than one, or more than there is room for.
    """
    for option, value in (("--jobs", jobs), ("--pack", pack)):
        if value is not None and value < 1:
            raise UsageError(f"{option} {value}: choose at least 1.")
    if not gpus:
        count = jobs or pack
        if count > cores:
            raise UsageError(
                f"{count} runs at a time: this machine has {cores} cores and no GPU that torch "
                "sees; choose at most one run per core."
            )
        threads = {name: str(cores // count) for name in THREADS if count > 1}
        own = {} if any(name in os.environ for name in THREADS) else threads
        return Slots((own,) * count, shared=count > 1)
    room = len(gpus) * pack
    if jobs is not None and jobs > room:
        raise UsageError(
            f"--jobs {jobs}: there are {len(gpus)} GPUs with {pack} runs each; choose at most "
            f"{room}, or a larger --pack."
        )
    count = jobs or room
    found = tuple({"CUDA_VISIBLE_DEVICES": gpus[at % len(gpus)]} for at in range(count))
    return Slots(found, shared=count > len(gpus))


def visible(cpu: bool) -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` calls each GPU that torch sees; none where runs use the CPU."""
    import torch

    count = 0 if cpu else torch.cuda.device_count()
    named = [word for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word]
    return named[:count] if named else [str(at) for at in range(count)]


def refuse_unfair(plan: Plan, places: Slots) -> None:
    """Refuse budgets of seconds for runs that share a device.

    Raises:
        UsageError: There is one.
    """
    timed = [name for name, laid in plan.items.items() if _timed(laid.request.budget)]
    if places.shared and timed:
        raise UsageError(
            f"{timed[0]} has a budget of seconds, and {len(places)} runs at a time share a "
            "device: each would get less for its seconds than alone. Use --jobs 1 (--pack 1)."
        )


def _timed(budget: str) -> bool:
    return Budget.parse(budget).kind == "seconds"
