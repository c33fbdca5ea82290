"""Saliency metrics: known answers, others' code, identities, invariances, and exact nulls."""

import importlib.util
from itertools import combinations, product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from maskbench.analysis import nulls
from maskbench.analysis.agreement import (
    coverage,
    functionals,
    shuffled_auc,
    standardised,
)
from maskbench.analysis.geometry import random_masks

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def pysaliency_metrics() -> ModuleType:
    """The file alone: the package itself wants every saliency model there is."""
    spec = importlib.util.find_spec("pysaliency")
    if spec is None:
        pytest.skip("no pysaliency: uv sync --group oracle (it has no wheel, and CI has it)")
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "metrics.py"
    found = importlib.util.spec_from_file_location("pysaliency_metrics", path)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def random(rng: np.random.Generator, images: int, rows: int, columns: int, hidden: int) -> Bools:
    return random_masks(rows, columns, hidden, images, rng).reshape(images, -1)


def maps(rng: np.random.Generator, images: int, patches: int, *, ties: bool = False) -> Floats:
    found = rng.lognormal(size=(images, patches))
    return np.round(found, 1) + 0.1 if ties else found


@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_scikit_learns(ties: bool) -> None:
    rng = np.random.default_rng(0)
    s, m = maps(rng, 20, 64, ties=ties), random(rng, 20, 8, 8, 48)
    ours = functionals(s, 48)["auc"].of(m)
    theirs = [roc_auc_score(mask, one) for mask, one in zip(m, s, strict=True)]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("hidden", [1, 10, 48, 63])
def test_nss_cc_sim_and_kl_are_pysaliencys(hidden: int) -> None:
    theirs: Any = pysaliency_metrics()
    rng = np.random.default_rng(1)
    s, m = maps(rng, 10, 64), random(rng, 10, 8, 8, hidden)
    ours = {name: metric.of(m) for name, metric in functionals(s, hidden).items()}
    for n in range(10):
        one, mask = s[n].reshape(8, 8), m[n].reshape(8, 8)
        ys, xs = np.nonzero(mask)
        assert ours["nss"][n] == pytest.approx(theirs.NSS(one, xs, ys).mean(), abs=1e-9)
        assert ours["cc"][n] == pytest.approx(theirs.CC(one, mask.astype(float)), abs=1e-9)
        assert ours["sim"][n] == pytest.approx(theirs.SIM(one, mask.astype(float)), abs=1e-9)
        with np.errstate(divide="ignore"):
            kl = theirs.MIT_KLDiv(one, mask.astype(float))
        assert ours["kl"][n] == pytest.approx(kl, abs=1e-9)


@given(seed=st.integers(0, 999), hidden=st.integers(1, 34))
def test_identities(seed: int, hidden: int) -> None:
    """CC = NSS sqrt(n1 / n0), contrast = NSS L / n0; lift = share / r; visible is the mirror."""
    rng = np.random.default_rng(seed)
    s, m = maps(rng, 4, 35), random(rng, 4, 5, 7, hidden)
    found = {name: metric.of(m) for name, metric in functionals(s, hidden).items()}
    visible = 35 - hidden
    np.testing.assert_allclose(found["cc"], found["nss"] * np.sqrt(hidden / visible), atol=1e-12)
    np.testing.assert_allclose(found["contrast"], found["nss"] * 35 / visible, atol=1e-12)
    np.testing.assert_allclose(found["lift"], found["share"] * 35 / hidden, atol=1e-12)
    mirrored = functionals(s, visible)
    np.testing.assert_allclose(found["auc"], 1 - mirrored["auc"].of(~m), atol=1e-12)
    np.testing.assert_allclose(found["nss"], -visible / hidden * mirrored["nss"].of(~m), atol=1e-12)
    np.testing.assert_allclose(found["share"], 1 - mirrored["share"].of(~m), atol=1e-12)


