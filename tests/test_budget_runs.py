"""Budgets from the command line: the plan, the ledger, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import cli
from safetensors.numpy import load_file
from test_run import paint

from maskbench.errors import BUG, OK, USAGE
from maskbench.results import FLOP_PARTS, read_metrics

MINE = """
from maskbench.strategy import Mask, MaskStrategy

class Silent(MaskStrategy):
    def mask(self, batch, context):
        return Mask.from_scores(context.uniform("mask", batch), context.grid)

class Late(Silent):
    def setup(self, context, data):
        self.width = 3

    def cost(self, grid, shape):
        return {"mask generator": self.width}

class Costly(Silent):
    def cost(self, grid, shape):
        return {"mask generator": 10**7}
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    paint(root / "train", 20, 0)
    paint(root / "test", 10, 1)
    (root.parent / "mine.py").write_text(MINE)
    return root


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "runs"


Go = Callable[..., tuple[int, Any]]


@pytest.fixture
def go(
    pictures: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Go:
    """Run a verb on the pictures; its exit code, and its JSON or else what it said."""

    def call(*words: str, verb: str = "run") -> tuple[int, Any]:
        where = ["--data", f"folder:{pictures}", "--out", str(out), "--draws", "1", "--batch", "10"]
        capsys.readouterr()
        code = cli(monkeypatch, verb, *words, *where)
        told = capsys.readouterr()
        if "--json" in words and code == OK:
            return code, json.loads(told.out)
        return code, " ".join((told.out + told.err).split())

    return call


def run(go: Go, *words: str) -> dict[str, Any]:
    code, told = go(*words, "--json")
    assert code == OK, told
    record: dict[str, Any] = told["record"]
    return record


def test_a_dry_run_prints_every_unit_and_writes_nothing(go: Go, out: Path) -> None:
    before = sorted(out.glob("*/*"))
    words = ("--strategy", "ratio+clmae", "--dry-run")
    code, text = go(*words, "--budget", "3ep")
    assert code == OK
    for part in (
        "120 images",
        "3 epochs",
        "12 steps",
        "FLOP",
        "s on the clock",
        "GiB of memory while training",
        "MB",
    ):
        assert part in text
    code, told = go(*words, "--budget", "50Gflop", "--json")
    assert code == OK
    assert (told["counts"], told["flops"], told["budget"]) == ("flops", 50 * 10**9, "50Gflop")
    assert told["images"] > 10
    assert told["finished"] is None
    assert [p for p in sorted(out.glob("*/*")) if p.parent.name != "data"] == before


def test_the_plan_is_told_and_the_use_after_it(go: Go) -> None:
    code, text = go("--strategy", "random", "--budget", "30img")
    assert code == OK
    assert "plan 30img = 30 images = 0.75 epochs = 3 steps = " in text
    assert "budget 30img = 30 images = 0.75 epochs = 3 steps" in text
    assert "forecast" in text


def test_the_forecast_of_a_ratio_is_what_it_costs(go: Go) -> None:
    words = ("--strategy", "ratio", "--budget", "12step")
    _, told = go(*words, "--dry-run", "--json")
    record = run(go, *words)
    assert told["flops"] == record["ledger"]["flops_total"]
    assert told["images"] == record["ledger"]["images"] == 120
    finished = go(*words, "--dry-run", "--json")[1]["finished"]
    assert f"is finished already: {finished}" in go(*words, "--dry-run")[1]


@pytest.mark.parametrize("strategy", ["random", "clmae", "ratio+hpm", "prototypes"])
def test_a_budget_of_flops_from_the_command_line(go: Go, strategy: str) -> None:
    words = ["--strategy", strategy]
    words += ["--set", "prototypes.clusters=4"] if strategy == "prototypes" else []
    record = run(go, *words, "--budget", "20Gflop")
    ledger = record["ledger"]
    assert record["budget"]["unit"] == "flops"
    assert record["budget"]["amount"] == 20 * 10**9
    step = ledger["flops_total"] / ledger["steps"]
    assert 20e9 - step < ledger["flops_total"] <= 20e9
    assert set(FLOP_PARTS) <= set(ledger["flops"])
    assert sum(ledger["flops"].values()) == ledger["flops_total"]
    assert ledger["stop_reason"] == "budget"
    rows = read_metrics(Path(go(*words, "--budget", "20Gflop", "--json")[1]["run"]))
    assert rows[-1]["progress"] > 1 - 1.1 / ledger["steps"]
    assert rows[-1]["lr"] < 0.1 * max(row["lr"] for row in rows)


@pytest.mark.slow
def test_as_much_as_another_run_used(go: Go, out: Path) -> None:
    costly = run(go, "--strategy", "hpm", "--budget", "8step")
    match = ("--budget", f"match:{costly['id']}:flop")
    cheap = run(go, "--strategy", "random", *match)
    used, spent = costly["ledger"]["flops_total"], cheap["ledger"]["flops_total"]
    assert used - used / 20 < spent <= used
    assert cheap["ledger"]["images"] > 1.5 * costly["ledger"]["images"]
    assert cheap["budget"]["text"] == match[1]
    same = run(go, "--strategy", "hpm", *match)
    assert same["ledger"]["flops"] == costly["ledger"]["flops"]
    one, other = (load_file(out / r["id"] / "encoder.safetensors") for r in (costly, same))
    assert all((one[name] == other[name]).all() for name in one)
    images = run(go, "--strategy", "random", "--budget", f"match:{out / costly['id']}:img")
    assert images["ledger"]["images"] == 80
    record = json.loads((out / costly["id"] / "record.json").read_text())
    (out / "copy").mkdir()
    for change, says in (
        ({"status": "interrupted"}, "is interrupted, so what it used is not known"),
        ({"ledger": {**record["ledger"], "flops_known": False}}, "match:copy:img would work"),
        ({"ledger": {"images": 80}}, "match:copy:img would work"),
    ):
        told = json.dumps({**record, "id": "copy", **change})
        (out / "copy" / "record.json").write_text(told)
        code, text = go("--strategy", "random", "--budget", "match:copy:flop")
        assert code == USAGE
        assert says in text
    (out / "copy" / "record.json").unlink()
    code, text = go("--strategy", "random", "--budget", "match:nothing:flop")
    assert code == USAGE
    assert "unknown run 'nothing'" in text


def test_a_budget_of_seconds_from_the_command_line(go: Go) -> None:
    record = run(go, "--strategy", "random", "--budget", "0.01min")
    assert (record["budget"]["unit"], record["budget"]["amount"]) == ("seconds", 0.6)
    ledger = record["ledger"]
    assert ledger["steps"] >= 1
    seconds = ledger["seconds"]
    assert ledger["seconds_total"] == pytest.approx(seconds["setup"] + seconds["training"])
    assert record["masks"]["moments"][-1] == 1


def test_seconds_of_another_machine_are_not_reused_silently(go: Go, out: Path) -> None:
    words = ("--strategy", "random", "--budget", "0.7s")
    folder = out / run(go, *words)["id"]
    match = ("--strategy", "random", "--budget", f"match:{folder.name}:s", "--dry-run")
    assert "seconds were taken" not in go(*words)[1]
    assert "took its seconds" not in go(*match)[1]
    record = json.loads((folder / "record.json").read_text())
    record["ledger"]["machine"]["threads"] = 64
    (folder / "record.json").write_text(json.dumps(record))
    code, text = go(*words)
    assert code == OK
    assert "its seconds were taken on" in text
    assert "(64 threads), and this is" in text
    assert "--fresh runs it anew" in text
    assert "(64 threads), and this is" in go(*match)[1]


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ("9img", "less than one step of 10: take 1step (10img), or --batch 9"),
        ("1kflop", "less than one step of 10 images"),
        ("0.00001s", "less than one step of 10 images"),
        ("2e18flops", "Did you mean 'flop'"),
        ("10epochs", "Did you mean 'ep'"),
        ("-1h", "larger than zero"),
        ("match:flop", "write match:RUN:flop"),
    ],
)
def test_budgets_that_cannot_be(go: Go, out: Path, budget: str, says: str) -> None:
    before = sorted(out.glob("*"))
    code, text = go("--strategy", "random", "--budget", budget)
    assert code == USAGE
    assert says in text
    assert "Traceback" not in text
    assert [path for path in sorted(out.glob("*")) if path not in before] in ([], [out / "data"])


