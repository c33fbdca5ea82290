"""``maskbench compare``: which runs, where the page goes, what the exit code says."""

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from synthetic import compare, pair, put, record, used

from maskbench.cli import app
from maskbench.cli.errors import guarded
from maskbench.figures.picture import Picture
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
    assert "--budget match:runs/r:img" in again.matching(there, one, "images", near=True)
    assert "--budget match:r:img" in again.matching(there, one, "images")
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


@pytest.mark.parametrize("words", [["--help"], ["ls"], ["compare", "--format", "json"]])
def test_starting_and_numbers_import_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    """Nor is anything drawn or written; of few seeds no test needs scipy.stats."""
    pair(tmp_path / "runs", seeds=5)
    code = (
        "import sys; from maskbench.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'timm', 'matplotlib', 'pandas', 'statsmodels', 'scipy.stats'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("form", ["json", "csv", "markdown", "latex"])
def test_what_is_for_programs_writes_no_report_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pair(tmp_path / "runs", seeds=3)
    code, alone = compare("--format", form)
    assert code == 0
    assert not (tmp_path / "reports").exists()
    words = ("--format", form, "--out", "page")
    _, beside = compare(*words)
    assert (tmp_path / "page" / "report.html").is_file()
    if form == "json":
        told, also = json.loads(alone), json.loads(beside)
        assert (told.pop("report"), told.pop("replaced")) == (None, None)
        assert (also.pop("report"), also.pop("replaced")) == ("page/report.html", False)
        assert told == also
        assert len(told["masks"]) == 5
    else:
        assert alone == beside
    (tmp_path / "reports").mkdir()
    for asked in (["--records"], ["--figures", "svg"]):
        assert compare("--format", form, *asked)[0] == 0
        assert (tmp_path / "reports/latest/report.html").is_file()
        shutil.rmtree(tmp_path / "reports/latest")


def test_what_figures_lack_is_known_before_one_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pair(tmp_path)
    (store / "clmae-0" / "metrics.jsonl").unlink()
    (store / "random-0" / "masks.safetensors").write_bytes(b"torn")
    drawn: list[str] = []
    draw = Picture.svg

    def counted(picture: Picture) -> str:
        drawn.append(picture.name)
        return draw(picture)

    monkeypatch.setattr(Picture, "svg", counted)
    report = page.make(sorted(store.iterdir()))
    lacking = [(item.run, item.status) for item in report.left_out]
    assert lacking == [("random-0", "missing file"), ("clmae-0", "missing file")]
    assert report.pictures
    assert not drawn
    html = report.html
    assert sorted(drawn) == sorted(one.name for one in report.pictures)
    assert report.html is html
    assert [item.reason in html for item in report.left_out] == [True, True]


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