@given(seed=st.integers(0, 999))
def test_invariances(seed: int) -> None:
    """AUC under monotone maps, NSS under affine ones; both under a common order of patches."""
    rng = np.random.default_rng(seed)
    s, m = maps(rng, 3, 64), random(rng, 3, 8, 8, 48)
    base = functionals(s, 48)
    bent = functionals(np.sqrt(s) + s**3, 48)
    np.testing.assert_allclose(base["auc"].of(m), bent["auc"].of(m), atol=1e-12)
    assert not np.allclose(base["nss"].of(m), bent["nss"].of(m), atol=1e-6)
    moved = functionals(3 * s + 7, 48)
    np.testing.assert_allclose(base["nss"].of(m), moved["nss"].of(m), atol=1e-9)
    assert not np.allclose(base["share"].of(m), moved["share"].of(m), atol=1e-6)
    order = rng.permutation(64)
    shuffled = functionals(s[:, order], 48)
    for name in base:
        np.testing.assert_allclose(
            base[name].of(m), shuffled[name].of(m[:, order]), atol=1e-9, err_msg=name
        )


def test_known_masks() -> None:
    """Half, checkerboard, centre block, ring and oracle against a ramp and a centre map."""
    ramp = np.tile(np.arange(1.0, 9), (8, 1)).reshape(1, -1)  # brighter to the right
    y, x = np.mgrid[:8, :8]
    centre = np.exp(-((y - 3.5) ** 2 + (x - 3.5) ** 2) / 8).reshape(1, -1)
    right = (x >= 4).reshape(1, -1)
    board = ((x + y) % 2 == 0).reshape(1, -1)
    block = ((np.abs(y - 3.5) < 2) & (np.abs(x - 3.5) < 2)).reshape(1, -1)
    ring = ~block
    for s, m, known in (
        (ramp, right, 1), (ramp, ~right, 0), (ramp, board, 0.5),
        (centre, board, 0.5), (centre, block, 1), (centre, ring, 0),
    ):  # fmt: skip
        auc = functionals(s, int(m.sum()))["auc"]
        assert auc.of(m)[0] == pytest.approx(known, abs=1e-12), m.reshape(8, 8)
    share = functionals(ramp, 32)["share"].of(right)[0]
    assert share == pytest.approx((5 + 6 + 7 + 8) / 36)
    rng = np.random.default_rng(0)
    s = maps(rng, 5, 64)
    oracle = np.zeros((5, 64), bool)
    np.put_along_axis(oracle, s.argsort(axis=1)[:, -48:], values=True, axis=1)
    np.testing.assert_allclose(functionals(s, 48)["auc"].of(oracle), 1)
    np.testing.assert_allclose(functionals(s, 16)["auc"].of(~oracle), 0, atol=1e-12)


def test_coverage_of_objects() -> None:
    tokens = np.zeros((4, 16), bool)
    tokens[0, :4] = tokens[1, :8] = tokens[3] = True
    masks = np.zeros((4, 16), bool)
    masks[:, 2:10] = True
    metric, some = coverage(tokens)
    assert some.tolist() == [True, True, False, False]  # empty, and all object: nothing to cover
    assert metric.of(masks[some]).tolist() == [0.5, 6 / 8]
    null = nulls.uniform(metric, 8)
    assert null.mean == pytest.approx(0.5)
    law = [8 * (k / 16) * (1 - k / 16) * 8 / 15 / k**2 for k in (4, 8)]  # hypergeometric
    assert null.deviation == pytest.approx(np.sqrt(sum(law)) / 2)


def test_shuffled_auc_by_pairs() -> None:
    rng = np.random.default_rng(2)
    s, m = maps(rng, 5, 12, ties=True), random(rng, 5, 3, 4, 7)
    ours = shuffled_auc(s, m).of(m)
    for n in range(5):
        negatives = np.concatenate([s[n][m[j]] for j in range(5) if j != n])
        pairs = list(product(s[n][m[n]], negatives))
        by_hand = np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs])
        assert ours[n] == pytest.approx(by_hand, abs=1e-12)


