"""The report's figures draw the numbers they are given, and say them."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from synthetic import SHOTS, many, moment, put, record, rows
from test_earned import group_of, planted

from maskbench import figures
from maskbench.figures import frontier as costs
from maskbench.figures.forest import swarm
from maskbench.report import across
from maskbench.report.differences import differences
from maskbench.report.forest import forest
from maskbench.report.frontier import frontiers
from maskbench.report.judge import by_seed, endpoint, judge
from maskbench.report.pictures import few_shot
from maskbench.report.progress import course, over_epochs
from maskbench.report.reading import read

DRAWS = True


def lines(figure: Figure, place: int = 0) -> dict[str, list[Any]]:
    """Lines of an axes by marker: their heights."""
    found: dict[str, list[Any]] = {}
    for line in figure.axes[place].get_lines():
        found.setdefault(str(line.get_marker()), []).append(np.asarray(line.get_ydata()).tolist())
    return found


# Few labels


def test_every_strategy_has_a_panel_of_its_own_numbers(tmp_path: Path) -> None:
    group = group_of(planted(tmp_path, 3))
    found = few_shot(group, "g1-few-shot")
    assert found
    figure = found["picture"].figure
    others = [entry for entry in group.entries if not entry.is_reference]
    titles = [axes.get_title(loc="left") for axes in figure.axes[:-1]]
    assert titles == [entry.label for entry in others]
    means = {
        entry.label: [
            100 * np.mean([run.scores["patchmean"][n] for run in entry.runs]) for n in SHOTS
        ]
        for entry in group.entries
    }
    for place, entry in enumerate(others):
        axes, drawn = figure.axes[place], lines(figure, place)
        own = figures.look(place + 1)
        np.testing.assert_allclose(drawn[own.marker][-1], means[entry.label])
        baseline = [y for y in drawn["o"] if len(y) == len(SHOTS)]
        np.testing.assert_allclose(baseline[0], means["random"])
        dots = [y for y in drawn["o"] if len(y) == 3 * len(SHOTS)]
        wanted = [100 * run.scores["patchmean"][n] for run in entry.runs for n in SHOTS]
        np.testing.assert_allclose(dots[0], wanted)
        assert [y[0] for y in drawn["None"]] == pytest.approx([20.0])  # chance of five classes
        (band,) = (c for c in axes.collections if isinstance(c, FillBetweenPolyCollection))
        first = entry.mean(lambda run: run.accuracy("patchmean", SHOTS[0]))
        assert first
        corners = np.asarray(band.get_paths()[0].vertices)
        left = corners[corners[:, 0] == SHOTS[0], 1]
        assert (left.min(), left.max()) == pytest.approx([100 * end for end in first.band])
    limits = {(*axes.get_xlim(), *axes.get_ylim()) for axes in figure.axes[:-1]}
    assert len(limits) == 1
    for label, (seeds, *cells) in found["rows"][:-2]:
        assert f"{label} {cells[-1]} %" in found["picture"].label
        assert seeds == "3"


@pytest.mark.parametrize("seeds", [1, 2])
def test_no_band_below_three_seeds(tmp_path: Path, seeds: int) -> None:
    group = group_of(planted(tmp_path, seeds))
    found = few_shot(group, "a")
    assert found
    for place in range(3):
        assert not found["picture"].figure.axes[place].collections
    assert "±" not in found["picture"].label


def test_a_single_strategy_has_one_panel(tmp_path: Path) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.5), files=False)
    group = group_of(tmp_path)
    found = few_shot(group, "a")
    assert found
    assert [axes.get_title(loc="left") for axes in found["picture"].figure.axes] == ["random", ""]
    assert forest(group, "b") is None
    assert over_epochs(group, "c") is None


def test_a_strategy_without_probes_has_no_panel(tmp_path: Path) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.5), files=False)
    put(tmp_path, "grid-0", record("block", 0, 0.6), files=False)
    fewer = [row for row in rows("patchmean", 0.55) if row["shots"] != SHOTS[-1]]
    put(tmp_path, "block-0", record("grid", 0, 0.5, probes=fewer), files=False)
    group = group_of(tmp_path)
    bare = replace(group.entries[1].runs[0], scores={})
    silent = replace(group.entries[1], runs=[bare])
    found = few_shot(replace(group, entries=[group.entries[0], silent, group.entries[2]]), "a")
    assert found
    assert found["shots"] == list(SHOTS[:-1])  # what all that were probed have
    assert found["picture"].figure.axes[0].get_title(loc="left") == "grid"
    assert dict(found["rows"])["block"] == ["0", "–", "–"]


# Differences to random


def test_the_forest_is_that_of_the_table(tmp_path: Path) -> None:
    group = group_of(planted(tmp_path, 6))
    found = forest(group, "g1-forest")
    assert found
    axes = found["picture"].figure.axes[0]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == [row["strategy"] for row in differences(group)] == ["block", "clmae", "grid"]
    dots = [x for x in axes.get_lines() if x.get_marker() == "o"]
    base = by_seed(group.reference, endpoint(group)) if group.reference else {}
    for rank, (label, one) in enumerate(judge(group).primary.items()):
        look = figures.look(rank + 1)
        bars = [x for x in axes.get_lines() if x.get_marker() == "|"]
        assert one.band
        assert list(bars[rank].get_xdata()) == pytest.approx([100 * end for end in one.band])
        (point,) = (x for x in axes.get_lines() if x.get_marker() == look.marker)
        assert point.get_xdata()[0] == pytest.approx(100 * one.value)
        own = by_seed(next(e for e in group.entries if e.label == label), endpoint(group))
        wanted = sorted(100 * (own[seed] - base[seed]) for seed in own)
        assert list(dots[rank].get_xdata()) == pytest.approx(wanted)
        row = found["rows"][rank]
        told = f"{label} {row['− random']} {row['95 % interval']}, n = 6, Holm p = {row['Holm p']}"
        assert told in found["picture"].label
    shade = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (shade.x0, shade.x1) == pytest.approx((-1.0, 1.0))


def test_two_seeds_are_dots_only(tmp_path: Path) -> None:
    found = forest(group_of(planted(tmp_path, 2)), "a")
    assert found
    axes = found["picture"].figure.axes[0]
    drawn = [x for x in axes.get_lines() if x.get_marker() != "None"]
    assert [(x.get_marker(), len(np.asarray(x.get_xdata()))) for x in drawn] == [("o", 2)] * 3
    assert "grid n = 2, no interval" in found["picture"].label
    assert {row["95 % interval"] for row in found["rows"]} == {"–"}


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12))
def test_dots_of_one_level_do_not_overlap(values: list[float]) -> None:
    places, width = sorted(values), 0.1
    levels = swarm(places, width)
    assert set(levels) <= {0, 1, -1, 2, -2}
    assert levels[0] == 0
    pairs = [(a, b) for a, b in combinations(range(len(places)), 2) if levels[a] == levels[b]]
    crowded = any(places[i + 5] - places[i] < width for i in range(len(places) - 5))
    if not crowded:
        assert all(places[b] - places[a] >= width for a, b in pairs)


# Epochs


@pytest.mark.parametrize("seeds", [1, 3])
def test_accuracy_over_epochs_is_that_of_the_moments(tmp_path: Path, seeds: int) -> None:
    group = group_of(many(tmp_path, 1, seeds))
    found = over_epochs(group, "a")
    assert found
    axes = found["picture"].figure.axes[0]
    for rank, entry in enumerate(group.entries):
        (line,) = (
            x
            for x in axes.get_lines()
            if x.get_marker() == figures.look(rank).marker and len(x.get_xdata()) == 3
        )
        assert list(line.get_xdata()) == pytest.approx([0.5, 1.0, 2.0])  # of 20 images
        courses = [[100 * m.scores[SHOTS[-1]] for m in run.moments] for run in entry.runs]
        np.testing.assert_allclose(line.get_ydata(), np.mean(courses, axis=0))
    assert len(axes.collections) == (2 if seeds == 3 else 0)
    assert {row["n"] for row in found["rows"]} == {str(seeds)}
    for row in found["rows"][2::3]:
        assert f"{row['accuracy']} % at {row['epochs']} epochs (n = {seeds})" in (
            found["picture"].label
        )


@pytest.mark.parametrize(
    ("probed", "pairs"),
    [
        ([(0.5, 0.505)], [(0.5,), (0.505,)]),  # half a percent apart
        ([(0.25, 0.5), (0.254, 0.504)], [(0.25, 0.254), (0.5, 0.504)]),
        ([(0.5, 0.505), (0.504, 0.509)], [(0.5, 0.504), (0.505, 0.509)]),  # in order, not 0.505
        ([(0.5, 0.505), (0.503,)], [(0.505, 0.503)]),  # none is used twice
        ([(0.25, 0.5), (0.26, 0.512)], [(0.25, 0.26)]),  # at most one percent
        ([(0.25, 0.5), (0.5,), (0.25, 0.5)], [(0.5, 0.5, 0.5)]),  # of all seeds
        ([(0.49,), (0.5,), (0.51,)], []),  # all of the first
    ],
)
def test_moments_of_seeds_are_matched_one_to_one(
    tmp_path: Path, probed: list[tuple[float, ...]], pairs: list[tuple[float, ...]]
) -> None:
    for seed, shares in enumerate(probed):
        run = record("random", seed, 0.9)
        run["probes_during"] = [moment(share, 0.6 * share, run["ledger"]) for share in shares]
        put(tmp_path, f"random-{seed}", run, files=False)
    (entry,) = group_of(tmp_path).entries
    found = course(entry, SHOTS[-1])
    wanted = [*(float(np.mean(pair)) for pair in pairs), 1.0]
    assert [when for when, _ in found] == pytest.approx([2 * share for share in wanted])
    accuracy = [0.6 * share + 0.005 for share in wanted[:-1]]
    assert [one.value for _, one in found] == pytest.approx([*accuracy, 0.905])
    assert {one.n for _, one in found} == {len(probed)}


def test_without_probes_during_training_there_is_no_course(tmp_path: Path) -> None:
    assert over_epochs(group_of(many(tmp_path, 1, 2, probed=False)), "a") is None


# Cost


def test_what_nothing_dominates_is_named_at_its_point(tmp_path: Path) -> None:
    runs, _ = read(sorted(planted(tmp_path, 3).iterdir()))
    (found,) = frontiers(runs)
    figure = across.against_cost(found, "cost1")["picture"].figure
    best = {point.entry.label for point in found.at("flops") if point.best["flops"]}
    named = {text.get_text() for text in figure.axes[0].texts}
    assert named == {figures.short(label, costs.SHORT) for label in best}