def test_unknown_cost_has_no_budget_of_flops(go: Go, pictures: Path) -> None:
    mine = f"{pictures.parent / 'mine.py'}:"
    code, text = go("--strategy", f"{mine}Silent", "--budget", "20Gflop")
    assert code == USAGE
    assert "does not say what it costs" in text
    assert "Define cost(self, grid, shape)" in text
    assert "2ep, 10min" in text
    record = run(go, "--strategy", f"{mine}Silent", "--budget", "20img")
    assert not record["ledger"]["flops_known"]
    assert "FLOPs unknown" in go("--strategy", f"{mine}Silent", "--budget", "20img", "--dry-run")[1]
    code, text = go("--strategy", f"{mine}Late", "--budget", "20Gflop")
    assert code == BUG
    assert "Late failed in hidden or cost (which must work before setup): AttributeError" in text
    record = run(go, "--strategy", f"{mine}Costly", "--budget", "20Gflop")
    assert record["ledger"]["flops_known"]
    assert record["ledger"]["flops"]["mask generator"] == 10**7 * record["ledger"]["images"]


@pytest.mark.slow
def test_probes_during_training_change_nothing_and_are_off_the_clock(go: Go, out: Path) -> None:
    words = ("--strategy", "clmae-fast", "--budget", "20step")
    plain, probed = run(go, *words), run(go, *words, "--probe-at", "25,50,100%")
    moments = probed["probes_during"]
    assert [moment["share"] for moment in moments] == [0.25, 0.5]
    assert [moment["images"] for moment in moments] == [50, 100]
    assert moments[0]["flops_total"] * 2 == moments[1]["flops_total"]
    keys = {(row["probe"], row["shots"], row["draw"]) for row in probed["probes"]}
    for moment in moments:
        assert {(r["probe"], r["shots"], r["draw"]) for r in moment["rows"]} == keys
        assert {row["feature"] for row in moment["rows"]} == {"patchmean"}
    one, other = (load_file(out / r["id"] / "encoder.safetensors") for r in (plain, probed))
    assert all((one[name] == other[name]).all() for name in one)
    assert plain["probes"] == probed["probes"]
    seconds = probed["ledger"]["seconds"]
    on = ("data", "step", "strategy", "compilation")
    assert sum(seconds[part] for part in on) <= seconds["training"]
    assert plain["probes_during"] == []


@pytest.mark.parametrize("text", ["0%", "101%", "half", "25,,50", "-5"])
def test_moments_that_cannot_be(go: Go, text: str) -> None:
    code, told = go("--strategy", "random", "--probe-at", text)
    assert code == USAGE
    assert "25,50,75,100%" in told
