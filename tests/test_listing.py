"""``maskbench ls runs``: of several stores, for scripts and for a narrow terminal."""

import json
from pathlib import Path
from typing import Any

import pytest
from synthetic import BENCHMARK, elsewhere, put, record
from typer.testing import CliRunner

from maskbench.cli import app
from maskbench.errors import UsageError
from maskbench.results import Store


def listed(*words: str) -> Any:
    result = CliRunner().invoke(app, ["ls", "runs", *words])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in words else result.stdout


def test_ls_of_several_stores_for_scripts(tmp_path: Path) -> None:
    put(tmp_path / "a", "random-0", record("random", 0, 0.5), files=False)
    made = {**elsewhere("clmae", 3, 0.5), "benchmark": BENCHMARK}
    made["strategy"] = {**made["strategy"], "changed": {"last": 0}}
    put(tmp_path / "B/bob/runs", "clmae-3", made, files=False)
    (tmp_path / "a/odd").mkdir()
    (tmp_path / "a/odd/record.json").write_text("{")
    stores = (str(tmp_path / "a"), str(tmp_path / "B"))
    first, row, odd = listed(*stores, "--json")
    wanted = {
        "run": "clmae-3", "status": "finished", "strategy": "clmae", "settings": {"last": 0},
        "data": "toy", "fingerprint": "f" * 64, "model": "nano", "budget": "40", "unit": "images",
        "amount": 40, "seed": 3, "images": 40, "flops": 4e9, "seconds": 5.5, "machine": "a GPU",
        "maskbench": "1", "torch": "2.6", "commit": "a" * 40, "benchmark": "first",
        "store": str(tmp_path / "B/bob/runs"), "folder": str(tmp_path / "B/bob/runs/clmae-3"),
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    assert row["accuracies"] == pytest.approx(
        {"logreg@1": 0.445, "logreg@2": 0.465, "logreg@4": 0.505, "knn20": 0.5}
    )
    assert first["run"] == "random-0"
    assert (odd["run"], odd["status"], odd["folder"]) == (
        "odd", "unreadable", str(tmp_path / "a/odd"),
    )  # fmt: skip
    assert listed("--out", stores[0], "--json") == [first, odd]
    text = listed(*stores)
    assert "settings" not in text
    assert max(map(len, text.splitlines())) <= 80
    result = CliRunner().invoke(app, ["ls", "strategies", stores[0]])
    assert "only runs lie in stores" in str(result.exception)


def test_a_run_answers_to_a_beginning_that_no_other_shares(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("clmae-nano-2ep-s0-8b", "clmae_fast-nano-2ep-s0-a1"):
        put(tmp_path, name, record("clmae", 0, 0.5), files=False)
    assert store.find("clmae-nano").name == "clmae-nano-2ep-s0-8b"
    assert store.find("clmae_").name == "clmae_fast-nano-2ep-s0-a1"
    with pytest.raises(UsageError, match="name more of it: clmae-nano-2ep-s0-8b, clmae_fast-"):
        store.find("clmae")
    with pytest.raises(UsageError, match="Looked in"):
        store.find("random")
