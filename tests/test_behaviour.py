"""What strategies do to a training on the built-in scenes; through the command line, slow."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import cli

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
    """Grid and blue noise below random, block and red noise above."""
    loss = {}
    for name, words in {
        "grid": (),
        "blue": ("--set", "color=blue"),
        "random": (),
        "block": (),
        "red": ("--set", "color=red"),
    }.items():
        strategy = "colornoise" if words else name
        _, rows = run(monkeypatch, tmp_path / name, strategy, *words)
        last = rows[len(rows) // 2 :]
        loss[name] = sum(row["loss"] for row in last) / len(last)
    assert loss["grid"] < loss["random"]
    assert loss["blue"] < loss["random"]
    assert loss["random"] < loss["block"]
    assert loss["random"] < loss["red"]


def test_without_the_kl_term_scores_drift(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The partner makes everything visible, the adversary everything hidden."""
    words = ("--set", "kl=0")
    _, free = run(monkeypatch, tmp_path / "free", "clmae", *words)
    keep = [row["clmae/keep"] for row in free]
    third = len(keep) // 3
    assert max(keep[:third]) > 0.9
    assert keep[-1] < 0.1


def test_without_the_diversity_term_images_share_a_mask(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from maskbench.report.tape import read_masks

    distinct = []
    for weight in ("0", "2"):
        out = tmp_path / weight
        run(monkeypatch, out, "clmae", "--set", f"diversity={weight}")
        hidden = read_masks(next(out.glob("*/masks.safetensors"))).hidden[-1]
        often = hidden.reshape(len(hidden), -1).mean(0)
        distinct.append(float((often * (1 - often)).mean()))
    assert distinct[0] < 0.3 * distinct[1]
