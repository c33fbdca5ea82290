"""Plans and budgets in words."""

from collections.abc import Mapping
from typing import Any

from maskbench.report.words import big, count, duration


def plan_rows(forecast: Any) -> dict[str, str]:
    """A forecast in words, by unit; ``about`` where it is expected rather than decided."""
    seen = "" if forecast.counts == "images" else "about "
    flops = "FLOPs unknown (the strategy does not say what it costs)"
    if forecast.flops is not None:
        flops = f"{'' if forecast.counts == 'flops' else seen}{big(forecast.flops)}FLOP"
    time, memory = _timed(forecast) if forecast.speed else ("time unknown", "memory unknown")
    return {
        "images": f"{seen}{forecast.images:,} images",
        "epochs": f"{seen}{forecast.epochs:.4g} epochs",
        "steps": f"{seen}{count(forecast.steps, 'step')}",
        "FLOPs": flops,
        "time": time,
        "memory": memory,
        "disk": f"{forecast.disk / 1e6:,.1f} MB on disk ({_free(forecast.disk_free)} free)",
    }


def _free(disk: int) -> str:
    return f"{disk / 1e9:,.0f} GB" if disk >= 1e10 else f"{disk / 1e6:,.1f} MB"


def _timed(forecast: Any) -> tuple[str, str]:
    """Time and memory in words, as a calibration saw them."""
    speed = forecast.speed
    timed = f"from {count(speed.steps, 'step')} of {count(speed.batch, 'image')}, timed"
    when = "" if forecast.counts == "seconds" else "about "
    memory = f"{speed.memory['host'] / 2**30:.2f} GiB of memory while training"
    if speed.memory["device"] is not None:
        memory += f", {speed.memory['device'] / 2**30:.2f} GiB on the GPU"
    if speed.batch < forecast.images / forecast.steps:
        memory += f" at {count(speed.batch, 'image')} a step, more in the run"
    return f"{when}{duration(forecast.seconds)} on the clock ({timed}), then probes", memory


def used(record: Mapping[str, Any]) -> str:
    """What a run's budget came to; what was planned, as long as nothing is counted."""
    budget, ledger = record["budget"], record["ledger"]
    counted = ledger if ledger.get("images") and ledger.get("steps") else budget
    epochs = counted["images"] / record["data"]["train"]
    amounts = (
        f"{counted['images']:,} images",
        f"{epochs:.4g} epochs",
        f"{counted['steps']:,} steps",
    )
    typed = budget["text"]
    if typed.startswith("match:"):
        typed = f"{typed} ({record['settings'].get('budget')})"
    return " = ".join((typed, *amounts))
