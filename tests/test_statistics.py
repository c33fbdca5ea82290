"""Statistics of seed scores: worked examples, what a tier withholds, the same bits always."""

import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from maskbench import statistics as st
from maskbench.statistics import Contrast, Tier, scores


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def planted(seeds: int, gain: float = 0.03, spread: float = 0.01) -> Contrast:
    base = rng(1).normal(0.5, 0.02, seeds)
    return st.contrast(base + gain + rng(2).normal(0, spread, seeds), base, rng())


@pytest.mark.parametrize(
    ("seeds", "tier"),
    [(1, "smoke"), (2, "smoke"), (3, "draft"), (4, "draft"), (5, "standard"), (7, "standard"),
     (8, "claim"), (30, "claim")],
)  # fmt: skip
def test_tiers(seeds: int, tier: str) -> None:
    assert st.tier(seeds) == tier


def test_a_contrast_by_hand() -> None:
    """Differences 1, 2, 3, 4, 5, 9: mean 4, sd sqrt(8); all flips counted."""
    d = np.array([1.0, 2, 3, 4, 5, 9])
    theirs = np.array([3.0, 1, 4, 1, 5, 9])
    found = st.contrast(theirs + d, theirs, rng(), margin=1.0)
    assert (found.seeds, found.tier, found.value) == (6, Tier.STANDARD, 4.0)
    half = 2.570582 * np.sqrt(8 / 6)
    assert found.low == pytest.approx(4 - half, rel=1e-6)
    assert found.high == pytest.approx(4 + half, rel=1e-6)
    assert found.d_z == pytest.approx(4 / np.sqrt(8))
    flips = np.array(list(product((1, -1), repeat=6)))
    assert found.p == pytest.approx((np.abs(flips @ d) >= d.sum() - 1e-9).mean())
    assert found.p == pytest.approx(2 / 64)
    assert found.above == 1.0
    assert found.above_low == pytest.approx(6 / (6 + 1.959964**2), rel=1e-6)  # Wilson at 6 of 6
    assert found.above_high == 1.0
    one_sided = [stats.t.sf((4 - 1) / np.sqrt(8 / 6) * -1, 5), stats.t.sf(5 / np.sqrt(8 / 6), 5)]
    assert found.p_equivalent == pytest.approx(max(one_sided))
    assert found.correlation == pytest.approx(np.corrcoef(theirs + d, theirs)[0, 1])


@pytest.mark.parametrize("seeds", range(1, 11))
def test_what_is_not_earned_is_not_there(seeds: int) -> None:
    found = planted(seeds)
    assert (found.band is not None) == (seeds >= 3)
    assert (found.correlation is not None) == (found.detectable is not None) == (seeds >= 3)
    assert (found.d_z is not None) == (found.above is not None) == (seeds >= 5)
    for p in (found.p, found.p_adjusted, found.p_equivalent):
        assert (p is not None) == (seeds >= 6)
    assert (st.finding(found) is not None) == (seeds >= 8)


def test_findings() -> None:
    assert st.finding(planted(8)) == "better"
    assert st.finding(planted(8, -0.03)) == "worse"
    assert st.finding(planted(8, 0.0, 0.002)) == "within"
    assert st.finding(planted(8, 0.001, 0.05)) is None
    assert st.finding(replace(planted(8), p_adjusted=0.06, p_equivalent=0.5)) is None
    assert st.finding(replace(planted(8), low=-0.001, p_equivalent=0.5)) is None


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 6, 8])
def test_equal_scores_are_no_accident(seeds: int) -> None:
    """Every seed the same, or equal differences: nothing divides by zero, nothing is NaN."""
    for gain in (0.0, st.MARGIN, 0.5):
        found = st.contrast(np.full(seeds, 0.5 + gain), np.full(seeds, 0.5), rng())
        assert found.d_z is None
        assert found.correlation is None
        numbers = [v for v in vars(found).values() if isinstance(v, float)]
        assert np.isfinite(numbers).all()


def test_scores_must_be_paired() -> None:
    for ours, theirs in (([1.0, 2], [1.0]), ([], []), ([[1.0]], [[1.0]])):
        with pytest.raises(ValueError, match="scores of the same seeds"):
            st.contrast(ours, theirs, rng())


def test_many_seeds_are_flipped_at_random_but_the_same_way() -> None:
    d = rng().normal(0.5, 1, 20)
    assert st.sign_flip(d, rng(3)) == st.sign_flip(d, rng(3))
    exact_like = stats.ttest_1samp(d, 0).pvalue
    assert st.sign_flip(d, rng(3)) == pytest.approx(exact_like, abs=0.02)


