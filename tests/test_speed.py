"""The speed benchmark measures what it says; ratios to the plain step have generous bounds."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: import_module(f"benchmarks.speed.{name}")


def test_the_plain_step_is_as_fast_as_a_textbook_at_equal_loss(part: Any) -> None:
    """A regression guard, not a claim: the documentation has the measured ratios.

    In the precision that a run takes; a CPU with bfloat16 products is timed in both.
    """
    wanted = "bf16" if torch.cuda.is_available() else "fp32"
    rows = {
        row["contender"]: row
        for row in part("step").measure(quick=True)["rows"]
        if "first_loss" in row and row["precision"] == wanted
    }
    assert rows["maskbench"]["first_loss"] == rows["textbook"]["first_loss"]
    assert rows["maskbench"]["to_textbook"] > 0.8


def test_another_model_is_refused(part: Any) -> None:
    step = part("contenders")
    device = torch.device("cpu")
    found = step.contenders(step.SMALL, device, ["maskbench", "textbook"])
    given = step.Inputs.of(step.SMALL, device)
    step.equal(step.losses(found, given, ["fp32"]), ["fp32"])
    with torch.no_grad():
        found["maskbench"][0].decoder_pred.weight *= 3
    with pytest.raises(ArithmeticError, match="loss of maskbench"):
        step.equal(step.losses(found, given, ["fp32"]), ["fp32"])


def test_a_setting_of_a_gpu_is_told_row_by_row(
    part: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the CPU, where there are no graphs: who fails leaves the others their rows."""
    gpu, whole = part("gpu"), part("contenders")
    tiny = whole.Setting("tiny", SMALL, 8, 2)
    names = ["maskbench", "textbook", "lightly", gpu.CAPTURED]
    rows = {row["contender"]: row for row in gpu.one(tiny, torch.device("cpu"), names, 2, 64)}
    assert list(rows) == [gpu.CAPTURED, *names[:3], "matrix products", gpu.SQUARE]
    assert rows["maskbench"]["first_loss_fp32"] == rows["lightly"]["first_loss_fp32"]
    assert rows["maskbench"]["of_peak"] > 0
    assert rows[gpu.CAPTURED]["error"]
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[:1] == "{"]
    assert [row["ready"] for row in told if "ready" in row] == names[:3]


def test_one_setting_joins_those_that_were_kept(part: Any) -> None:
    merged = part("__main__").merged
    origin = {"commit": "a", "versions": {"torch": "2"}, "device": {"gpu": "H100"}}
    known: dict[str, Any] = {"part": "step", "quick": False, "provenance": origin}
    first = {**known, "batches": {"a": 1}, "rows": [{"setting": "a", "x": 1}]}
    second = {**known, "batches": {"b": 2}, "rows": [{"setting": "b", "x": 2}]}
    again = {**known, "batches": {"a": 1}, "rows": [{"setting": "a", "x": 3}]}
    both = merged(second, first)
    assert (both["batches"], both["rows"]) == ({"a": 1, "b": 2}, first["rows"] + second["rows"])
    assert merged(again, both)["rows"] == second["rows"] + again["rows"]
    elsewhere = {**second, "provenance": {**origin, "commit": "b"}}
    assert merged(elsewhere, first) == elsewhere


def test_free_strategies_cost_next_to_nothing(part: Any) -> None:
    rows = part("strategies").one("micro", 3, torch.device("cpu"), ["random", "block", "grid"])
    assert all(row["time_over_flops"] < 1.5 for row in rows)
    assert [row["flops_to_random"] for row in rows] == [1, 1, 1]


def test_order_and_batches_do_not_grow_with_the_data(part: Any) -> None:
    growth = part("growth")
    small, large = (growth.one("prototypes", count, 10) for count in (2_000, 50_000))
    assert large["order_us_per_image"] < 3 * small["order_us_per_image"]
    assert large["checkpoint_bytes_per_image"] == small["checkpoint_bytes_per_image"] == 9


def test_pages_show_the_kept_numbers(part: Any) -> None:
    main = part("__main__")
    page = main.PAGE.read_text(encoding="utf-8")
    assert main.rendered(page, main.kept()) == page
    assert json.loads((main.RESULTS / "step-cpu.json").read_text())["rows"]
