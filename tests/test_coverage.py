"""Calibration shown by simulation: intervals cover, tests keep their level, effects are found.

Scores are simulated as they arise: K strategies, S pretraining seeds paired across strategies,
F few-shot draws crossed with both. Numbers measured here are in ``docs/notes.md``.
"""

from collections.abc import Iterator
from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from maskbench import statistics as st

TRIALS, DRAWS = 4000, 10
Scores = NDArray[np.float64]


@pytest.fixture(autouse=True)
def no_rubbish() -> Iterator[None]:
    """statsmodels collects it at every correction: 0.1 s and more, thousands of times."""
    with patch("gc.collect"):
        yield


def simulate(key: int, seeds: int, strategies: int = 2, trials: int = TRIALS) -> Scores:
    """Seed means over draws, shape (trials, strategies, seeds); all true means are 0.

    Seed effect (variance 1, of it 0.4 shared by all strategies), draw effect (variance 4, shared by
    all seeds and strategies), seed-by-draw interaction (variance 1).
    """
    rng = np.random.default_rng([key, seeds])
    shared = np.sqrt(0.4) * rng.normal(size=(trials, 1, seeds, 1))
    own = np.sqrt(0.6) * rng.normal(size=(trials, strategies, seeds, 1))
    draw = 2 * rng.normal(size=(trials, 1, 1, DRAWS))
    mixed = rng.normal(size=(trials, strategies, seeds, DRAWS))
    return np.asarray((shared + own + draw + mixed).mean(axis=3))


SPREAD = float(np.sqrt(2 * (0.6 + 1 / DRAWS)))
"""Standard deviation of a paired difference: shared seed and draw effects cancel."""


def differences(key: int, seeds: int, strategies: int = 2, trials: int = TRIALS) -> Scores:
    """Against the first strategy; shape (trials, strategies - 1, seeds)."""
    found = simulate(key, seeds, strategies, trials)
    return found[:, 1:] - found[:, :1]


def error(share: float, trials: int) -> float:
    """Four standard errors of a simulated share."""
    return 4 * float(np.sqrt(share * (1 - share) / trials))


@pytest.mark.parametrize("seeds", [3, 5, 8, 10])
def test_intervals_cover_what_they_say(seeds: int) -> None:
    d = differences(1, seeds)[:, 0]
    covered = float((np.abs(d.mean(axis=1)) <= st.half_width(d)).mean())
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("seeds", [6, 8, 10])
def test_the_exact_test_keeps_its_level(seeds: int) -> None:
    d = differences(2, seeds)[:, 0]
    p = st.sign_flip(d, np.random.default_rng(0))
    for level in (0.01, 0.05, 0.1):
        assert float((p <= level).mean()) <= level + error(level, TRIALS)


def claimed(d: Scores) -> NDArray[np.bool_]:
    """Which contrasts are called better or worse; d has shape (trials, contrasts, seeds)."""
    p = st.sign_flip(d, np.random.default_rng(0))
    held = np.array([multipletests(row, method="holm")[1] for row in p])
    return np.asarray((held < st.LEVEL) & (np.abs(d.mean(axis=2)) > st.half_width(d)))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [8, 10])
def test_a_family_of_four_keeps_its_level(seeds: int) -> None:
    trials = 2000
    wrong = claimed(differences(3, seeds, 5, trials)).any(axis=1).mean()
    assert float(wrong) <= 0.05 + error(0.05, trials)


def test_the_shortcut_above_is_what_a_report_does() -> None:
    effects = np.array([0.0, 0.5, 1.5, 3.0])[:, None]
    rng = np.random.default_rng(0)
    for d in differences(4, 8, 5, 10) + effects:
        found = st.holm([st.contrast(one, np.zeros(8), rng, margin=0.01) for one in d])
        told = [st.finding(one) in ("better", "worse") for one in found]
        assert told == claimed(d[None])[0].tolist()