def test_families() -> None:
    some = [replace(planted(8), p=p, p_adjusted=p, p_equivalent=1.0) for p in (0.01, 0.04, 0.03)]
    family = [*some, planted(5)]
    assert [one.p_adjusted for one in st.holm(family)] == [
        pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06), None,
    ]  # fmt: skip
    found = [one.p_adjusted for one in st.benjamini_hochberg(some)]
    assert found == [pytest.approx(0.03), pytest.approx(0.04), pytest.approx(0.04)]
    assert st.holm([planted(3)]) == [planted(3)]
    assert [one.p for one in st.holm(family)] == [one.p for one in family]


def test_detectable_differences_are_those_of_the_specification() -> None:
    """In units of the standard deviation of the differences; 80 % power, 5 % two-sided."""
    published = {3: 3.26, 4: 2.13, 5: 1.68, 6: 1.43, 8: 1.16, 10: 1.00, 20: 0.66}
    assert {n: round(st.detectable(n), 2) for n in published} == published


def test_what_needs_no_heavy_import_is_the_same_to_the_last_bit() -> None:
    """Power solved, and Wilson's interval, as statsmodels does; it fails from 73 seeds on."""
    counts = range(2, 73)
    solved = [TTestPower().solve_power(nobs=n, alpha=st.LEVEL, power=st.POWER) for n in counts]
    assert [st.detectable(n) for n in counts] == solved
    quantiles = {n: stats.t.ppf((1 + st.CONFIDENCE) / 2, n - 1) for n in scores.QUANTILES}
    assert quantiles == scores.QUANTILES
    wide = [st.detectable(n) for n in (72, 73, 150, 1000)]
    assert wide == sorted(wide, reverse=True)
    assert TTestPower().power(wide[1], 73, st.LEVEL) == pytest.approx(st.POWER, abs=1e-4)
    for of in (1, 3, 5, 8, 21):
        for count in range(of + 1):
            theirs = proportion_confint(count, of, 1 - st.CONFIDENCE, method="wilson")
            assert scores.wilson(count, of) == theirs


# Ranks


def test_ties_share_a_letter() -> None:
    base = rng(1).normal(0.5, 0.02, 5)
    noise = rng(2).normal(0, 0.002, (4, 5))
    table = np.array([base, base + 0.1, base + 0.1, base - 0.1]) + noise
    assert st.letters(table) == ["b", "a", "a", "c"]
    assert st.letters(table[::-1]) == ["c", "a", "a", "b"]
    assert st.letters(table[:, :2]) == [None] * 4


def test_a_strategy_of_few_seeds_has_no_letter_and_one_of_other_seeds_is_no_loser() -> None:
    table = np.full((3, 6), np.nan)
    table[0, :3], table[1, 3:], table[2, :2] = 0.9, 0.1, 0.99
    assert st.letters(table) == ["a", "a", None]


def test_more_ranks_than_letters() -> None:
    table = np.arange(30.0)[:, None] + np.zeros((30, 3))
    assert st.letters(table)[:6:-1][-1] == "w"
    assert st.letters(table)[0] == "ad"


# Aggregates


def test_normalised() -> None:
    found = st.normalised([[0.1, 0.5], [1.0, 0.25]], [0.1, 0.5])
    assert found == pytest.approx(np.array([[0, 0], [1, -0.5]]))


def test_an_aggregate_by_hand() -> None:
    table = np.array([[0.1, 0.3], [0.2, 0.4], [0.3, 0.8]])  # means 0.2, 0.3, 0.55
    found = st.aggregate(table, rng())
    assert found.value == pytest.approx(0.35)
    assert found.low is not None
    half = 4.302653 * np.std([0.2, 0.3, 0.55], ddof=1) / np.sqrt(3)
    assert found.low == pytest.approx(0.35 - half, rel=1e-6)
    assert found.resampled_low == pytest.approx(0.2)  # one row three times: 1 in 27
    assert found.resampled_high == pytest.approx(0.55)
    assert st.aggregate(table[:2], rng()).low is None
    for bad in ([0.1, 0.2], [[0.1, np.nan]], np.zeros((0, 2))):
        with pytest.raises(ValueError, match="nothing missing"):
            st.aggregate(bad, rng())


def test_the_same_bits_in_another_process() -> None:
    code = (
        "import numpy as np; from maskbench import statistics as st\n"
        "g = np.random.default_rng\n"
        "x = g(5).normal(size=(2, 20)); t = g(6).normal(size=(5, 3))\n"
        "print(repr(st.contrast(*x, g(1))), repr(st.aggregate(t, g(2))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (x, y), table = rng(5).normal(size=(2, 20)), rng(6).normal(size=(5, 3))
    here = f"{st.contrast(x, y, rng(1))!r} {st.aggregate(table, rng(2))!r}"
    assert done.stdout.strip() == here
