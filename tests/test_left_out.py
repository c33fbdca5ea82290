"""Whatever is wrong with a run, there is a page, a named row and exit code 3, and no traceback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from studies import store as with_studies
from synthetic import compare, pair, plain, put, record

from maskbench.errors import SchemaError
from maskbench.findings import FOLDER
from maskbench.report import page
from maskbench.report.reading import LeftOut
from maskbench.results import Store, read_record

Spoil = Callable[[Path], object]


def settled(name: str, **changes: object) -> Spoil:
    return lambda store: put(store, "odd", record(name, 5, 0.5, **changes))


def truncated(store: Path) -> None:
    file = put(store, "odd", record("grid", 5, 0.5)) / "record.json"
    file.write_text(file.read_text()[:500])


def without(name: str) -> Spoil:
    return lambda store: (put(store, "odd", record("grid", 5, 0.5)) / name).unlink()


def repeated(store: Path) -> None:
    late = record("clmae", 0, 0.9)
    late["provenance"]["started"] = "2026-02-02T00:00:00+00:00"
    put(store, "odd", late)


CASES: dict[str, tuple[Spoil, str, str]] = {
    "older": (settled("grid", schema=0), "other schema", "reads 1. An older maskbench made it"),
    "newer": (settled("grid", schema=2), "other schema",
      "schema 2; this maskbench reads 1. A newer"),
    "odd schema": (settled("grid", schema="x"), "other schema", "no maskbench wrote it"),
    "truncated": (truncated, "unreadable", "not a readable record"),
    "running": (settled("grid", status="running"), "running", "it has not finished"),
    "interrupted": (settled("grid", status="interrupted"), "interrupted", "it has not finished"),
    "failed": (settled("grid", status="failed", error="E: it broke"), "failed", "E: it broke"),
    "repeated": (repeated, "repeated", "the same strategy, seed, budget and conditions as clmae-0"),
    "metrics": (without("metrics.jsonl"), "missing file", "no loss curve"),
    "masks": (without("masks.safetensors"), "missing file", "no pictures of its masks"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_page_a_row_and_the_exit_code(tmp_path: Path, case: str) -> None:
    spoil, status, why = CASES[case]
    spoil(pair(tmp_path / "runs"))
    code, told = compare("--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "p"), "--json")
    assert code == 3
    (item,) = json.loads(told)["left_out"]
    assert (item["run"], item["status"]) == ("odd", status)
    assert why in item["reason"]
    html = plain((tmp_path / "p" / "report.html").read_text())
    assert "Left out, and why" in html
    assert "clmae − random" in html
    assert str(tmp_path) not in html


def test_which_schema_it_is_can_be_told_from_other_damage(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="upgrade"):
        read_record(put(tmp_path, "newer", record("grid", 0, 0.5, schema=7), files=False))


@pytest.mark.parametrize("name", ["settings.json", "metrics.jsonl"])
def test_a_folder_without_a_record(tmp_path: Path, name: str) -> None:
    store = pair(tmp_path)
    (store / "odd").mkdir()
    (store / "odd" / name).write_text("{}")
    (store / "data").mkdir()
    assert Store(store).unrecorded() == [store / "odd"]
    assert store / "odd" not in Store(store).folders()
    report = page.make([*Store(store).folders(), *Store(store).unrecorded()])
    why = "no record.json: it ended before its first record, or its copy is not whole"
    assert list(report.left_out) == [LeftOut("odd", "no record", why)]
    assert why in plain(report.html)
    assert Store(tmp_path / "none").unrecorded() == []


def test_of_two_runs_of_one_id_the_first_counts(tmp_path: Path) -> None:
    pair(tmp_path / "one")
    other = record("clmae", 0, 0.9)
    other["data"]["fingerprint"] = "e" * 64
    other["settings"]["batch"] = 8
    other["seed"] = 3
    other["provenance"]["started"] = "2025-01-01T00:00:00+00:00"
    put(tmp_path / "two", "clmae-0", other)
    stores = (str(tmp_path / "one"), str(tmp_path / "two"))
    for order in (stores, stores[::-1]):
        code, told = compare(*order, "--out", str(tmp_path / "p"), "--json")
        (item,) = json.loads(told)["left_out"]
        assert (code, item["run"], item["status"]) == (3, "clmae-0", "duplicated id")
        assert "another run of this id was started first" in item["reason"]
        for part in ("toy (eeeeeeeeeeee) and toy (ffffffffffff)", "batch 8 and batch 4",
                     "seed: 3 and 0"):  # fmt: skip
            assert part in item["reason"]
        clmae = [row for row in json.loads(told)["rows"] if row["strategy"] == "clmae"]
        assert [row["seeds"] for row in clmae] == [[3]]


def test_a_run_of_a_free_id_is_kept_although_its_twin_lost_its_own(tmp_path: Path) -> None:
    """B has A's id and loses it; C is as B was, under an id of its own."""
    for store, name, seed, day in (("1", "a", 0, 1), ("2", "a", 1, 2), ("3", "c", 1, 3)):
        run = record("random", seed, 0.5)
        run["provenance"]["started"] = f"2026-01-0{day}T00:00:00+00:00"
        put(tmp_path / store, name, run)
    report = page.make(sorted(tmp_path.glob("*/*")))
    assert [(run.id, run.seed) for run in report.groups[0].runs] == [("a", 0), ("c", 1)]
    assert [item.status for item in report.left_out] == ["duplicated id"]


