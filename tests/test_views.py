"""The three views of a budget: who is ranked with whom, and what is said of the others."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import CLAIMS, compare, groups_of, html_of, plain, put, record, used

from maskbench.report import chapters, page, words
from maskbench.report.board import leaderboard
from maskbench.report.frame import Run
from maskbench.report.page import Report
from maskbench.report.reading import read
from maskbench.report.verdict import verdict
from maskbench.report.views import groups


def made(store: Path) -> Report:
    return page.make(sorted(path.parent for path in store.glob("*/record.json")))


def several(store: Path) -> list[tuple[tuple[str, ...], list[str]]]:
    """Views and run names of the groups with more than one strategy."""
    found = groups(read(sorted(store.iterdir()))[0])
    return [
        (group.views, [run.id for run in group.runs]) for group in found if len(group.entries) > 1
    ]


def two(store: Path, other: dict[str, Any], **random: Any) -> list[tuple[str, ...]]:
    put(store, "a", used("random", 0, 0.5, **random), files=False)
    put(store, "b", other, files=False)
    return [views for views, _ in several(store)]


# Which runs are matched


def test_equal_images_with_unequal_flops_are_matched_in_images_only(tmp_path: Path) -> None:
    assert two(tmp_path, used("clmae", 0, 0.6, flops=14e9, seconds=9)) == [("images",)]


@pytest.mark.parametrize("old", [100.0, None])
def test_runs_that_were_probed_under_another_c_are_not_matched(
    tmp_path: Path, old: float | None
) -> None:
    runs = {"a": used("random", 0, 0.5), "b": used("grid", 0, 0.6)}
    for (name, run), c in zip(runs.items(), (old, 300.0), strict=True):
        more = {} if c is None else {"C": c}
        run["probes"] = [{**row, **more} for row in run["probes"]]
        put(tmp_path, name, run, files=False)
    assert several(tmp_path) == []


def test_one_membership_is_one_group_with_all_its_views(tmp_path: Path) -> None:
    assert two(tmp_path, used("grid", 0, 0.6)) == [("images", "flops", "seconds")]
    assert "equal images, FLOPs and time" in plain(html_of(tmp_path))


def test_a_matched_flops_pair_is_grouped_and_subtracted(tmp_path: Path) -> None:
    for seed, gain in ((0, 0.01), (1, 0.02), (2, 0.06)):
        long = used("random", seed, 0.5, images=80, flops=8e9)
        short = used("clmae", seed, 0.5 + gain, images=20, flops=8e9, given=(8e9, "flops"))
        put(tmp_path, f"random-{seed}", long)
        put(tmp_path, f"clmae-{seed}", short)
    report = made(tmp_path)
    (group,) = [group for group in report.groups if len(group.entries) > 1]
    assert group.views == ("flops",)
    assert words.matched(group) == ["8 GFLOP"]
    found = leaderboard(group)[1].difference
    assert found
    assert found.value == pytest.approx(0.03)
    assert found.n == 3
    assert "at equal FLOPs: clmae − random = +3.8 points" in verdict(group)


@pytest.mark.parametrize(
    ("images", "flops", "matched"),
    [
        (4000, 404e9, True),  # 1 % of 404e9 is 4.04e9; a step of random is 0.4e9
        (4000, 404.1e9, False),
        (40, 4.1e9, True),  # 2.4 % more, but that is an image of the forty
        (40, 4.11e9, False),
        (8, 0.82e9, True),  # less than an image of the eight, and than 5 %
        (8, 0.85e9, False),  # less than an image, but 6 %
    ],
)
def test_flops_match_within_an_image_or_one_percent_and_never_beyond_five(
    tmp_path: Path, images: int, flops: float, matched: bool
) -> None:
    low = images * 1e8
    other = used("clmae", 0, 0.5, images=4 * images, flops=flops, seconds=99)
    assert two(tmp_path, other, images=images, flops=low) == ([("flops",)] if matched else [])


@pytest.mark.parametrize(("flops", "matched"), [(4.12e9, True), (4.15e9, False)])
def test_the_image_is_that_of_the_costlier_strategy(
    tmp_path: Path, flops: float, matched: bool
) -> None:
    """Thirty-two images of 0.125e9, after four hundred of random's 0.01e9."""
    other = used("clmae", 0, 0.5, images=32, flops=4e9, seconds=99)
    assert two(tmp_path, other, images=400, flops=flops) == ([("flops",)] if matched else [])


def test_setup_widens_nothing(tmp_path: Path) -> None:
    """Most of its FLOPs were spent on features: its images are cheap."""
    other = used("prototypes", 0, 0.5, images=32, flops=4e9, seconds=99)
    other["ledger"]["flops"] |= {"encoder": 0.4e9, "decoder": 0, "feature extraction": 3.6e9}
    assert two(tmp_path, other, images=400, flops=4.12e9) == []


