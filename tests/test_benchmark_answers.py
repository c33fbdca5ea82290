"""What a benchmark says of runs that cannot be compared, or that failed before they trained."""

import json
from pathlib import Path

import pytest
from conftest import cli

from maskbench.errors import OK

FILE = """
title = "t"
question = "q"
expected = "e"
cost = "c"
metric = "knn20"
direction = "higher"
baseline = "random"
budgets = "2step"
seeds = 1
[options]
device = "cpu"
limit = 100
[probes]
draws = 1
[strategies.random]
"""
MINE = """
from maskbench.strategy import Batch, Context, Mask, MaskStrategy

class Mine(MaskStrategy):
    def mask(self, batch: Batch, context: Context) -> Mask:
        if context.seed == 1:
            raise ValueError("my own mistake")
        return Mask.from_scores(context.uniform("mask", batch), context.grid)
"""


@pytest.mark.slow
def test_a_strategy_that_fails_in_the_timed_steps_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has a folder, its log has the traceback, and means of fewer seeds are not ranked."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    Path("two.toml").write_text(
        FILE.replace("seeds = 1", "seeds = 2") + '[strategies.bad]\nstrategy="mine.py:Mine"\n'
    )
    assert cli(monkeypatch, "run", "two.toml") == 3
    told = capsys.readouterr()
    assert "note  bad: of fewer seeds than planned, so means do not rank" in told.err
    log = Path("runs/benchmarks/two/logs/bad-s1.log").read_text()
    assert "Traceback" in log
    assert "ValueError: my own mistake" in log
    found = json.loads(Path("reports/two/report.json").read_text())
    (mine,) = [row for row in found["runs_started"] if row["strategy"].startswith("mine.py")]
    assert (mine["ok"], mine["failed"], mine["started"]) == (1, 1, 2)


@pytest.mark.slow
def test_budgets_of_different_amounts_are_not_paired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And an edited file, and a store of another name, are told by ``status``."""
    monkeypatch.chdir(tmp_path)
    Path("two.toml").write_text(FILE + '[strategies.block]\nbudgets = "3step"\n')
    assert cli(monkeypatch, "run", "two.toml", "--json", "--out", "mine") == OK
    told = capsys.readouterr()
    (block,) = [one for one in json.loads(told.out)["answers"] if one["arm"] == "block"]
    assert block["to_baseline"] is None
    Path("two.toml").write_text(Path("two.toml").read_text().replace("3step", "4step"))
    assert cli(monkeypatch, "status", "two.toml", "--out", "mine") == OK
    told = capsys.readouterr()
    assert "the file asks something else than what was planned in mine/" in told.err
    assert '"3step"' in told.err
    Path("two.toml").write_text("title = 3")
    assert cli(monkeypatch, "status", "two", "--out", "mine") == OK
    assert "2 finished" in capsys.readouterr().out
