"""What ``maskbench show`` says of a run, whole or not."""

from pathlib import Path
from typing import Any

import pytest
from synthetic import put, record
from test_unranked import without
from typer.testing import CliRunner

from maskbench.cli import app
from maskbench.results import LEDGER, lacking


def shown(store: Path, *words: str) -> str:
    """In one line: a narrow terminal folds it."""
    result = CliRunner().invoke(app, [*words, "--out", str(store)])
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def with_ledger(store: Path, **changes: Any) -> Path:
    found = record("clmae", 0, 0.6)
    put(store, "c", {**found, "ledger": {**found["ledger"], **changes}}, files=False)
    return store


def test_unknown_flops_are_a_bound_and_no_multiple(tmp_path: Path) -> None:
    text = shown(with_ledger(tmp_path, flops_known=False), "show", "c")
    assert "unknown: the strategy does not say what it costs (at least 4 GFLOP)" in text
    assert "random's" not in text


def test_a_multiple_of_flops_is_per_image(tmp_path: Path) -> None:
    assert "4 GFLOP, 1.00x random's per image" in shown(with_ledger(tmp_path), "show", "c")


@pytest.mark.parametrize("name", [*LEDGER, "seconds", "flops"])
def test_a_ledger_that_lacks_a_field_is_shown(tmp_path: Path, name: str) -> None:
    found = record("clmae", 0, 0.6)
    found["ledger"] = without(found["ledger"], name)
    put(tmp_path, "c", found, files=False)
    missing = ", ".join(lacking(found["ledger"]))
    assert f"not whole: its ledger lacks {missing}" in shown(tmp_path, "show", "c")
    assert shown(tmp_path, "ls", "runs")


def test_an_end_that_is_not_known_is_shown(tmp_path: Path) -> None:
    found = record("clmae", 0, 0.6)
    del found["provenance"]["finished"]
    put(tmp_path, "c", found, files=False)
    assert "to (its end is not known)" in shown(tmp_path, "show", "c")