def test_runs_of_two_and_three_steps_are_not_equal(tmp_path: Path) -> None:
    other = used("clmae", 0, 0.5, images=12, flops=1.2e9, seconds=3.5)
    assert two(tmp_path, other, images=8, flops=0.8e9, seconds=2.5) == []


def test_compiled_and_eager_runs_are_unlike(tmp_path: Path) -> None:
    eager, other = used("random", 0, 0.5), used("clmae", 0, 0.5)
    other["settings"]["compile"] = True
    assert two(tmp_path, other) == []
    put(tmp_path, "c", {**eager, "settings": {**eager["settings"], "compile": True}}, files=False)
    assert read([tmp_path / "a", tmp_path / "c"])[1] == []


@pytest.mark.parametrize(("seconds", "matched"), [(100.9, True), (101.1, False)])
def test_seconds_match_within_a_step_or_one_percent(
    tmp_path: Path, seconds: float, matched: bool
) -> None:
    other = used("clmae", 0, 0.5, images=800, flops=9e9, seconds=seconds)
    found = two(tmp_path, other, images=4000, seconds=100.0)
    assert found == ([("seconds",)] if matched else [])


def test_seconds_of_another_machine_match_nothing(tmp_path: Path) -> None:
    other = used("clmae", 0, 0.5, images=800, flops=9e9, seconds=100)
    other["provenance"]["threads"] = 8
    assert two(tmp_path, other, images=4000, seconds=100) == []
    assert "time on other machines" in made(tmp_path).not_compared[0].why


def test_flops_that_are_not_known_match_nothing(tmp_path: Path) -> None:
    other = used("mine", 0, 0.5, images=80, seconds=9)
    other["ledger"]["flops_known"] = False
    assert two(tmp_path, other) == []
    report = made(tmp_path)
    assert "FLOPs not known" in report.not_compared[0].why
    assert {point.best["flops"] for point in report.frontiers[0].points} == {True, None}
    assert "≥ 4 G" in report.html
    assert "does not say what it costs" in report.html


def test_seeds_near_by_chance_are_no_group(tmp_path: Path) -> None:
    """One of three seeds of clmae ends when random does; nobody gave it seconds."""
    for seed, seconds in enumerate((100, 130, 160)):
        put(tmp_path, f"r{seed}", used("random", seed, 0.5, images=4000, seconds=100), files=False)
        other = used("clmae", seed, 0.5, images=800, flops=9e9, seconds=seconds)
        put(tmp_path, f"c{seed}", other, files=False)
    assert several(tmp_path) == []


def test_a_group_is_anchored_at_its_smallest_member(tmp_path: Path) -> None:
    """Each is within 1 % of the next, but the third is not of the first."""
    for name, flops in (("random", 400e9), ("grid", 403.9e9), ("clmae", 407e9)):
        run = used(name, 0, 0.5, images=int(flops / 1e8), flops=flops, seconds=flops / 1e9)
        put(tmp_path, name, run, files=False)
    assert [names for views, names in several(tmp_path) if "flops" in views] == [["random", "grid"]]


def test_a_strategy_alone_is_shown_once_and_not_where_it_is_matched(tmp_path: Path) -> None:
    put(tmp_path, "r2", used("random", 0, 0.5))
    put(tmp_path, "r4", used("random", 0, 0.5, images=80, flops=8e9, seconds=5))
    put(tmp_path, "g2", used("grid", 0, 0.5))
    found = [[run.id for run in group.runs] for group in made(tmp_path).groups]
    assert found == [["r4"], ["r2", "g2"]]


def test_figures_are_drawn_once(tmp_path: Path) -> None:
    put(tmp_path, "r", used("random", 0, 0.5, images=80, flops=8e9, seconds=8))
    put(tmp_path, "c", used("clmae", 0, 0.5, images=80, flops=24e9, seconds=24))
    matched = used("clmae", 0, 0.5, images=26, flops=8e9, seconds=9, given=(8e9, "flops"))
    put(tmp_path, "m", matched)
    put(tmp_path, "g", used("grid", 0, 0.5, images=80, flops=8e9, seconds=20))
    html = html_of(tmp_path)
    assert html == html_of(tmp_path)
    assert not [word for word in CLAIMS if word in plain(html).lower()]
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', html)) <= set(ids)
    assert html.count('<figure class="tape"') == 4
    assert 'Masks of the others are shown under <a href="#g1">' in re.sub(r"\s+", " ", html)


RUNS = st.lists(
    st.tuples(
        st.sampled_from(["random", "grid", "clmae"]),
        st.integers(0, 2),
        st.sampled_from([40, 80, 160]),
        st.sampled_from([4e9, 4.03e9, 4.3e9, 8e9, 16e9]),
        st.sampled_from([2.5, 2.51, 2.7, 5.0]),
        st.sampled_from(["images", "flops", "seconds"]),
    ),
    max_size=12,
)


