"""Records of several machines and people are merged: in any order, and conflicts are named."""

import csv
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import BENCHMARK, compare, elsewhere, pair, plain, put, record

from maskbench.cli import app
from maskbench.cli.errors import guarded
from maskbench.cli.stores import chosen, stores_of
from maskbench.report import numbers, page, provenance, records, writing
from maskbench.report.merging import digest
from maskbench.report.reading import read


def told(*folders: Path) -> dict[str, Any]:
    """What programs are told of stores; these records have no pictures."""
    found = dict(json.loads(compare(*map(str, folders), "--json")[1]))
    lost = [item for item in found["left_out"] if item["status"] != "missing file"]
    return {**found, "left_out": lost}


def said(folders: Sequence[Path]) -> str:
    """All numbers of runs, without where they lie."""
    return json.dumps(numbers.portable(numbers.document(page.make(folders))), sort_keys=True)


def both_ways(one: Path, other: Path) -> dict[str, Any]:
    """What is told of two stores, in either order and each under the other's name."""
    there = told(one, other)
    assert told(other, one) == there
    first = said(chosen([str(one), str(other)], one))
    swapped = one.parent / "swapped"
    for name, store in (("a", other), ("b", one)):
        shutil.copytree(store, swapped / name)
    assert said(chosen([str(swapped)], one)) == first
    return there


def status_of(found: dict[str, Any]) -> dict[str, list[str]]:
    statuses: dict[str, list[str]] = {}
    for row in found["runs"]:
        statuses.setdefault(Path(row["store"]).name, []).append(row["as"])
    return statuses


def test_disjoint_stores(tmp_path: Path) -> None:
    put(tmp_path / "a", "random-0", record("random", 0, 0.5), files=False)
    put(tmp_path / "b", "clmae-0", record("clmae", 0, 0.52), files=False)
    found = both_ways(tmp_path / "a", tmp_path / "b")
    assert status_of(found) == {"a": ["counted"], "b": ["counted"]}
    assert {row["strategy"] for row in found["rows"]} == {"random", "clmae"}


