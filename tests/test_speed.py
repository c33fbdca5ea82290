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


STAND_IN = """
import torch

class MaskedAutoencoderViT(torch.nn.Module):
    def __init__(self, image, patch, **sizes):
        super().__init__()
        self.told, self.net, self.rest = [], torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        for name in ("freeze_maskingnet", "unfreeze_maskingnet"):
            setattr(self, name, lambda on=name[0] == "u": self.net.requires_grad_(on))
        for name in ("freeze_backbone", "unfreeze_backbone"):
            setattr(self, name, lambda on=name[0] == "u": self.rest.requires_grad_(on))

    def forward(self, images, mask_ratio, train_mask=False):
        both = self.net.weight, self.rest.weight
        self.told.append((mask_ratio, [each.requires_grad for each in both]))
        value = (self.net.weight + self.rest.weight).sum()
        return (value, value, value, value) if train_mask else value
"""


def test_the_published_step_updates_one_network_after_the_other(part: Any, tmp_path: Path) -> None:
    published, whole = part("published"), part("contenders")
    tiny = whole.Setting("tiny", SMALL, 8, 1)
    (tmp_path / "models_mae.py").write_text(STAND_IN)
    model = published.load(tmp_path, tiny)
    before = [each.weight.item() for each in (model.net, model.rest)]
    published.stepping(model, tiny)()
    assert model.told == [(0.75, [False, True]), (0.75, [True, False])]
    after = [each.weight.item() for each in (model.net, model.rest)]
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_code_that_is_not_there_is_told(part: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no models_mae"):
        part("published").measure(code=tmp_path)


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