@given(RUNS)
def test_nothing_unmatched_is_ever_in_one_group(amounts: list[tuple[Any, ...]]) -> None:
    runs = []
    for rank, (name, seed, images, flops, seconds, unit) in enumerate(amounts):
        planned = {"images": images, "flops": flops, "seconds": seconds}[unit], unit
        spent = {"images": images, "flops": flops, "seconds": seconds}
        found = used(name, seed, 0.5, given=planned, **spent)
        runs.append(Run.of(Path(str(rank)), {**found, "id": str(rank)}))
    grouped = groups(runs)
    for group in grouped:
        assert group.views or len(group.entries) == 1
        for view in group.views:
            key = {"images": "images", "flops": "flops_total", "seconds": "seconds_total"}[view]
            used_up = [run.record["ledger"][key] for run in group.runs]
            steps = [run.record["ledger"]["steps"] for run in group.runs]
            step = max(u / n for u, n in zip(used_up, steps, strict=True))
            unit = step / 4 if view == "flops" else step  # four images are a step
            most = max(used_up)
            allowed = 0 if view == "images" else min(max(unit, 0.01 * most), 0.05 * most)
            assert max(used_up) - min(used_up) <= allowed
    assert {run.key for group in grouped for run in group.runs} == {run.key for run in runs}


def test_no_ranked_table_holds_unmatched_strategies(tmp_path: Path) -> None:
    put(tmp_path, "r", used("random", 0, 0.5))
    put(tmp_path, "c", used("clmae", 0, 0.5, images=80, flops=16e9, seconds=5))
    put(tmp_path, "g", used("grid", 0, 0.5, images=20, flops=9e9, seconds=11))
    names = (">random</th>", ">clmae</th>", ">grid</th>")
    for table in re.findall(r"(?s)<table.*?</table>", groups_of(html_of(tmp_path))):
        assert sum(name in table for name in names) <= 1


# What is said of the others


def test_unlike_pairs_are_named_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, "r", used("random", 0, 0.5))
    put(tmp_path, "c", used("clmae", 0, 0.5, images=80, flops=16e9, seconds=5))
    unlike = used("grid", 0, 0.5, model={**record("grid", 0, 0)["model"], "hidden": 8})
    put(tmp_path, "g", unlike)
    code, out = compare("--runs", str(tmp_path), "--out", str(tmp_path / "page"), "--json")
    assert code == 0
    pairs = {(p["a"], p["b"]): p for p in json.loads(out)["not_compared"]}
    assert len(pairs) == 3
    equal = pairs["random, 40 images", "clmae, 80 images"]
    reason = "40 and 80 images (2.00×), 4 GFLOP and 16 GFLOP (4.00×), 2.5 s and 5 s (2.00×)"
    assert equal["why"] == reason
    assert equal["command"].startswith("maskbench run --strategy clmae --budget match:r:flop")
    other = next(p for names, p in pairs.items() if {"grid, 40 images"} & set(names))
    assert other["why"].startswith("hidden: ")
    assert "8 of 16 patches" in other["why"]
    assert other["command"] == ""
    text = plain((tmp_path / "page" / "report.html").read_text())
    assert reason in text
    assert "What cannot be compared, and why" in text


def test_views_without_a_pair_are_named_with_a_command(tmp_path: Path) -> None:
    two(tmp_path, used("clmae", 0, 0.6, flops=16e9, seconds=9))
    found = made(tmp_path).missing_views
    assert [item.why for item in found] == [
        "No two strategies consumed equal FLOPs.",
        "No two strategies consumed equal time.",
    ]
    assert [item.view for item in found] == ["flops", "seconds"]
    assert [re.findall(r"match:\S+", item.command) for item in found] == [
        ["match:a:flop"], ["match:a:s"],
    ]  # fmt: skip
    code, text = compare("--runs", str(tmp_path), "--out", str(tmp_path / "page"))
    assert code == 3  # masks were not written
    assert "No two strategies consumed equal FLOPs." in text


def test_a_missing_view_is_found_whatever_its_words(tmp_path: Path) -> None:
    two(tmp_path, used("clmae", 0, 0.6, flops=16e9, seconds=9))
    report = made(tmp_path)
    (chapter,) = chapters.chapters(report.groups)
    reworded = [replace(view, why="images, FLOPs, time") for view in report.missing_views]
    for missing in (report.missing_views, reworded):
        found = {tab["name"]: tab["missing"] for tab in chapters.tabs(chapter, missing)}
        assert found == {"images": None, "flops": missing[0], "seconds": missing[1]}


def test_a_strategy_under_two_budgets_is_no_pair(tmp_path: Path) -> None:
    put(tmp_path, "r2", used("random", 0, 0.5))
    put(tmp_path, "r4", used("random", 0, 0.5, images=80, flops=8e9))
    assert made(tmp_path).not_compared == []