def test_a_copy_counts_once_and_the_fuller_one_is_read(tmp_path: Path) -> None:
    pair(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    alone = said(chosen([str(tmp_path / "a")], tmp_path))
    for name in ("masks.safetensors", "metrics.jsonl"):
        (tmp_path / "a/clmae-0" / name).unlink()
        (tmp_path / "b/random-0" / name).unlink()
    text = (tmp_path / "b/random-0/record.json").read_text()
    (tmp_path / "b/random-0/record.json").write_text(json.dumps(json.loads(text), indent=4))
    found = both_ways(tmp_path / "a", tmp_path / "b")
    assert status_of(found) == {"a": ["copy", "counted"], "b": ["counted", "copy"]}
    assert [item["status"] for item in found["left_out"]] == ["copy", "copy"]
    assert compare(str(tmp_path / "a"), str(tmp_path / "b"), "--json")[1].count("missing file") == 0
    assert "counts once" in found["left_out"][0]["reason"]
    assert json.loads(alone)["rows"] == numbers.portable(found)["rows"]


def test_of_copies_with_other_files_their_content_decides_and_what_is_lost_is_said(
    tmp_path: Path,
) -> None:
    """Equal records with other losses beside them: not the store's name decides which is read."""
    for store in "ab":
        put(tmp_path / store, "random-0", record("random", 0, 0.5))
    (tmp_path / "b" / "random-0" / "metrics.jsonl").write_text('{"images": 4, "loss": 5}')
    (tmp_path / "a").rename(tmp_path / "y")
    one = page.make(sorted(tmp_path.glob("*/*")))
    (tmp_path / "y").rename(tmp_path / "a")
    other = page.make(sorted(tmp_path.glob("*/*")))
    assert one.html == other.html
    (copy,) = other.left_out
    assert copy.status == "copy"
    assert copy.reason.endswith("has others or none: metrics.jsonl")


def test_a_conflict_is_named_with_all_that_differs(tmp_path: Path) -> None:
    pair(tmp_path / "a")
    later = "2026-01-01T00:00:01+00:00"
    put(tmp_path / "b", "clmae-0", elsewhere("clmae", 0, 0.55, started=later))
    found = both_ways(tmp_path / "a", tmp_path / "b")
    (item,) = found["left_out"]
    assert (item["run"], item["status"]) == ("clmae-0", "conflict")
    assert item["folder"] == str(tmp_path / "b/clmae-0")
    assert item["counted"] == str(tmp_path / "a/clmae-0")
    assert item["differs"] == {
        "machine": ["a CPU, 1 thread", "a GPU"],
        "versions": ["maskbench 0, torch not said", "maskbench 1, torch 2.6"],
        "commit": ["not known", "a" * 12],
        "started": ["2026-01-01T00:00:00+00:00", later],
        "4-shot": ["52.50 %", "55.50 %"],
        "20-NN": ["52.00 %", "55.00 %"],
    }
    code, text = compare(str(tmp_path / "b"), str(tmp_path / "a"), "--out", str(tmp_path / "p"))
    assert code == 3
    assert "conflicts: one name, two records" in text
    words = " ".join(text.split())
    assert f"conflict: {tmp_path / 'a/clmae-0'} counts, {tmp_path / 'b/clmae-0'} does" in words
    html = (tmp_path / "p/report.html").read_text()
    for part in ("conflict", "another run of this id and settings was started first",
                 "machine: a CPU, 1 thread and a GPU", "4-shot: 52.50 % and 55.50 %"):  # fmt: skip
        assert part in plain(html)
    written = json.loads((tmp_path / "p/report.json").read_text())
    (item,) = written["left_out"]
    assert item["differs"]["machine"] == ["a CPU, 1 thread", "a GPU"]
    assert [row["as"] for row in written["runs"]] == ["counted", "counted", "conflict"]
    for file in ("report.html", "report.json", "left-out.csv", "runs.csv"):
        assert str(tmp_path) not in (tmp_path / "p" / file).read_text()


def test_begun_in_one_second_the_record_decides_and_not_its_place(tmp_path: Path) -> None:
    one, other = (elsewhere("clmae", 0, score, threads=2) for score in (0.5, 0.6))
    put(tmp_path / "a", "clmae-0", one, files=False)
    put(tmp_path / "b", "clmae-0", other, files=False)
    found = both_ways(tmp_path / "a", tmp_path / "b")
    (item,) = found["left_out"]
    assert item["status"] == "conflict"
    assert "the smaller hash decides" in item["reason"]
    kept = min(({**run, "id": "clmae-0"} for run in (one, other)), key=digest)
    assert [row["knn20"]["value"] for row in found["rows"]] == [kept["probes"][-1]["accuracy"]]


def test_what_differs_in_no_number_is_still_a_conflict(tmp_path: Path) -> None:
    put(tmp_path / "a", "r", record("random", 0, 0.5), files=False)
    put(tmp_path / "b", "r", record("random", 0, 0.5, note="x"), files=False)
    (item,) = both_ways(tmp_path / "a", tmp_path / "b")["left_out"]
    assert item["status"] == "conflict"
    assert list(item["differs"]) == ["record"]
    assert "its note (hash" in item["reason"]


@pytest.mark.parametrize("status", ["failed", "running"])
def test_an_attempt_that_was_copied_is_one_attempt(tmp_path: Path, status: str) -> None:
    for store in "ab":
        pair(tmp_path / store)
        put(tmp_path / store, "clmae-1", record("clmae", 1, 0.5, status=status), files=False)
    found = both_ways(tmp_path / "a", tmp_path / "b")
    (tried,) = [one for one in found["runs_started"] if one["strategy"] == "clmae"]
    alone = told(tmp_path / "a")["runs_started"]
    assert tried in alone
    assert sorted(row["as"] for row in found["runs"] if row["run"] == "clmae-1") == ["copy", status]


def test_what_was_copied_too_early_is_no_attempt(tmp_path: Path) -> None:
    pair(tmp_path / "a")
    early = record("clmae", 0, 0.5, status="running", probes=[])
    put(tmp_path / "b", "clmae-0", early, files=False)
    found = both_ways(tmp_path / "a", tmp_path / "b")
    (item,) = found["left_out"]
    assert (item["run"], item["status"]) == ("clmae-0", "copy")
    assert "an earlier copy, in which the run is running" in item["reason"]
    assert found["runs_started"] == told(tmp_path / "a")["runs_started"]


def test_other_files_data_schemas_and_versions_are_told_apart(tmp_path: Path) -> None:
    here, there = tmp_path / "a", tmp_path / "b"
    for store, letter in ((here, "a"), (there, "b")):
        mine = record("mine", 0, 0.5)
        mine["settings"]["strategy_digest"] = letter * 64
        put(store, f"mine-{letter}", mine, files=False)
    put(here, "random-0", record("random", 0, 0.5), files=False)
    put(there, "random-1", elsewhere("random", 1, 0.5), files=False)
    other = record("grid", 0, 0.5)
    other["data"]["fingerprint"] = "e" * 64
    put(there, "grid-0", other, files=False)
    put(there, "new", record("grid", 1, 0.5, schema=2), files=False)
    found = both_ways(here, there)
    group = {row["strategy"]: row["group"] for row in found["rows"] if "images" in row["views"]}
    assert group["random"] == group["mine (file=aaaaaaaa)"] == group["mine (file=bbbbbbbb)"]
    assert group["grid"] != group["random"]
    assert any("toy (ffffffffffff)" in one["why"] for one in found["not_compared"])
    lost = {item["run"]: item["status"] for item in found["left_out"]}
    assert lost["new"] == "other schema"
    html = plain(page.make(chosen([str(here), str(there)], here)).html)
    assert "maskbench 0 (3 runs), 1 (one run)" in html


def test_a_folder_of_stores_and_one_that_holds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for who, name in (("alice", "random"), ("bob", "clmae")):
        put(tmp_path / "A" / who / "runs", f"{name}-0", record(name, 0, 0.5), files=False)
    (tmp_path / "A/alice/runs/data").mkdir()
    (tmp_path / "A/loop").symlink_to(tmp_path / "A", target_is_directory=True)
    assert [path.parent.name for path in stores_of(tmp_path / "A")] == ["alice", "bob"]
    assert len(told(tmp_path / "A")["rows"]) == 2
    assert len(json.loads(compare("--runs", str(tmp_path / "A"), "--json")[1])["rows"]) == 2
    (tmp_path / "empty").mkdir()
    (tmp_path / "other/deep").mkdir(parents=True)
    (tmp_path / "other/deep/file.txt").write_text("")
    for folder in ("empty", "other"):
        monkeypatch.setattr(
            sys, "argv", ["maskbench", "compare", str(tmp_path / "A"), str(tmp_path / folder)]
        )
        assert guarded(app) == 2
        words = "".join(capsys.readouterr().err.split())  # lines break anywhere in a long path
        assert f"no runs in {tmp_path / folder}/: it is no store".replace(" ", "") in words


def test_an_unreadable_record_is_found_again(tmp_path: Path) -> None:
    put(tmp_path / "a", "random-0", record("random", 0, 0.5), files=False)
    put(tmp_path / "b", "random-0", record("random", 0, 0.5), files=False)
    (tmp_path / "b/random-0/record.json").write_text("{")
    found = told(tmp_path / "a", tmp_path / "b")
    assert [item["folder"] for item in found["left_out"]] == [str(tmp_path / "b/random-0")]
    assert status_of(found) == {"a": ["counted"], "b": ["unreadable"]}
    text = compare(str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "p"))[1]
    assert "stores" in text