def test_a_centre_only_strategy_is_no_content() -> None:
    """AUC above 1/2 on centred maps, shuffled AUC 1/2, content gap 0 within its null."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:8, :8]
    near = np.exp(-((y - 3.5) ** 2 + (x - 3.5) ** 2) / 8).ravel()
    s = near * rng.lognormal(sigma=0.5, size=(400, 64))
    noisy = near + 0.3 * rng.random((400, 64))
    m = np.zeros((400, 64), bool)
    np.put_along_axis(m, noisy.argsort(axis=1)[:, -32:], values=True, axis=1)
    found = functionals(s, 32)
    assert found["auc"].of(m).mean() > 0.75
    gap = found["gap"].of(m).mean()
    null = nulls.shuffle(found["gap"], m)
    assert abs(gap) < 3 * null.deviation
    assert abs(shuffled_auc(s, m).of(m).mean() - 0.5) < 0.005
    looking = np.zeros((400, 64), bool)
    np.put_along_axis(looking, s.argsort(axis=1)[:, -32:], values=True, axis=1)
    assert found["gap"].of(looking).mean() > 50 * null.deviation


def test_uniform_null_by_enumeration() -> None:
    rng = np.random.default_rng(4)
    s = maps(rng, 1, 8, ties=True)
    every = np.zeros((70, 8), bool)
    for row, hidden in zip(every, combinations(range(8), 4), strict=True):
        row[list(hidden)] = True
    for name, metric in functionals(s, 4).items():
        values = every @ metric.weights[0] + metric.offset[0]
        null = nulls.uniform(metric, 4)
        assert null.mean == pytest.approx(values.mean(), abs=1e-9), name
        assert null.deviation == pytest.approx(values.std(), abs=1e-9), name


@pytest.mark.parametrize("rows", [4, 3])
def test_torus_null_by_enumeration(rows: int) -> None:
    rng = np.random.default_rng(5)
    columns = 12 // rows
    s, m = maps(rng, 3, 12), random(rng, 3, rows, columns, 5)
    metric = functionals(s, 5)["nss"]
    variances, means = [], []
    for n in range(3):
        grid = m[n].reshape(rows, columns)
        values = [
            np.roll(turned, (dy, dx), (0, 1)).ravel() @ metric.weights[n] + metric.offset[n]
            for turned in (grid, grid[::-1], grid[:, ::-1], grid[::-1, ::-1])
            for dy in range(rows)
            for dx in range(columns)
        ]
        variances.append(np.var(values))
        means.append(np.mean(values))
    null = nulls.torus(metric, m, rows)
    assert null.mean == pytest.approx(np.mean(means), abs=1e-12)
    assert null.deviation == pytest.approx(np.sqrt(sum(variances)) / 3, rel=1e-9)


def test_shuffle_null_by_enumeration() -> None:
    from itertools import permutations

    rng = np.random.default_rng(6)
    s, m = maps(rng, 5, 12), random(rng, 5, 3, 4, 5)
    metric = functionals(s, 5)["auc"]
    means = []
    for order in permutations(range(5)):
        some = list(order)
        values = (m * metric.weights[some]).sum(axis=1) + metric.offset[some]
        means.append(values.mean())
    null = nulls.shuffle(metric, m)
    assert null.mean == pytest.approx(np.mean(means), abs=1e-12)
    assert null.deviation == pytest.approx(np.std(means), rel=1e-9)


def test_p_values_agree_with_999_draws() -> None:
    """The closed form against Monte Carlo, (1 + hits) / (B + 1), for a mild effect."""
    rng = np.random.default_rng(7)
    s = maps(rng, 60, 64)
    m = np.zeros((60, 64), bool)
    lured = 0.08 * standardised(s) + rng.gumbel(size=(60, 64))
    np.put_along_axis(m, lured.argsort(axis=1)[:, -32:], values=True, axis=1)
    metric = functionals(s, 32)["auc"]
    found = metric.of(m).mean()
    drawn = [metric.of(random(rng, 60, 8, 8, 32)).mean() for _ in range(999)]
    hits = int((np.abs(np.array(drawn) - 0.5) >= abs(found - 0.5)).sum())
    p = nulls.uniform(metric, 32).p(found)
    assert p is not None
    error = np.sqrt(p * (1 - p) / 999)
    assert abs((1 + hits) / 1000 - p) < 4 * error + 0.002


def test_where_one_value_alone_is_possible_nothing_is_tested() -> None:
    rng = np.random.default_rng(8)
    s = np.tile(maps(rng, 1, 16), (6, 1))
    m = random(rng, 6, 4, 4, 8)
    metric = functionals(s, 8)["auc"]
    assert nulls.shuffle(metric, m).p(metric.of(m).mean()) is None  # the same map in every image
    assert nulls.uniform(metric, 8).p(0.6) is not None
    fixed = np.tile(m[:1], (6, 1))
    own = functionals(maps(rng, 6, 16), 8)["auc"]
    assert nulls.shuffle(own, fixed).p(0.5) is None  # the same mask on every image


def test_benjamini_hochberg_leaves_gaps_alone() -> None:
    assert nulls.adjusted([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.04, 0.04])
    assert nulls.adjusted([None]) == [None]
