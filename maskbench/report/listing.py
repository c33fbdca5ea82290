"""What a listing says of a record, for scripts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskbench.report.merging import origin
from maskbench.results import PRIMARY, UNREADABLE, brief
from maskbench.trust import plain

NARROW = ("run", "status", "data", "logreg@16", "knn20", "minutes")
"""What a table shows of it: the name says the strategy, model, budget and seed."""


def row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A flat row but for the settings and the accuracies.

    Args:
        record: With the ``folder`` it lies in.

    Raises:
        KeyError, TypeError, AttributeError: The record is not whole.
    """
    ledger, folder = record["ledger"], Path(record["folder"])
    from_where = origin(record)
    return {
        **brief(record),
        "settings": record["strategy"].get("changed") or {},
        "strategy_digest": record["settings"].get("strategy_digest"),
        "fingerprint": record["data"]["fingerprint"],
        "unit": record["budget"]["unit"],
        "amount": record["budget"]["amount"],
        "accuracies": accuracies(record),
        "images": ledger.get("images"),
        "flops": ledger.get("flops_total"),
        "seconds": ledger.get("seconds_total"),
        **{
            name: from_where[name]
            for name in ("machine", "maskbench", "torch", "commit", "benchmark", "started")
        },
        "error": record.get("error"),
        "store": str(folder.parent),
        "folder": str(folder),
    }


def accuracies(record: Mapping[str, Any]) -> dict[str, float]:
    """Mean accuracy over draws of the trained encoder: ``logreg@16``, ``knn20``..."""
    found: dict[str, list[float]] = {}
    for one in record["probes"]:
        if one["feature"] == PRIMARY:
            shots = "" if one["shots"] is None else f"@{one['shots']}"
            found.setdefault(plain(f"{one['probe']}{shots}"), []).append(one["accuracy"])
    return {name: sum(values) / len(values) for name, values in found.items()}


def unreadable(folder: Path, why: str) -> dict[str, Any]:
    """A row of a record that nothing can be said of."""
    place = {"store": str(folder.parent), "folder": str(folder)}
    return {"run": plain(folder.name), "status": UNREADABLE, "error": plain(why), **place}