def test_provenance_is_kept_by_records_and_in_tables(tmp_path: Path) -> None:
    put(tmp_path / "a", "random-0", record("random", 0, 0.5), files=False)
    named = {**elsewhere("clmae", 0, 0.5), "benchmark": BENCHMARK}
    put(tmp_path / "b", "clmae-0", named, files=False)
    put(tmp_path / "b", "random-0", elsewhere("random", 0, 0.6), files=False)
    folders = chosen([str(tmp_path)], tmp_path)
    report = page.make(folders)
    rows = {row["folder"]: row for row in provenance.rows(report)}
    made = rows[str(tmp_path / "b/clmae-0")]
    assert (made["machine"], made["maskbench"], made["torch"]) == ("a GPU", "1", "2.6")
    assert (made["commit"], made["benchmark"]) == ("a" * 40, "first")
    assert made["store"] == str(tmp_path / "b")
    table = list(csv.DictReader(io.StringIO(writing.texts(report, tmp_path, [])["runs.csv"])))
    (clmae,) = [row for row in table if row["strategy"] == "clmae"]
    assert (clmae["machine"], clmae["benchmark"], clmae["torch"]) == ("a GPU", "first", "2.6")
    copied = page.make(records.copy(folders, tmp_path / "p"))
    assert said(records.copy(folders, tmp_path / "q")) == said(folders)
    assert copied.html == report.html
    keys = ("run", "as", "sha256", "machine", "commit", "benchmark")
    told_of = [{tuple(row[key] for key in keys) for row in provenance.rows(one)}
               for one in (report, copied)]  # fmt: skip
    assert told_of[0] == told_of[1]


def some_records() -> list[tuple[str, dict[str, Any]]]:
    """Two strategies of three seeds; a conflict, a copy, a repetition, a failed run."""
    found = [
        (f"{name}-{seed}", record(name, seed, score + seed / 50))
        for name, score in (("random", 0.5), ("clmae", 0.52))
        for seed in range(3)
    ]
    later = "2026-01-02T00:00:00+00:00"
    found += [
        ("clmae-0", elsewhere("clmae", 0, 0.7)),
        ("clmae-1", elsewhere("clmae", 1, 0.7, started=later)),
        ("random-0", record("random", 0, 0.5)),
        ("random-0-2", elsewhere("random", 0, 0.9, started=later)),
        ("random-4", record("random", 4, 0.5, status="failed")),
        ("random-4", record("random", 4, 0.5, status="failed")),
        ("grid-0", record("grid", 0, 0.5)),
        ("grid-0", record("grid", 1, 0.5)),
    ]
    return found


SOME = some_records()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=len(SOME), max_size=len(SOME)),
    st.permutations(range(len(SOME))),
)
def test_any_split_in_any_order_gives_the_same_numbers(places: list[int], order: list[int]) -> None:
    with tempfile.TemporaryDirectory() as home:
        whole = [put(Path(home) / f"whole{i}", name, run, files=False)
                 for i, (name, run) in enumerate(SOME)]  # fmt: skip
        split = []
        for i in order:
            name, run = SOME[i]
            store = Path(home) / f"{places[i]}"
            while (store / name).exists():  # two of one name lie in two stores
                store = store.with_name(f"{store.name}x")
            split.append(put(store, name, run, files=False))
        assert said(split) == said(whole)
        kept, lost = read(split)
        assert len(kept) + len(lost) == len(SOME)