@pytest.mark.parametrize("seeds", [3, 5, 8, 10])
def test_a_planted_difference_is_found_as_often_as_predicted(seeds: int) -> None:
    """The t-interval excludes zero; the difference is the one said to be detectable."""
    effect = st.detectable(seeds)
    d = differences(5, seeds)[:, 0] + effect * SPREAD
    found = float((np.abs(d.mean(axis=1)) > st.half_width(d)).mean())
    predicted = float(TTestPower().power(effect, seeds, st.LEVEL))
    assert predicted == pytest.approx(st.POWER, abs=1e-6)
    assert abs(found - predicted) <= error(predicted, TRIALS)


@pytest.mark.parametrize("seeds", [6, 8])
def test_the_exact_test_finds_as_often_as_flips_counted_by_hand(seeds: int) -> None:
    """Another simulation, of differences alone, with all flips written out."""
    effect = 1.5
    rng = np.random.default_rng([6, seeds])
    d = rng.normal(effect, 1, (TRIALS, seeds))
    flips = np.array(list(product((1, -1), repeat=seeds)))
    extreme = np.abs(d @ flips.T) >= np.abs(d.sum(axis=1))[:, None] - 1e-9
    predicted = float((extreme.mean(axis=1) < 0.05).mean())
    planted = differences(7, seeds)[:, 0] + effect * SPREAD
    found = float((st.sign_flip(planted, rng) < 0.05).mean())
    assert abs(found - predicted) <= np.sqrt(2) * error(predicted, TRIALS)


def test_equivalence_keeps_its_level_at_the_margin() -> None:
    d = differences(8, 8)[:, 0]
    margin = 2 * SPREAD
    at_the_margin = (st.equivalence((d + margin).T, margin) < st.LEVEL).mean()
    inside = (st.equivalence(d.T, margin) < st.LEVEL).mean()
    assert float(at_the_margin) <= 0.05 + error(0.05, TRIALS)
    assert float(inside) > 0.95


def by_task(table: Scores, rng: np.random.Generator, resamples: int) -> Scores:
    """Means of resamples that draw seeds anew for every task: what is not to be done here."""
    seeds, tasks = table.shape
    picked = rng.integers(seeds, size=(resamples, seeds, tasks))
    return np.asarray(table[picked, np.arange(tasks)].mean(axis=(1, 2)))


@pytest.mark.slow
def test_resampling_tasks_by_themselves_is_far_too_narrow() -> None:
    """Five seeds, six data sets, correlation 0.7 between a run's scores: true error 0.387."""
    seeds, tasks, rho, trials = 5, 6, 0.7, 300
    rng = np.random.default_rng(9)
    luck = np.sqrt(rho) * rng.normal(size=(trials, seeds, 1))
    tables = luck + np.sqrt(1 - rho) * rng.normal(size=(trials, seeds, tasks))
    true = float(np.sqrt((1 + (tasks - 1) * rho) / tasks / seeds))
    assert tables.mean(axis=(1, 2)).std() == pytest.approx(true, rel=0.15)
    errors, hits = [], []
    for table in tables:
        alone = by_task(table, rng, 400)
        low, high = np.quantile(alone, (0.025, 0.975))
        found = st.aggregate(table, rng)
        assert found.low is not None
        assert found.high is not None
        assert found.resampled_low is not None
        assert found.resampled_high is not None
        whole = (found.resampled_high - found.resampled_low) / (2 * stats.norm.ppf(0.975))
        errors.append((alone.std(), whole))
        t, cluster = found.low < 0 < found.high, found.resampled_low < 0 < found.resampled_high
        hits.append((low < 0 < high, cluster, t))
    narrow, cluster = np.mean(errors, axis=0)
    assert narrow < 0.5 * true  # 0.16
    assert 0.75 * true < cluster < true  # 0.33
    covered = np.mean(hits, axis=0)
    assert covered[0] < 0.65
    assert covered[0] + 0.15 < covered[1] < 0.92
    assert abs(covered[2] - 0.95) <= error(0.95, trials)
