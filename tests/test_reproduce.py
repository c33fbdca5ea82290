"""Figures of papers: the files, and the rule that judges them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import cli
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats
from test_earned import UNEARNED

from maskbench import statistics
from maskbench.analysis import geometry
from maskbench.errors import OK, USAGE, UsageError
from maskbench.reproduce import schema
from maskbench.reproduce.verdict import (
    NOT,
    REPRODUCED,
    UNDECIDED,
    Finding,
    Reading,
    finding,
    overall,
    together,
)
from maskbench.spec import Request

NAMES = ["clmae-fig2", "clmae-fig3", "clmae-fig4", "clmae-fig5", "prototypes"]


EQUAL = "all differences are equal: nothing tells their spread"


def judge(values: Any, smallest: float = 0.1, **more: Any) -> Finding:
    shaped = np.array(values, dtype=float)
    reading = Reading(shaped if shaped.ndim == 2 else shaped[:, None], **more)
    return finding("d", "accuracy", reading, smallest=smallest, decisive=True)


# The rule


@pytest.mark.parametrize(
    ("values", "verdict", "why"),
    [
        ([0.20, 0.21, 0.22], REPRODUCED, "the interval lies above 0"),
        ([0.04, 0.05, 0.06], REPRODUCED, "but smaller than 0.1"),
        ([0.01, 0.00, -0.01], NOT, "the interval excludes 0.1"),
        ([-0.20, -0.21, -0.22], NOT, "the interval excludes 0.1, and lies below 0"),
        ([0.3, -0.1, 0.1], UNDECIDED, "the interval holds both 0 and 0.1"),
        ([0.20, 0.21], UNDECIDED, "2 of at least 3 seeds: --seeds 3"),
        ([0.20], UNDECIDED, "1 of at least 3 seeds: --seeds 3"),
        ([0.2, 0.2, 0.2], UNDECIDED, EQUAL),
        ([0.0, 0.0, 0.0], UNDECIDED, EQUAL),
    ],
)
def test_every_branch_of_the_rule(values: list[float], verdict: str, why: str) -> None:
    found = judge(values)
    assert (found.verdict, found.why) == (verdict, why)


def test_ends_that_are_bounds_say_less() -> None:
    """Upper ends reproduce nothing; lower ends exclude nothing; the other way they still count."""
    high, low = [0.20, 0.21, 0.22], [0.01, 0.00, -0.01]
    assert judge(high, most=True).verdict == UNDECIDED
    assert judge(high, least=True).verdict == REPRODUCED
    assert judge(low, least=True).verdict == UNDECIDED
    assert judge(low, most=True).verdict == NOT
    assert "smaller" not in judge([0.04, 0.05, 0.06], least=True).why
    one, other = Reading(np.ones((3, 1)), most=True), Reading(np.zeros((3, 1)), least=True)
    assert (one.minus(other).most, one.minus(other).least) == (True, False)
    assert (other.minus(one).most, other.minus(one).least) == (False, True)


def test_an_interval_over_seeds_is_the_paired_t_interval() -> None:
    d = np.array([0.05, 0.02, 0.03, 0.07])
    found, oracle = judge(d), statistics.contrast(d, 0 * d, np.random.default_rng(0))
    assert (found.value, found.low, found.high) == pytest.approx(
        (oracle.value, oracle.low, oracle.high)
    )
    assert found.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)


def test_images_without_a_value_are_left_out_and_seeds_are_no_images() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.05, 0.1, (3, 400)) + np.array([[0.3], [0.0], [-0.3]])
    values[0, 0] = np.nan
    found = judge(values)
    assert (found.seeds, found.images) == (3, 399)
    assert found.verdict == UNDECIDED, "1,200 numbers of three unlike seeds decide nothing"
    assert judge(np.full((3, 4), np.nan)).why == "no image has a value in all runs"


@given(
    some.lists(some.floats(-1, 1), min_size=3, max_size=8),
    some.floats(0.001, 0.5),
)
def test_a_claim_turned_round_is_not_reproduced(values: list[float], smallest: float) -> None:
    if judge(values, smallest).verdict == REPRODUCED:
        assert judge([-v for v in values], smallest).verdict == NOT


def test_several_decisive_ones_are_corrected_and_all_must_hold() -> None:
    strong, weak = judge([0.20, 0.21, 0.22]), judge([0.18, 0.21, 0.25])
    alone = judge([0.1, 0.2, 0.3, 0.2, 0.03])
    assert (strong.p_holm, together([strong])[0].p_holm) == (None, None)
    p = sorted([strong.p or 0, weak.p or 0])
    found = together([weak, strong])
    assert [one.p_holm for one in found] == pytest.approx([max(2 * p[0], p[1]), 2 * p[0]])
    assert overall(found)[0] == REPRODUCED
    assert alone.p is not None
    assert 0.025 / 2 < alone.p < 0.05
    three = together([alone, alone, alone, alone])
    assert three[0].p_holm == pytest.approx(4 * alone.p)
    assert {one.verdict for one in three} == {UNDECIDED}
    assert "Holm" in three[0].why


def test_one_excluded_excludes_the_claim_and_one_missing_leaves_it_open() -> None:
    good, bad = judge([0.20, 0.21, 0.22]), judge([-0.2, -0.21, -0.22])
    lost = finding("e", "knn20", Reading.none("clmae, seed 1: diverged"), smallest=1, decisive=True)
    assert (lost.value, lost.verdict) == (None, UNDECIDED)
    assert overall([good, bad])[0] == NOT
    assert overall([good, lost]) == (UNDECIDED, "e: clmae, seed 1: diverged")
    assert overall([good, replace(bad, decisive=False)])[0] == REPRODUCED
    small = judge([0.04, 0.05, 0.06])
    assert overall([good, small]) == (REPRODUCED, "d: but smaller than 0.1")
    with pytest.raises(ValueError, match="decisive"):
        overall([replace(good, decisive=False)])


# The files


def test_the_shipped_files_are_whole() -> None:
    shipped = schema.shipped()
    assert sorted(shipped) == NAMES
    for path in shipped.values():
        asked, text = schema.read(path), path.read_text()
        for word in ("Question", "Claim", "Source", "Expected", "Criterion", "Cost", "Command"):
            assert f"\n# {word}" in f"\n{text}", (path.name, word)
        assert "not at" in asked.source, "that the figure was not read is said"
        assert (asked.runs.data, asked.runs.model, asked.runs.seeds) == ("scenes", "nano", 3)
        for one in asked.compare:
            if one.decisive:
                assert f"smallest d of interest {one.smallest:g}" in _flat(text)
        asked.requests()
        assert UNEARNED.findall(text) == []


def _flat(text: str) -> str:
    return " ".join(text.replace("#", " ").split())


def test_the_shapes_that_can_be_named_are_those_of_the_geometry() -> None:
    masks = np.random.default_rng(0).random((8, 4, 4)).argsort(axis=-1) < 2
    keep = np.full((8, 16), 0.5)
    null = geometry.uniform(4, 4, 8, 8, np.random.default_rng(0))
    found = geometry.describe(masks, again=masks, keep=keep, null=null)
    assert {one.name for one in found} == set(schema.SHAPES)


def fig3(tmp_path: Path, *swaps: tuple[str, str]) -> Path:
    text = schema.shipped()["clmae-fig3"].read_text()
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seeds = 3", "sedes = 3", "runs: unknown key 'sedes'. Did you mean 'seeds'?"),
        ("decisive = true", "decisve = true", "compare.0: unknown key 'decisve'. Did you mean"),
        ('quantity = "position_share"', 'quantity = "position"', "quantity 'position'. Did you"),
        ('arm = "without", at', 'arm = "wihout", at', "unknown arm 'wihout'. Did you mean"),
        ('at = "end" }', 'at = "ending" }', "compare.0.high.at"),
        ("smallest = 0.1", "smallest = 0", "compare.0.smallest"),
        ("decisive = true", "decisive = false", "nothing decides"),
        ("question =", "questions =", "unknown key 'questions'. Did you mean 'question'"),
        ('budget = "5000img"', "", "runs.budget: this key is missing"),
        ('budget = "5000img"', "budget = 12000", "runs.budget"),
        ("[runs]", "[runs", "is not TOML"),
        ('quantity = "position_share"', 'quantity = "epochs"', "name it: baseline"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = fig3(tmp_path, (old, new))
    with pytest.raises(UsageError) as caught:
        schema.read(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)


def test_names_and_paths(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'clmae-fig2'"):
        schema.located("clmae-fig22")
    assert schema.located("prototypes").name == "prototypes.toml"
    with pytest.raises(UsageError, match=r"none\.toml cannot be read"):
        schema.read(schema.located(str(tmp_path / "none.toml")))


def test_overrides_reach_every_request() -> None:
    asked = schema.read(schema.located("clmae-fig3"))
    assert asked.changed() == asked
    changed = asked.changed(data="folder:x", model="micro", budget="7step", seeds=2)
    found = changed.requests()
    assert list(found) == [("with", 0), ("without", 0), ("with", 1), ("without", 1)]
    assert found["without", 1] == Request(
        strategy="clmae", sets=("diversity=0",), data="folder:x", model="micro", budget="7step",
        seed=1, draws=1,
    )  # fmt: skip
    probed = schema.read(schema.located("prototypes")).request("prototypes", 2)
    assert (probed.probe_at, probed.draws, probed.seed) == ((0.2, 0.4, 0.6, 0.8), 10, 2)


@pytest.mark.parametrize(
    "change", [{"data": "foldr:x"}, {"model": "nanno"}, {"budget": "7"}, {"seeds": 0}]
)
def test_overrides_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        schema.read(schema.located("clmae-fig3")).changed(**change).requests()


def test_without_a_name_the_figures_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(monkeypatch, "reproduce", "--json") == OK
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert names == list(schema.shipped())
    assert cli(monkeypatch, "reproduce", "clmae-fg2") == USAGE
    assert "Did you mean 'clmae-fig2'" in capsys.readouterr().err
