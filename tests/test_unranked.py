"""What is listed but not ranked: incomplete ledgers and trials; and rates that were tuned."""

import copy
from pathlib import Path
from typing import Any

import pytest
from synthetic import compare, groups_of, html_of, plain, put, record, used

from maskbench.report.reading import Unranked, read
from maskbench.report.views import groups
from maskbench.results import LEDGER, MAY_BE_NULL, lacking


def without(ledger: dict[str, Any], name: str) -> dict[str, Any]:
    found = copy.deepcopy(ledger)
    part, _, key = name.rpartition(".")
    del (found[part] if part else found)[key]
    return found


@pytest.mark.parametrize("name", LEDGER)
def test_a_ledger_that_lacks_a_field_is_unranked(tmp_path: Path, name: str) -> None:
    whole = record("clmae", 0, 0.6)
    put(tmp_path, "r", record("random", 0, 0.5), files=False)
    put(tmp_path, "c", {**whole, "ledger": without(whole["ledger"], name)}, files=False)
    runs, left_out = read(sorted(tmp_path.iterdir()))
    assert [run.id for run in runs] == ["r"]
    (item,) = left_out
    assert isinstance(item, Unranked)
    assert item.status == "unbudgeted"
    assert item.accuracy == pytest.approx(0.605)
    assert item.reason == f"its ledger lacks {name.replace('.', ' ')}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"flops_total": 3.9e9}, "flops_total is 3.9e+09, its parts sum to 4e+09"),
        ({"seconds_total": 2.0}, "seconds_total is 2, training and setup sum to 2.5"),
        ({"flops_total": 4.003e9, "seconds_total": 2.52}, ""),
    ],
)
def test_a_ledger_that_does_not_add_up_is_unranked(
    tmp_path: Path, changes: dict[str, float], reason: str
) -> None:
    whole = record("clmae", 0, 0.6)
    put(tmp_path, "c", {**whole, "ledger": {**whole["ledger"], **changes}}, files=False)
    runs, left_out = read([tmp_path / "c"])
    assert len(runs) == (not reason)
    if reason:
        (item,) = left_out
        assert isinstance(item, Unranked)
        assert item.accuracy == pytest.approx(0.605)
        assert item.reason == f"its ledger does not add up: {reason}"


def test_null_is_missing_where_it_says_nothing() -> None:
    ledger = record("random", 0, 0.5)["ledger"]
    assert lacking(ledger) == []
    assert lacking({**ledger, "flops_total": None}) == ["flops_total"]
    assert lacking({**ledger, "seconds": None}) == ["seconds"]
    assert {"images", "flops", "seconds", "machine", "stop_reason"} <= set(lacking(None))
    assert set(LEDGER) >= MAY_BE_NULL


def test_unranked_runs_are_listed_and_the_exit_code_says_so(tmp_path: Path) -> None:
    whole = record("clmae", 0, 0.6)
    put(tmp_path / "runs", "r", record("random", 0, 0.5))
    put(tmp_path / "runs", "c", {**whole, "ledger": without(whole["ledger"], "energy_joules")})
    code, text = compare("--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "page"))
    assert code == 3
    assert "unranked" in text
    assert "energy_joules" in text
    html = (tmp_path / "page" / "report.html").read_text()
    assert "clmae" not in groups_of(html)
    assert "Unranked" in plain(html)
    assert "60.5" in plain(html)


def test_development_trials_are_left_out(tmp_path: Path) -> None:
    trial = record("random", 0, 0.9)
    trial["settings"]["scored_on"] = "development"
    put(tmp_path, "t", trial)
    assert read([tmp_path / "t"])[1][0].status == "trial"
    assert "a trial of maskbench tune" in plain(html_of(tmp_path))


def tuned(strategy: str, rate: float, trials: int) -> dict[str, Any]:
    found = used(strategy, 0, 0.5)
    found["settings"] |= {"base_lr": rate, "lr_trials": trials}
    return found


def test_rates_tuned_by_other_grids_are_not(tmp_path: Path) -> None:
    one, other = tuned("random", 1e-3, 3), tuned("clmae", 1e-2, 3)
    one["settings"]["lr_grid"], other["settings"]["lr_grid"] = [5e-4, 1e-3, 2e-3], [5e-3, 1e-2, 0.1]
    put(tmp_path, "r", one)
    put(tmp_path, "c", other)
    assert all(len(group.entries) == 1 for group in groups(read(sorted(tmp_path.iterdir()))[0]))
    assert "3 trials of 0.0005 0.001 0.002 and 3 trials of 0.005 0.01 0.1" in plain(
        html_of(tmp_path)
    )


def test_rates_tuned_by_the_same_grid_are_comparable(tmp_path: Path) -> None:
    put(tmp_path, "r", tuned("random", 1e-3, 3))
    put(tmp_path, "c", tuned("clmae", 5e-4, 3))
    put(tmp_path, "g", tuned("grid", 1e-3, 0))
    found = groups(read(sorted(tmp_path.iterdir()))[0])
    assert [[run.id for run in group.runs] for group in found if len(group.entries) > 1] == [
        ["r", "c"]
    ]
    html = html_of(tmp_path)
    told = "random 0.001, chosen from 3 trials; clmae 0.0005, chosen from 3 trials"
    assert told in plain(html)
    assert "0.001, not tuned" in plain(html)
    assert "base lr tuned, 3 trials" in plain(html)
