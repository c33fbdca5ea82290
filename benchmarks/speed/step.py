"""The plain training step against others and against a matrix product, at equal loss.

    uv run --group bench python -m benchmarks.speed.step [--json] [--quick]

All contenders hold the same weights, see the same images and hide the same patches; before anything
is timed their losses are compared. A step is forward, backward and a fused AdamW update. Each is
timed in float32 and, where it is asked for, in bfloat16 autocast; maskbench also compiled
(``--compile`` of a run), its compilation off the clock and reported.

Two processes take turns: in one, memory is kept as in a run of maskbench (``machine.keep_memory``),
in the other it is as Python and torch leave it, as for the users of the others; there maskbench
runs, too, so that what memory brings is told apart. On a GPU there is no such difference, and other
settings fill it: ``gpu.py``.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import gpu, show
from benchmarks.speed.apart import Work, process
from benchmarks.speed.contenders import (
    BARE,
    BASE,
    COMPILED,
    OURS,
    PEERS,
    PLAIN,
    PRODUCTS,
    SMALL,
    Inputs,
    Setting,
    contenders,
    equal,
    hidden,
    losses,
    products,
    ratios,
    stepping,
)  # fmt: skip
from benchmarks.speed.timing import interleaved
from maskbench.machine import keep_memory
from maskbench.mask import Grid
from maskbench.shape import step_flops


def _build(
    setting: Setting, device: torch.device, names: Sequence[str], precisions: Sequence[str]
) -> tuple[dict[str, float], Work]:
    """In a process of its own: the losses, and the work by name."""
    if OURS in names:
        keep_memory()
    given = Inputs.of(setting, device)
    found = contenders(setting, device, names)
    told = losses({k: v for k, v in found.items() if k != COMPILED}, given, precisions)
    work: dict[str, Callable[[], Any]] = {}
    for precision in precisions:
        work[f"{PRODUCTS} {precision}"] = products(setting, device, precision)[1]
        for name, (module, call) in found.items():
            work[f"{name} {precision}"] = stepping(module, call, given, precision, setting.steps)
    return told, work


def one(
    setting: Setting, device: torch.device, precisions: Sequence[str], rounds: int, others: bool
) -> list[dict[str, Any]]:
    """Rows of one setting: images per second, ratios, share of the products' rate."""
    own = [OURS, COMPILED] if others else [OURS]
    foreign = [BARE, PLAIN, *(PEERS if others else ())]
    with (
        process(_build, setting, device, own, precisions) as (first, ours),
        process(_build, setting, device, foreign, precisions) as (second, theirs),
    ):
        told = first | second
        equal(told, precisions)
        work = {
            f"{name} {precision}": partial(ask, f"{name} {precision}")
            for precision in precisions
            for ask, names in ((ours, [PRODUCTS, *own]), (theirs, foreign))
            for name in names
        }
        compiling = {}
        for precision in precisions if others else ():
            begun = time.perf_counter()
            ours(f"{COMPILED} {precision}")
            compiling[precision] = time.perf_counter() - begun
        times = interleaved(work, rounds)
    visible = Grid(setting.shape.side, setting.shape.side, hidden(setting.shape)).visible
    whole = sum(step_flops(setting.shape, visible).values()) * setting.batch * setting.steps
    rows = []
    for precision in precisions:
        flops = products(setting, torch.device("meta"), precision)[0]
        peak = flops / times[f"{PRODUCTS} {precision}"].median
        common = {"setting": setting.name, "precision": precision}
        for name in (*own, *foreign):
            key = f"{name} {precision}"
            median = times[key].median
            rows.append(
                {
                    "contender": name,
                    **common,
                    "images_per_s": round(setting.batch * setting.steps / median, 2),
                    "gflops_per_s": round(whole / median / 1e9, 1),
                    "of_products": round(whole / median / peak, 3),
                    **ratios(times, key, [*own, *foreign], precisions),
                    "first_loss": round(told.get(key, told[f"{OURS} {precision}"]), 4),
                    "compilation_s": round(compiling[precision], 1) if name == COMPILED else None,
                }
            )
        rows.append({"contender": PRODUCTS, **common, "gflops_per_s": round(peak / 1e9, 1)})
    return rows


def fast_bfloat16() -> bool:
    """Whether this CPU has products for bfloat16."""
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="ascii")
    except OSError:
        return False


def measure(
    quick: bool = False,
    only: str | None = None,
    so_far: Callable[[show.Found], object] = show.nothing,
) -> dict[str, Any]:
    """All settings, or the one that is named.

    Args:
        quick: The small setting alone, fewer rounds, no other library: what CI looks at.
        only: A setting's name.
        so_far: Is given what is known after every setting.
    """
    if torch.cuda.is_available():
        return gpu.measure(quick, only, so_far)
    device = torch.device("cpu")
    precisions = ["fp32", "bf16"] if fast_bfloat16() else ["fp32"]
    everything = [replace(SMALL, batch=64)] if quick else [SMALL, BASE]
    settings = show.picked({each.name: each for each in everything}, only)
    found: dict[str, Any] = {"device": str(device), "batches": {}, "rows": []}
    for setting in settings:
        found["batches"][setting.name] = setting.batch
        found["rows"] += one(setting, device, precisions, 5, others=not quick)
        so_far(found)
    return found


if __name__ == "__main__":
    show.main("step", measure)
