"""Studies of masks put together: the numbers, what they cover, and what is said of them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from studies import IMAGES, change, found, maps, masks, store
from synthetic import compare, html_of, plain, put, record
from test_earned import UNEARNED, strings

from maskbench.analysis.intervals import two_level
from maskbench.report.masks_words import alarms
from maskbench.report.reading import read
from maskbench.report.studied import Studied
from maskbench.report.study_file import read_study


def auc(seed: int, pull: float, moment: int) -> NDArray[np.float64]:
    """Of every image, pair by pair."""
    flat = masks(seed, pull)[moment].reshape(IMAGES, -1)
    pairs = [(s[m][:, None] > s[~m]).mean() for s, m in zip(maps(), flat, strict=True)]
    return np.array(pairs)


def chosen(rows: list[dict[str, Any]], **given: Any) -> dict[str, Any]:
    (row,) = [row for row in rows if all(row[key] == value for key, value in given.items())]
    return row


# Numbers


def test_saliency_is_the_two_level_mean_of_every_seed(tmp_path: Path) -> None:
    tables = found(store(tmp_path))[0].tables
    row = chosen(tables["saliency"], strategy="clmae", source="edges", metric="auc", moment=2)
    by_hand = np.stack([auc(10 * seed + 5, 1 + seed, 2) for seed in range(3)])
    assert row["value"] == pytest.approx(by_hand.mean(), abs=1e-6)
    expected = two_level(by_hand)
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high), abs=1e-5)
    assert (row["seeds"], row["images"], row["interval"]) == (3, IMAGES, "seeds and images")
    assert row["value"] > 0.55


def test_seeds_that_differ_widen_the_interval(tmp_path: Path) -> None:
    tables = found(store(tmp_path))[0].tables
    row = chosen(tables["saliency"], strategy="clmae", source="edges", metric="auc", moment=2)
    pooled = np.mean([auc(10 * seed + 5, 1 + seed, 2) for seed in range(3)], axis=0)
    images = two_level(pooled[None])
    assert images.low is not None
    assert images.high is not None
    assert row["high"] - row["low"] > 1.5 * (images.high - images.low)


def test_the_null_of_a_mean_over_seeds_is_narrower_by_their_root(tmp_path: Path) -> None:
    one = found(store(tmp_path / "one", 1))[0].tables["saliency"]
    three = found(store(tmp_path / "three", 3))[0].tables["saliency"]
    given = {"strategy": "clmae", "source": "edges", "metric": "auc", "moment": 0}
    wide, narrow = chosen(one, **given), chosen(three, **given)
    assert narrow["uniform"] == pytest.approx(0.5)
    assert wide["uniform_high"] - 0.5 == pytest.approx(3**0.5 * (narrow["uniform_high"] - 0.5))


def test_sets_of_masks_have_an_interval_over_seeds_or_their_own(tmp_path: Path) -> None:
    three, one = (found(store(tmp_path / str(n), n))[0].tables["geometry"] for n in (3, 1))
    given = {"strategy": "clmae", "name": "moran", "moment": 1}
    row, alone = chosen(three, **given), chosen(one, **given)
    runs, _ = read(sorted((tmp_path / "3").glob("clmae-*")))
    each = [
        next(q.value for q in read_study(run).document.tables.geometry
             if (q.name, q.moment) == ("moran", 1))
        for run in runs
    ]  # fmt: skip
    values = np.array(each, float)
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / 3**0.5
    assert row["value"] == pytest.approx(values.mean())
    assert row["high"] - row["value"] == pytest.approx(half)
    assert (row["interval"], row["seeds"]) == ("seeds", 3)
    assert (alone["interval"], alone["seeds"], alone["images"]) == ("images", 1, IMAGES)
    assert alone["low"] < alone["value"] < alone["high"]


def test_trends_are_slopes_per_image_and_adjusted_over_the_table(tmp_path: Path) -> None:
    rows = found(store(tmp_path))[0].tables["trends"]
    slope = chosen(rows, strategy="clmae", of="auc, edges", kind="slope")
    ends = np.mean([auc(10 * s + 5, 1 + s, 2) - auc(10 * s + 5, 1 + s, 0) for s in range(3)])
    assert slope["value"] == pytest.approx(ends, abs=1e-6)  # three equidistant moments
    known = [row for row in rows if row["p"] is not None]
    expected = stats.false_discovery_control([row["p"] for row in known])
    assert [row["q"] for row in known] == pytest.approx(expected.tolist())
    page = chosen(rows, strategy="clmae", of="auc, edges", kind="page, two-sided")
    assert page["value"] == 3 * (1 + 4 + 9)  # every seed rises
    assert page["p"] < 0.05


def test_difficulty_and_lambda_per_seed_and_on_average(tmp_path: Path) -> None:
    rows = found(store(tmp_path))[0].tables["trends"]
    own = [r for r in rows if r["strategy"] == "clmae" and r["of"] == "difficulty gap and lambda"]
    assert [row["seed"] for row in own] == [0, 1, 2, None]
    assert own[3]["value"] == pytest.approx(np.mean([row["value"] for row in own[:3]]))
    assert own[3]["kind"] == "spearman, mean"
    alone = found(store(tmp_path / "one", 1))[0].tables["trends"]
    assert not [row for row in alone if row["kind"] in ("spearman, mean", "page, two-sided")]


# What is said


def test_page_files_terminal_and_json(tmp_path: Path) -> None:
    options = ("--runs", str(store(tmp_path / "runs")), "--out", str(tmp_path / "page"))
    code, terminal = compare(*options)
    assert code == 0
    assert "AUC of masks at the end" in terminal
    html = (tmp_path / "page" / "report.html").read_text()
    text = plain(html)
    for said in (
        "What the masks hide", "What they look like", "How they move",
        "Above 0.5 the strategy hides what is salient",
        "95 % of the means of uniformly random masks lie, for 30 images and 3 seeds",
        "objects: 30 of 30 images have no such map", "clmae: AUC ",
    ):  # fmt: skip
        assert said in text, said
    _, out = compare(*options, "--json")
    told = json.loads(out)["masks"]
    assert UNEARNED.findall("\n".join([terminal, text, *strings(told)])) == []
    for name, rows in told.items():
        with (tmp_path / "page" / f"masks-{name}.csv").open(encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == len(rows) > 0
        assert list(lines[0])[:2] == ["group", "strategy"]
        assert {line["strategy"] for line in lines} == {"random", "clmae"}
        assert all(int(line["seeds"]) <= 3 and int(line["images"]) >= 0 for line in lines)


def test_one_seed_says_nothing_of_others(tmp_path: Path) -> None:
    text = plain(html_of(store(tmp_path, 1)))
    assert "intervals are over images only and say nothing about other seeds" in text
    assert "clmae: AUC rises for edges (+0." in text
    assert "random: AUC shows no trend for edges (over images of one seed)." in text


@pytest.mark.slow
def test_the_same_bytes_twice(tmp_path: Path) -> None:
    one, two = store(tmp_path / "one"), store(tmp_path / "else" / "two")
    assert html_of(one) == html_of(two)


def test_without_any_study_nothing_is_missing(tmp_path: Path) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.5))
    assert found(tmp_path) == (Studied(), [])
    assert "What the masks hide" not in html_of(tmp_path)


def test_alarms_that_differ_in_numbers_are_one_line(tmp_path: Path) -> None:
    store(tmp_path, 2)
    for folder in tmp_path.glob("clmae-*"):
        change(folder, alarms=[f"at {s} % of the budget: off by -0.{s}1." for s in (0, 12.5, 100)])
    own = next(each for label, _, each in found(tmp_path)[0].strategies if label == "clmae")
    (line,) = alarms("clmae", own)
    assert line.startswith("clmae, seeds 0, 1, from 0 to 100 % of the budget: off by -0.1001 (")
    assert line in plain(html_of(tmp_path)).replace("&#39;", "'")
