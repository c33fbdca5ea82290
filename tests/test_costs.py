"""Accuracy against cost, costs beside random's, and epochs to the baseline's accuracy."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import compare, html_of, moment, plain, put, record, used

from maskbench.report.frame import Moment
from maskbench.report.frontier import not_dominated
from maskbench.report.reach import first, reaches
from maskbench.report.reading import read
from maskbench.report.views import Group, groups

# Cost and accuracy


def test_costs_are_multiples_of_randoms(tmp_path: Path) -> None:
    put(tmp_path, "r", used("random", 0, 0.5))
    put(tmp_path, "c", used("clmae", 0, 0.6, flops=14.2e9, seconds=10))
    code, out = compare("--runs", str(tmp_path), "--out", str(tmp_path / "page"), "--json")
    assert code == 0
    cost = json.loads(out)["rows"][1]["cost"]
    assert cost["FLOPs"] == {"value": 14.2e9, "relative": pytest.approx(3.55), "at_least": False}
    assert cost["time"]["relative"] == pytest.approx(10 / 2.5)
    assert cost["s / image"]["relative"] == pytest.approx(9.5 / 2)


def test_multiples_per_image_are_labelled(tmp_path: Path) -> None:
    """In the terminal's table, where a multiple of all FLOPs would be 1 at equal FLOPs."""
    put(tmp_path, "r", used("random", 0, 0.5))
    put(tmp_path, "c", used("clmae", 0, 0.6, images=10, given=(4e9, "flops")))
    _, out = compare("--runs", str(tmp_path), "--out", str(tmp_path / "page"))
    above, row = out.split("│ clmae", 1)
    heads = above.split("┡")[0].splitlines()
    assert [
        text.count(word) for text, word in zip(heads[-3:], ("FLOPs", "per", "image"), strict=True)
    ] == [1, 2, 2]
    assert "4.00x" in row.splitlines()[0]
    assert "\\n" not in out
    html = (tmp_path / "page" / "report.html").read_text()
    assert ">FLOP / image</th>" in html


def dominated(point: tuple[float, float], others: list[tuple[float, float]]) -> bool:
    cost, accuracy = point
    return any(a >= accuracy and c <= cost and (a > accuracy or c < cost) for c, a in others)


@given(st.lists(st.tuples(st.integers(1, 6).map(float), st.integers(0, 6).map(float))))
def test_the_non_dominated_set_is_that_of_the_definition(points: list[tuple[float, float]]) -> None:
    assert not_dominated(points) == [not dominated(point, points) for point in points]


def test_non_dominated_points_are_over_all_budgets(tmp_path: Path) -> None:
    put(tmp_path, "r2", used("random", 0, 0.5))
    put(tmp_path, "r4", used("random", 0, 0.6, images=80, flops=8e9, seconds=5))
    put(tmp_path, "c2", used("clmae", 0, 0.55, flops=16e9, seconds=3))
    _, out = compare("--runs", str(tmp_path), "--out", str(tmp_path / "page"), "--json")
    longer = ("80 images", "8 GFLOP", "5 s on a CPU, 1 thread")
    found = {
        (row["strategy"], *row["matched"]): row["non_dominated"] for row in json.loads(out)["rows"]
    }
    assert found == {
        ("random", *longer): {"flops": True, "seconds": True},
        ("random", "40 images"): {"flops": True, "seconds": True},
        ("clmae", "40 images"): {"flops": False, "seconds": True},
    }


# Epochs to the baseline's accuracy


def probed(strategy: str, seed: int, *accuracies: float, flops: float = 4e9) -> dict[str, Any]:
    """Probed at equal distances; the last is the end."""
    found = used(strategy, seed, accuracies[-1], flops=flops)
    shares = [(i + 1) / len(accuracies) for i in range(len(accuracies) - 1)]
    during = [moment(s, a, found["ledger"]) for s, a in zip(shares, accuracies, strict=False)]
    return {**found, "probes_during": during}


def group_of(store: Path, *records: dict[str, Any]) -> Group:
    for rank, found in enumerate(records):
        put(store, f"run{rank}", found, files=False)
    return groups(read(sorted(store.iterdir()))[0])[0]


def test_epochs_to_the_baseline_by_hand(tmp_path: Path) -> None:
    """0.50 lies halfway between 0.45 at half and 0.55 at the end: 0.75 of two epochs."""
    random = probed("random", 0, 0.4, 0.5)
    base, found = reaches(group_of(tmp_path, random, probed("clmae", 0, 0.45, 0.55, flops=12e9)))
    assert (base.strategy, base.epochs_relative and base.epochs_relative.value) == ("random", 1.0)
    assert found.epochs
    assert found.epochs_relative
    assert found.flops_relative
    assert found.seconds_relative
    assert found.epochs.value == pytest.approx(1.5)
    assert found.epochs_relative.value == pytest.approx(0.75)
    assert found.flops_relative.value == pytest.approx(0.75 * 3)
    assert found.seconds_relative.value == pytest.approx(0.75)
    assert (found.reached, found.seeds, found.early) == (1, 1, 0)


def test_seeds_that_never_reach_it_are_counted(tmp_path: Path) -> None:
    group = group_of(
        tmp_path,
        *(record("random", seed, 0.5) for seed in (0, 1)),
        probed("clmae", 0, 0.3, 0.4, 0.49),
        probed("clmae", 1, 0.3, 0.55, 0.52),
        probed("clmae", 2, 0.9, 0.9),
    )
    (found,) = reaches(group)
    assert (found.reached, found.seeds) == (1, 2)
    assert found.epochs_relative
    assert found.epochs_relative.value == pytest.approx(1 / 3 + (0.2 / 0.25) / 3)
    assert "1 of 2 seeds, 1 not reached" in plain(html_of(tmp_path))


def test_nothing_is_traced_back_before_the_first_probe(tmp_path: Path) -> None:
    (found,) = reaches(
        group_of(tmp_path, record("random", 0, 0.5), probed("clmae", 0, 0.5, 0.6, 0.7, 0.8))
    )
    assert found.epochs
    assert found.epochs.value == pytest.approx(0.5)
    assert found.early == 1
    assert "≤ 0.25×" in html_of(tmp_path)


def test_without_probes_during_training_the_page_says_how(tmp_path: Path) -> None:
    group = group_of(tmp_path, record("random", 0, 0.5), record("clmae", 0, 0.6))
    assert reaches(group) == []
    assert "maskbench run --probe-at 25,50,75,100%" in plain(html_of(tmp_path))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.floats(0, 1))
def test_the_first_crossing_is_the_first(accuracies: list[float], goal: float) -> None:
    moments = [Moment(i, i, i, {1: a}) for i, a in enumerate(accuracies)]
    found = first(moments, goal, 1)
    assert (found is None) == (max(accuracies) < goal)
    if found:
        after = next(i for i, a in enumerate(accuracies) if a >= goal)
        assert max(after - 1, 0) <= found.images <= after
