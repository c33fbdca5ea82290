"""What strategies do to a training on the built-in scenes; through the command line, slow."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import cli

from maskbench.report.tape import read_masks

pytestmark = pytest.mark.slow


def run(
    monkeypatch: pytest.MonkeyPatch, out: Path, strategy: str, *words: str, budget: str = "1ep"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A finished run's record, and what it logged."""
    command = ["run", "--strategy", strategy, "--budget", budget, "--out", str(out), "--draws", "1"]
    assert cli(monkeypatch, *command, *words) == 0
    folder = max(out.glob("*/record.json"), key=lambda file: file.stat().st_mtime).parent
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return json.loads((folder / "record.json").read_text()), [json.loads(line) for line in lines]


def gaps(record: dict[str, Any]) -> list[float]:
    return [row["gap"] for row in record["masks"]["difficulty"]]


def test_the_fast_curriculum_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Easier than random masks early, harder late; the last moments are the adversary's."""
    record, _ = run(monkeypatch, tmp_path, "clmae-fast", budget="2ep")
    found = gaps(record)
    assert max(found[1:3]) < -0.03
    assert min(found[-3:]) > 0.01


def test_random_masks_are_as_hard_as_random_masks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record, _ = run(monkeypatch, tmp_path, "random")
    rows = record["masks"]["difficulty"]
    assert all(abs(row["gap"]) < 4 * row["error"] for row in rows)


def test_losses_of_the_data_free_family_are_ordered_as_published(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Grid below random, blocks above. (Blue noise needs longer runs: docs/notes.md.)"""
    loss = {}
    for name in ("grid", "random", "block"):
        _, rows = run(monkeypatch, tmp_path / name, name)
        last = rows[len(rows) // 2 :]
        loss[name] = sum(row["loss"] for row in last) / len(last)
    assert loss["grid"] < loss["random"] < loss["block"]


def test_without_the_diversity_term_all_images_share_a_mask(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The spread over images, relative to random masks of the same count, all but vanishes."""
    record, _ = run(monkeypatch, tmp_path, "clmae", "--set", "diversity=0")
    hidden = read_masks(next(tmp_path.glob("*/masks.safetensors")).parent).hidden[1:]
    often = hidden.mean(1)
    share = record["masks"]["hidden"] / (record["masks"]["rows"] * record["masks"]["columns"])
    spread = (often * (1 - often)).mean((1, 2)) / (share * (1 - share))
    assert spread.max() < 0.3
