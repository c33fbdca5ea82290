"""A report as files: the same from the same records, checked, and nothing of others is touched."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from synthetic import compare, pair, put, record, used
from typer.testing import CliRunner

from maskbench.cli import app
from maskbench.report import exports, numbers, page, writing
from maskbench.report.reading import read
from maskbench.report.views import groups

DRAWS = True

PNG = ("--figures", "png")


def report(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["report", *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def made(tmp_path: Path) -> Path:
    pair(tmp_path / "runs", 3)
    compare("--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), *PNG)
    return tmp_path / "out"


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_a_report_names_its_files_and_its_runs(tmp_path: Path) -> None:
    out = made(tmp_path)
    told = json.loads((out / "report.json").read_text())
    assert told["files"] == sorted(files(out))
    assert {"report.html", "leaderboard.csv", "runs.csv", "few-shot.csv"} <= set(told["files"])
    assert "figures/g1-forest.png" in told["files"]
    assert {row["folder"] for row in told["runs"]} == {
        f"../runs/{name}-{seed}" for name in ("random", "clmae") for seed in range(3)
    }
    assert str(tmp_path) not in "".join(
        content.decode() for name, content in files(out).items() if not name.endswith("png")
    )


def test_the_same_records_give_the_same_files_wherever_they_lie(tmp_path: Path) -> None:
    first = files(made(tmp_path / "one"))
    other = made(tmp_path / "two")
    assert files(other) == first
    names = [str(path) for path in sorted((tmp_path / "two/runs").iterdir(), reverse=True)]
    compare(*names, "--out", str(other), *PNG)
    assert files(other) == first


def test_check_says_same_and_names_what_differs(tmp_path: Path) -> None:
    out = made(tmp_path)
    before = files(out)
    code, told = report(str(out), "--check")
    assert (code, "the same from its 6 runs" in told) == (0, True)
    (out / "leaderboard.csv").write_text("other")
    (out / "figures/g1-forest.png").unlink()
    code, told = report(str(out), "--check")
    assert code == 6
    assert f"{out / 'leaderboard.csv'}  differs" in told
    assert f"{out / 'figures/g1-forest.png'}  missing" in told
    assert told.count("\n") == 2
    assert report(str(out))[0] == 0
    assert files(out) == before


def test_check_sees_a_record_that_changed(tmp_path: Path) -> None:
    out = made(tmp_path)
    path = tmp_path / "runs/clmae-1/record.json"
    path.write_text(path.read_text().replace('"started": "2026-01-01', '"started": "2026-01-02'))
    code, told = report(str(out), "--check")
    assert code == 6
    assert "report.html  differs" in told


def test_other_versions_compare_numbers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = made(tmp_path)
    monkeypatch.setattr(numbers, "made_with", lambda: {"matplotlib": "99"})
    code, told = report(str(out), "--check")
    assert code == 0
    assert "only numbers are compared" in told
    assert "here 99" in told
    told = json.loads((out / "report.json").read_text())
    told["verdicts"][0]["verdict"] = "clmae it is"
    (out / "report.json").write_text(json.dumps(told))
    code, said = report(str(out), "--check")
    assert (code, "report.json  differs" in said) == (6, True)


def test_runs_that_are_gone_and_reports_that_are_none_are_named(tmp_path: Path) -> None:
    out = made(tmp_path)
    shutil.move(tmp_path / "runs", tmp_path / "moved")
    code = CliRunner().invoke(app, ["report", str(out), "--check"])
    assert "6 of the 6 runs" in str(code.exception)
    assert report(str(out), str(tmp_path / "moved"), "--check")[0] == 0  # the same, elsewhere
    code = CliRunner().invoke(app, ["report", str(tmp_path / "nothing")])
    assert "maskbench compare --out" in str(code.exception)
    (out / "report.json").write_text('{"schema": 99}')
    assert "schema 1" in str(CliRunner().invoke(app, ["report", str(out)]).exception)


def test_what_a_later_report_does_not_write_goes_and_nothing_else(tmp_path: Path) -> None:
    out = made(tmp_path)
    (out / "mine.csv").write_text("mine")
    (tmp_path / "outside.csv").write_text("not ours")
    told = json.loads((out / "report.json").read_text())
    told["files"] += ["../outside.csv", "/etc/hosts", "figures/../../outside.csv"]
    (out / "report.json").write_text(json.dumps(told))
    put(tmp_path / "alone", "r", record("random", 0, 0.5, probes=[], controls=[], masks={}))
    compare("--runs", str(tmp_path / "alone"), "--out", str(out))
    assert (tmp_path / "outside.csv").exists()
    assert (out / "mine.csv").exists()
    assert not (out / "few-shot.csv").exists()
    assert not list((out / "figures").iterdir())


def test_the_numbers_of_a_report_are_worked_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = page.make(sorted(pair(tmp_path / "runs").iterdir())), []

    def document(report: page.Report) -> dict[str, Any]:
        asked.append(report)
        return told(report)

    told = numbers.document
    monkeypatch.setattr(numbers, "document", document)
    writing.write(made, tmp_path / "out", [])
    assert asked == [made]


def test_records_are_copied_small_and_give_the_same_page(tmp_path: Path) -> None:
    out = made(tmp_path)
    page_before = (out / "report.html").read_bytes()
    for folder in (tmp_path / "runs").iterdir():
        (folder / "encoder.safetensors").write_bytes(b"0" * 1000)
    words = ("--runs", str(tmp_path / "runs"), "--out", str(out), "--records", *PNG)
    assert compare(*words)[0] == 0
    assert (out / "report.html").read_bytes() == page_before
    copied = files(out / "records")
    assert {name for name in copied if name.endswith(".safetensors")} == {
        "random-0/masks.safetensors", "clmae-0/masks.safetensors"
    }  # fmt: skip
    assert len([name for name in copied if name.endswith("record.json")]) == 6
    shutil.rmtree(tmp_path / "runs")
    assert report(str(out), "--check")[0] == 0
    again = CliRunner().invoke(
        app, ["compare", str(out / "records"), "--records", "--out", str(out)]
    )
    assert "holds the runs themselves" in str(again.exception)
    assert files(out / "records") == copied


def test_records_hold_the_masks_of_the_first_seed_that_has_any(tmp_path: Path) -> None:
    store, out = pair(tmp_path / "runs", 3), tmp_path / "out"
    (store / "clmae-0/masks.safetensors").write_bytes(b"damaged")
    words = ("--runs", str(store), "--out", str(out))
    assert compare(*words)[0] == compare(*words, "--records")[0] == 3  # the damaged file is named
    copied = {name for name in files(out / "records") if not name.endswith("record.json")}
    assert copied == {
        f"{run}/{name}"
        for run in ("random-0", "clmae-0", "clmae-1")
        for name in ("masks.safetensors", "metrics.jsonl")
    }
    html = (out / "report.html").read_text()
    assert "<strong>clmae</strong>, seed 1" in html
    assert "<strong>random</strong>, seed 0" in html
    shutil.rmtree(store)
    assert report(str(out), "--check")[0] == 0


def test_files_of_others_are_neither_replaced_nor_taken_away(tmp_path: Path) -> None:
    pair(tmp_path / "runs")
    words = ["compare", "--runs", str(tmp_path / "runs"), "--figures", "none", "--out"]
    (tmp_path / "runs.csv").write_text("mine")
    assert "is of no report" in str(CliRunner().invoke(app, [*words, str(tmp_path)]).exception)
    assert (tmp_path / "runs.csv").read_text() == "mine"
    (tmp_path / "runs.csv").rename(tmp_path / "masks-drift.csv")  # a table that this report lacks
    assert "masks-drift.csv is of no" in str(
        CliRunner().invoke(app, [*words, str(tmp_path)]).exception
    )
    out = tmp_path / "out"
    (out / "records").mkdir(parents=True)
    (out / "records" / "thesis.txt").write_text("mine")
    found = CliRunner().invoke(app, [*words, str(out), "--records"])
    assert "holds other things" in str(found.exception)
    assert (out / "records" / "thesis.txt").exists()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    pair(tmp_path)
    for words in (["--figures", "gif"], ["--format", "word"]):
        found = CliRunner().invoke(app, ["compare", "--runs", str(tmp_path), *words])
        assert "unknown" in str(found.exception)


@pytest.mark.parametrize("kind", exports.KINDS)
def test_leaderboards_as_text_hold_the_numbers(tmp_path: Path, kind: str) -> None:
    pair(tmp_path / "runs", 3)
    code, told = compare(
        "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--format", kind
    )
    (group,) = groups(read(sorted((tmp_path / "runs").iterdir()))[0])
    assert code == 0
    assert told.rstrip("\n") == exports.leaderboard_as(group, kind).rstrip("\n")
    assert "+3.8 [0.6, 6.9]" in told
    html = (tmp_path / "out/report.html").read_text()
    assert "<pre" in html
    assert exports.leaderboard_as(group, "csv").splitlines()[1] in html


def test_csv_reads_back_and_markdown_and_latex_are_escaped(tmp_path: Path) -> None:
    evil = r"a|b_%$\x{y}&z"
    put(tmp_path, "random-0", record("random", 0, 0.5))
    put(tmp_path, "evil-0", record(evil, 0, 0.5))
    (group,) = groups(read(sorted(tmp_path.iterdir()))[0])
    rows = list(csv.DictReader(io.StringIO(exports.leaderboard_as(group, "csv"))))
    assert [row["Strategy"] for row in rows] == ["random", evil]
    line = exports.leaderboard_as(group, "markdown").splitlines()[3]
    assert line.replace(r"\|", "").count("|") == len(rows[0]) + 1
    latex = exports.leaderboard_as(group, "latex")
    for sign in "%$&_":
        assert f"\\{sign}" in latex
    body = latex.partition("\\midrule")[2].partition("\\bottomrule")[0]
    assert all(line.count("&") - line.count("\\&") == len(rows[0]) - 1
               for line in body.strip().splitlines())  # fmt: skip
    assert latex.count("{") - latex.count("\\{") == latex.count("}") - latex.count("\\}")


def test_tables_hold_every_run_and_every_shot(tmp_path: Path) -> None:
    pair(tmp_path, 3)
    put(tmp_path, "more", used("random", 0, 0.5, images=80, flops=8e9))
    made = page.make(sorted(tmp_path.iterdir()))
    found = numbers.tables(made, numbers.document(made))
    assert {row["run"] for row in found["runs"]} == {path.name for path in tmp_path.iterdir()}
    shots = [row for row in found["few-shot"] if row["run"] == "clmae-1"]
    assert {(row["feature"], row["shots"]) for row in shots} == {
        (feature, n) for feature in ("patchmean", "untrained", "pixels") for n in (1, 2, 4)
    }
    assert next(r for r in found["leaderboard"] if r["strategy"] == "clmae")["primary.seeds"] == 3


def test_no_text_of_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    names = {"random": "-r", "=1+1": "+r", "@clmae": "=HYPERLINK()"}
    for strategy, name in names.items():
        for seed in range(3):
            accuracy = 0.5 + seed / 100 - 0.1 * (strategy != "random")
            put(tmp_path, f"{name}{seed}", record(strategy, seed, accuracy))
    put(tmp_path, "+failed", record("=1+1", 3, 0.5, status="failed", error="=1"))
    made = page.make(sorted(tmp_path.iterdir()))
    found = writing.texts(made, tmp_path / "out", [])
    tables = {k: list(csv.DictReader(io.StringIO(v))) for k, v in found.items() if k[-3:] == "csv"}
    cells = [cell for rows in tables.values() for row in rows for cell in row.values()]
    begun = [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert begun  # numbers below zero stay numbers
    assert all(float(cell) < 0 for cell in begun)
    runs = {(row["strategy"], row["run"]) for row in tables["runs.csv"]}
    assert {("random", "'-r0"), ("'=1+1", "'+r1"), ("'@clmae", "'=HYPERLINK()2")} <= runs
    assert "'+failed" in tables["left-out.csv"][0].values()
    told = json.loads(found["report.json"])  # no spreadsheet reads it
    assert {row["strategy"] for row in told["rows"]} == set(names)


def test_files_have_ten_digits_and_no_nan() -> None:
    told = numbers.rounded({"a": [1 / 3, float("nan"), (2, True, "x")], "b": 1e-300})
    assert told == {"a": [0.3333333333, None, [2, True, "x"]], "b": 1e-300}
    assert writing.OURS.fullmatch("masks-drift.csv")
    assert not writing.OURS.fullmatch("../x.csv")
