"""What a run says about itself: written when it begins, filled as it goes, closed when it ends."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskbench import provenance, results, team
from maskbench.errors import StoreError
from maskbench.forecast import Forecast
from maskbench.plan import Planned
from maskbench.spec import preset


def again(folder: Path, step: int) -> dict[str, Any]:
    """The record of a run that goes on from a step; says so."""
    record = results.read_record(folder)
    record["status"] = "running"
    record.pop("error", None)
    record["provenance"].setdefault("resumed", []).append({"step": step, "at": provenance.now()})
    _write(folder, record)
    return record


def close(folder: Path, record: dict[str, Any], status: str, error: str | None = None) -> None:
    """Write how a run ended."""
    record["status"] = status
    if error is not None:
        record["error"] = error
    record["provenance"]["finished"] = provenance.now()
    try:
        _write(folder, record)
    except StoreError:
        if error is None:
            raise


def first_record(
    folder: Path,
    typed: str,
    planned: Planned,
    expected: Forecast,
    benchmark: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write a record that says "running".

    Args:
        folder: The run's.
        typed: The budget, as it was asked for.
        planned: The run.
        expected: What it will take.
        benchmark: Name, SHA-256 and item of the benchmark that planned it, if one did.
    """
    settings, strategy = planned.settings, planned.strategy
    images, test = planned.images, planned.images.test
    shape = preset(settings.model).shape
    record = {
        "schema": results.SCHEMA,
        "id": folder.name,
        "status": "running",
        "strategy": {
            "name": settings.strategy,
            "settings": settings.strategy_settings,
            "changed": strategy.settings.model_dump(mode="json", exclude_defaults=True),
            "family": strategy.family,
            "source": strategy.source,
            "summary": strategy.summary,
            "prior": strategy.prior(),
        },
        "settings": settings.model_dump(mode="json"),
        "benchmark": benchmark and dict(benchmark),
        "seed": settings.seed,
        "data": {
            "name": images.name,
            "fingerprint": images.fingerprint,
            "classes": list(images.classes),
            "train": len(images.train),
            "test": len(test) if test else 0,
            **images.notes,
        },
        "model": {"preset": settings.model, **asdict(shape), "hidden": settings.hidden},
        "budget": _amounts(typed, planned, expected),
        "ledger": {},
        "probes": [],
        "probes_during": [],
        "controls": [],
        "masks": {},
        "nonfinite": {"steps_skipped": []},
        "provenance": {
            **provenance.provenance(settings.device),
            "processes": team.size(),
            "resumed": [],
        },
    }
    _write(folder, record)
    return record


def _amounts(typed: str, planned: Planned, expected: Forecast) -> dict[str, Any]:
    """The budget as typed, and what it comes to."""
    budget = planned.budget
    amount = expected.images if budget.kind == "images" else budget.amount
    return {
        "text": typed,
        "unit": budget.kind,
        "amount": float(amount) if budget.kind == "seconds" else int(amount),
        "images": expected.images,
        "steps": expected.steps,
        "epochs": expected.epochs,
        "seconds_expected": expected.seconds,
    }


def _write(folder: Path, record: dict[str, Any]) -> None:
    """The record, by the one process that writes."""
    if team.first():
        results.write_json(folder / results.RECORD, record)
