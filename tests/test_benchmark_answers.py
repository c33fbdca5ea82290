"""What a benchmark says of odd files, and of runs that failed early or cannot be compared."""

import json
from pathlib import Path

import pytest
from conftest import cli

from maskbench.benchmark import reading
from maskbench.errors import OK, USAGE, UsageError

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


def test_a_file_of_windows_is_read_and_one_of_another_code_is_named(tmp_path: Path) -> None:
    """A mark at the beginning is no key; bytes that are not UTF-8 have a line."""
    path = tmp_path / "two.toml"
    path.write_text(FILE, encoding="utf-8-sig")
    assert list(reading.asked(str(path)).items) == ["random-s0"]
    path.write_bytes(FILE.replace('"q"', '"wof\u00fcr"').encode("latin-1"))
    with pytest.raises(UsageError, match=r"two\.toml, line 3: not UTF-8; save it as UTF-8"):
        reading.asked(str(path))


def test_an_option_is_called_as_in_the_file_only_where_it_stands_there(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(FILE)
    found = reading.placed(path, "random", "too many bad files: raise --max-bad.")
    assert found == f"{path}, line 16: random: too many bad files: raise --max-bad."
    found = reading.placed(path, "random", "--limit 100 is odd; --debug shows more.")
    assert found == f"{path}, line 13: random: limit 100 is odd; --debug shows more."


def test_only_figures_are_reproduced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another benchmark has no claim to be judged; nothing of it is run."""
    monkeypatch.chdir(tmp_path)
    Path("two.toml").write_text(FILE)
    assert cli(monkeypatch, "reproduce", "two.toml") == USAGE
    assert "unknown key" in capsys.readouterr().err
    assert not Path("runs").exists()


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