def test_a_run_given_twice_counts_once(tmp_path: Path) -> None:
    store = pair(tmp_path / "runs")
    (store / "link").symlink_to(store / "clmae-0", target_is_directory=True)
    folders = Store(store).folders()
    report = page.make(folders)
    (item,) = report.left_out
    assert (item.run, item.status) == ("clmae-0", "repeated")
    assert item.reason == "the same folder as clmae-0, by another path"
    code, told = compare(str(store / "clmae-0"), str(store / "link"), str(store), "--out",
                         str(tmp_path / "p"), "--json")  # fmt: skip
    assert (code, json.loads(told)["left_out"]) == (0, [])
    assert [row["seeds"] for row in json.loads(told)["rows"]] == [[0], [0]]


def test_two_data_sets_in_a_store_are_groups_apart(tmp_path: Path) -> None:
    store = pair(tmp_path / "runs")
    other = record("grid", 0, 0.5)
    other["data"] |= {"name": "other", "fingerprint": "e" * 64}
    put(store, "grid-0", other)
    code, told = compare("--runs", str(store), "--out", str(tmp_path / "p"), "--json")
    found = json.loads(told)
    assert code == 0
    place = {row["strategy"]: row["group"] for row in found["rows"]}
    assert place["random"] == place["clmae"] != place["grid"]
    assert len(found["not_compared"]) == 2
    assert all("data: " in pair["why"] and "other" in pair["why"] for pair in found["not_compared"])


def test_a_run_without_a_study_beside_runs_that_have_one(tmp_path: Path) -> None:
    store = with_studies(tmp_path / "runs", 1)
    shutil.rmtree(store / "clmae-0" / FOLDER)
    code, told = compare("--runs", str(store), "--out", str(tmp_path / "p"), "--json")
    (item,) = json.loads(told)["left_out"]
    assert (code, item["run"], item["status"]) == (3, "clmae-0", "missing file")
    assert "not in the study of masks" in item["reason"]


def test_a_copy_is_named_and_no_reason_for_an_exit_code(tmp_path: Path) -> None:
    """Its run counts, so nothing is missing from the comparison."""
    pair(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    code, told = compare(str(tmp_path / "a"), str(tmp_path / "b"), "--json", "--figures", "none")
    assert code == 0
    assert {item["status"] for item in json.loads(told)["left_out"]} == {"copy"}
    put(tmp_path / "b", "odd", record("grid", 5, 0.5, status="running"))
    assert compare(str(tmp_path / "a"), str(tmp_path / "b"), "--json")[0] == 3
