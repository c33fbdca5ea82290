"""Strategies over several data sets: who is averaged, with what intervals, and what is refused."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import compare, plain, put, record, rows
from test_earned import UNEARNED, strings

from maskbench import statistics
from maskbench.report import page
from maskbench.report.datasets import Across
from maskbench.report.judge import generator
from maskbench.statistics.scores import half_width

OTHER = {"name": "other", "fingerprint": "0" * 64, "classes": list("vwxyz"), "train": 9, "test": 8}
ASKED = {
    "suite": "C300/v1",
    "kinds": ["frozen"],
    "pool": 100,
    "draws": 2,
    "side": None,
    "stored": None,
    "seed": 0,
}
EFFECTS = {"random": 0.0, "clmae": 0.03}


def probes(
    run: Path, accuracy: float, name: str = "other-1", data: Any = None, **asked: Any
) -> Path:
    """A file of ``maskbench probe`` beside a run."""
    data = {**OTHER, **(data or {})}
    content = {
        "schema": 1,
        "encoder": {"name": run.name, "prior": "", "notes": []},
        "data": {**data, "pool": 9, "scored": 8},
        "asked": {**ASKED, "data": data["fingerprint"], **asked},
        "rows": rows("patchmean", accuracy),
        "controls": [],
        "provenance": {"finished": f"2026-01-0{len(list(run.glob('probes/*'))) + 1}"},
    }
    (run / "probes").mkdir(exist_ok=True)
    path = run / "probes" / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def store_of(root: Path, seeds: int) -> list[Path]:
    """Runs of random and clmae, by strategy and seed; none is probed elsewhere yet."""
    noise = np.random.default_rng(1).normal(0, 0.004, (2, seeds))
    return [
        put(
            root,
            f"{name}-{seed}",
            record(name, seed, 0.5 + gain + float(noise[i, seed])),
            files=False,
        )
        for i, (name, gain) in enumerate(EFFECTS.items())
        for seed in range(seeds)
    ]


def probed(root: Path, seeds: int) -> list[Path]:
    """The same, probed on another data set."""
    runs = store_of(root, seeds)
    noise = np.random.default_rng(2).normal(0, 0.004, len(runs))
    for run, more in zip(runs, noise, strict=True):
        probes(run, 0.6 + 2 * EFFECTS[run.name.partition("-")[0]] + float(more))
    return runs


def across(runs: Sequence[Path]) -> Across:
    (found,) = page.make(runs).across
    return found


def aulc(found: Sequence[dict[str, Any]]) -> float:
    """FS-AULC written out: five classes."""
    own = [r for r in found if r["probe"] == "logreg" and r["feature"] == "patchmean"]
    return float(np.mean([(row["accuracy"] - 0.2) / 0.8 for row in own]))


def expected(runs: Sequence[Path]) -> np.ndarray[Any, Any]:
    """Scores by hand: strategies, seeds, data sets."""
    found = [
        [
            aulc(json.loads((run / "record.json").read_text())["probes"]),
            aulc(json.loads(next(run.glob("probes/*.json")).read_text())["rows"]),
        ]
        for run in runs
    ]
    return np.array(found).reshape(2, -1, 2)


@pytest.mark.parametrize("seeds", [1, 3, 8])
def test_the_numbers_are_those_of_the_statistics(tmp_path: Path, seeds: int) -> None:
    runs = probed(tmp_path, seeds)
    found, table = across(runs), expected(runs)
    assert [one.title for one in found.sets] == ["toy", "other"]
    assert [one.asked is None for one in found.sets] == [True, False]
    random, clmae = found.rows
    assert (random.strategy, clmae.strategy) == ("random", "clmae")
    assert clmae.seeds == list(range(seeds))
    assert random.difference is None
    assert clmae.difference is not None
    d = table[1] - table[0]
    for one, scores in ((random.mean, table[0]), (clmae.mean, table[1]), (clmae.difference, d)):
        assert one.value == pytest.approx(scores.mean())
        assert (one.seeds, one.sets) == (seeds, 2)
        if seeds < 3:
            assert one.low is one.high is one.resampled_low is one.resampled_high is None
        else:
            half = half_width(scores.mean(axis=1))
            assert (one.low, one.high) == pytest.approx((scores.mean() - half, one.value + half))
            again = statistics.aggregate(scores, generator())
            assert one.resampled_low == pytest.approx(again.resampled_low)
    assert [one.value for one in clmae.each if one] == pytest.approx(table[1].mean(axis=0).tolist())


@pytest.mark.parametrize("seeds", [1, 3, 8])
def test_it_is_told_everywhere_in_earned_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: int
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    probed(tmp_path / "runs", seeds)
    where = ("--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "page"))
    _, terminal = compare(*where)
    html = plain((tmp_path / "page" / "report.html").read_text())
    told = json.loads(compare(*where, "--json")[1])
    for text in (terminal, html):
        assert "over 2 data sets" in text
        assert ("whole seeds drawn again" in " ".join(text.split())) == (seeds >= 3)
    assert "2 data sets, and the verdict is of toy" in html
    (over,) = told["over_data_sets"]
    assert over["group"] == 1
    assert [one["title"] for one in over["sets"]] == ["toy", "other"]
    assert over["sets"][1]["asked"] == {
        "suite": "C300/v1",
        "pool": 100,
        "draws": 2,
        "side": None,
        "stored": None,
    }
    difference = over["rows"][1]["difference"]
    assert (difference["low"] is None) == (difference["resampled_low"] is None) == (seeds < 3)
    own = [*strings(over), re.findall(r"Over data sets.*?Accuracy with few", html)[0]]
    assert UNEARNED.findall("\n".join(own)) == []
    if seeds < 8:
        assert UNEARNED.findall("\n".join([terminal, html, *strings(told)])) == []


def test_without_other_data_nothing_is_said(tmp_path: Path) -> None:
    report = page.make(store_of(tmp_path, 2))
    assert report.across[0] == Across((), (), "")
    assert "ata sets" not in plain(report.html)


def test_a_run_that_lacks_a_data_set(tmp_path: Path) -> None:
    runs = store_of(tmp_path, 2)
    for run in runs[:3]:
        probes(run, 0.5)
    found = across(runs)
    assert not found.rows
    assert found.note == "Not averaged over: other (3 of 4 runs were probed there, not clmae-1)."
    assert found.note in plain(page.make(runs).html)
    third = {"name": "third", "fingerprint": "3" * 64}
    for run in runs:
        probes(run, 0.5, "third-1", third)
    found = across(runs)
    assert [one.title for one in found.sets] == ["toy", "third"]
    assert "other (3 of 4 runs" in found.note


@pytest.mark.parametrize(
    "odd",
    [
        {"suite": "C1/v1"},
        {"pool": 50},
        {"draws": 5},
        {"side": 64},
        {"stored": 32},
        {"fingerprint": "1" * 64},
    ],
)
def test_what_was_asked_otherwise_is_not_mixed(tmp_path: Path, odd: dict[str, Any]) -> None:
    runs = store_of(tmp_path, 1)
    data = {name: odd.pop(name) for name in ("fingerprint",) if name in odd}
    probes(runs[0], 0.5)
    probes(runs[1], 0.9, "odd", data, **odd)
    found = across(runs)
    assert not found.rows
    assert "other (not all runs were probed alike" in found.note
    probes(runs[1], 0.6, "second")
    (_, clmae) = across(runs).rows
    assert clmae.each[1] is not None
    assert clmae.each[1].value == pytest.approx(aulc(rows("patchmean", 0.6)))


def test_the_first_file_counts_and_the_own_data_once(tmp_path: Path) -> None:
    runs = store_of(tmp_path, 1)
    for run in runs:
        probes(run, 0.5, "z-first")
        probes(run, 0.9, "a-later", seed=1)
        own = json.loads((run / "record.json").read_text())["data"]
        probes(run, 0.9, "own", own)
        probes(run, 0.9, "own-larger", {**own, "fingerprint": "e" * 64}, stored=16)
    found = across(runs)
    assert [one.title for one in found.sets] == ["toy", "other"]
    assert found.rows[0].each[1] is not None
    assert found.rows[0].each[1].value == pytest.approx(aulc(rows("patchmean", 0.5)))
    assert found.note == ""


def test_other_probes_and_data_without_shots_in_common_are_no_data_set(tmp_path: Path) -> None:
    runs = store_of(tmp_path, 1)
    for i, run in enumerate(runs):
        path = probes(run, 0.5)
        content = json.loads(path.read_text())
        content["rows"] = [row for row in content["rows"] if row["shots"] == i + 1]
        path.write_text(json.dumps(content))
    assert "not all runs were probed alike" in across(runs).note
    for run in runs:
        path = probes(run, 0.5)
        content = json.loads(path.read_text())
        content["rows"] = [{**row, "feature": "cls"} for row in content["rows"]]
        path.write_text(json.dumps(content))
    report = page.make(runs)
    assert report.across[0] == Across((), (), "")
    assert not [item for item in report.left_out if "probes" in item.run]


def test_failed_runs_are_marked_and_order_does_not_matter(tmp_path: Path) -> None:
    runs = probed(tmp_path, 3)
    broken = record("clmae", 7, 0.5, status="failed", error="E", probes=[], ledger={})
    runs.append(put(tmp_path, "clmae-7", broken, files=False))
    report = page.make(runs)
    assert [row.survivors for row in report.across[0].rows] == [False, True]
    assert page.make(runs[::-1]).html == report.html
