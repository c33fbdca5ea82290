"""``maskbench compare``: which runs, where the page goes, what the exit code says."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from synthetic import compare, pair, put, record, used

from maskbench.cli import app
from maskbench.cli.errors import guarded
from maskbench.report import again, page
from maskbench.report.frame import Run
from maskbench.report.reading import read


def test_compare_prints_a_table_and_the_path(tmp_path: Path) -> None:
    store, out = pair(tmp_path / "runs"), tmp_path / "page"
    code, text = compare("--runs", str(store), "--out", str(out))
    assert code == 0
    assert "clmae" in text
    assert "one seed: a smoke test, no verdict" in text
    assert text.rstrip().endswith("report.html")
    assert (out / "report.html").is_file()
    assert "(replaced)" in compare("--runs", str(store), "--out", str(out))[1]


@pytest.mark.parametrize("name", ["random", "random-0", "FOLDER/random-0", "FOLDER"])
def test_runs_by_name_folder_and_store(tmp_path: Path, name: str) -> None:
    store = pair(tmp_path / "runs")
    named = name.replace("FOLDER", str(store))
    code, out = compare(named, "--runs", str(store), "--out", str(tmp_path / "page"), "--json")
    assert code == 0
    assert len(json.loads(out)["rows"]) == (2 if name == "FOLDER" else 1)


def test_a_store_as_out_is_compared_itself(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    pair(tmp_path / "mine")
    assert compare("--out", "mine")[0] == 0
    assert (tmp_path / "mine" / "report.html").is_file()


def run_main(monkeypatch: Any, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["maskbench", "compare", *words])
    return guarded(app)


def test_no_run_is_wrong_usage(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch) == 2
    assert "maskbench run --strategy random" in capsys.readouterr().err
    assert run_main(monkeypatch, "nothing") == 2
    assert not (tmp_path / "reports").exists()


def test_a_page_that_cannot_be_written_is_an_io_error(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    store = pair(tmp_path / "runs")
    (tmp_path / "file").write_text("")
    assert run_main(monkeypatch, "--runs", str(store), "--out", str(tmp_path / "file")) == 74
    assert "cannot write" in capsys.readouterr().err


def test_the_command_that_makes_a_run_again(tmp_path: Path) -> None:
    settings = record("clmae", 3, 0.5)["settings"] | {"strategy_settings": {"last": 0, "a": "b c"}}
    text = again.command(settings, {"batch": 4, "base_lr": 0.1, "draws": 2})
    assert text == (
        "maskbench run --strategy clmae --budget 2ep --data toy --model nano --hidden 12 "
        "--lr 0.001 --seed 3 --device cpu --precision fp32 --set last=0 --set 'a=b c'"
    )


def test_a_suggested_command_names_the_store_and_tunes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for store in ("runs", "other/runs"):
        put(tmp_path / store, "r", record("random", 0, 0.5))
        tuned = record("clmae", 0, 0.5)
        grid = {"lr_trials": 3, "lr_grid": [5e-4, 1e-3, 2e-3]}
        put(tmp_path / store, "c", {**tuned, "settings": {**tuned["settings"], **grid}})

    def made(store: str) -> list[Run]:
        return read([tmp_path / store / name for name in "rc"])[0]

    one, other = sorted(made("runs"), key=lambda run: run.id, reverse=True)
    assert "--out" not in again.matching(one, other, "flops")
    tune, run = again.matching(other, one, "flops").split(" && ")
    assert tune.startswith("maskbench tune --strategy clmae --budget match:r:flop")
    assert "--lr 0.001" in tune
    assert "--lr tuned" in run
    there = sorted(made("other/runs"), key=lambda run: run.id, reverse=True)[0]
    assert "--budget match:runs/r:img" in again.matching(there, one, "images")
    both = f"{tune} && {run}"
    assert again.placed(both, other.folder) == both
    assert again.placed(both, there.folder) == (
        f"{tune} --out other/runs && {run} --out other/runs"
    )
    _, told = compare("--runs", "other/runs", "--out", "page", "--json")
    view = json.loads(told)["not_compared"][0]
    assert "--out" not in view["command"] + view["here"]  # unlike: nothing would help
    put(tmp_path / "apart", "a", record("random", 0, 0.5))
    put(tmp_path / "apart", "b", used("clmae", 0, 0.5, images=80, flops=9e9, seconds=9))
    _, told = compare("--runs", "apart", "--out", "page")
    assert "match:a:flop" in told
    assert told.count("--out apart") == told.count("maskbench run --strategy") > 0


def test_compare_needs_no_torch(tmp_path: Path) -> None:
    store = pair(tmp_path / "runs")
    code = (
        "import sys; from maskbench.report import page; from pathlib import Path; "
        f"page.make(list(Path({str(store)!r}).iterdir())); import maskbench.cli; "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'matplotlib.pyplot')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("more", "asked", "kinds"),
    [(0, "auto", {"svg", "png", "pdf"}), (-1, "auto", {"svg"}), (-1, "png", {"png"})],
)
def test_many_figures_are_svg_alone_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int, asked: str, kinds: set[str]
) -> None:
    put(tmp_path / "runs", "r", record("random", 0, 0.5))
    count = len(page.make([tmp_path / "runs/r"]).pictures)
    monkeypatch.setattr(import_module("maskbench.cli.compare"), "MANY", count + more)
    words = ("--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--figures", asked)
    assert compare(*words)[0] == 0
    drawn = [path.suffix[1:] for path in (tmp_path / "out/figures").iterdir()]
    assert sorted(drawn) == sorted([*kinds] * count)
