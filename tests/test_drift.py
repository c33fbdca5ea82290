"""Drift of masks over training: known answers, and what chance gives."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from maskbench.analysis import drift
from maskbench.analysis.geometry import random_masks


def test_turnover_is_0_frozen_1_redrawn_and_more_when_inverted() -> None:
    rng = np.random.default_rng(0)
    masks, anew = (random_masks(8, 8, 48, 2000, rng).reshape(2000, -1) for _ in range(2))
    assert drift.turnover(masks, masks).max() == 0
    assert drift.turnover(masks, anew).mean() == pytest.approx(1, abs=0.01)
    half = random_masks(8, 8, 32, 10, rng).reshape(10, -1)
    assert drift.turnover(half, ~half).tolist() == [2] * 10
    more = random_masks(8, 8, 56, 2000, rng).reshape(2000, -1)  # the ratio moves, too
    assert drift.turnover(masks, more).mean() == pytest.approx(1, abs=0.02)


def test_map_drift_is_scipys_and_its_null_what_chance_gives() -> None:
    rng = np.random.default_rng(1)
    one, other = (random_masks(8, 8, 40, 300, rng).reshape(300, -1) for _ in range(2))
    found, _ = drift.map_drift(one, other)
    assert found == pytest.approx(jensenshannon(one.mean(0), other.mean(0), base=2) ** 2)
    pairs = [
        drift.map_drift(*(random_masks(8, 8, 40, 300, rng).reshape(300, -1) for _ in range(2)))
        for _ in range(200)
    ]
    assert np.mean([value for value, _ in pairs]) == pytest.approx(pairs[0][1], rel=0.05)
    left = np.zeros((5, 64), bool)
    left[:, :32] = True
    assert drift.map_drift(left, ~left)[0] == pytest.approx(1)
    assert drift.map_drift(left, left)[0] == 0


def test_gap_of_losses() -> None:
    losses = np.array([[1.1, 2.2, 3.3], [1.0, 2.0, 3.0]])
    value, error = drift.gap(losses)
    assert value == pytest.approx(0.1)
    assert error == pytest.approx(0, abs=1e-12)
    assert drift.gap(losses[::-1])[0] == pytest.approx(-1 / 11)
    assert np.isnan(drift.gap(losses[:, :1])[1])


def test_following_a_schedule() -> None:
    falling = [1.0, 0.5, 0.0, -0.5, -1.0]
    assert drift.following(falling, [0.0, 0.1, 0.2, 0.3, 0.9]).rho == pytest.approx(-1)
    assert drift.following(falling, [5.0, 4.0, 3.0, 2.0, 1.0]).rho == pytest.approx(1)
    assert drift.following([1.0] * 5, [5.0, 4.0, 3.0, 2.0, 1.0]).rho is None
    assert drift.following(falling[:2], [1.0, 2.0]).rho is None


def test_slope_and_page() -> None:
    assert drift.slope([0.0, 0.5, 1.0], [1.0, 2.0, 3.0]) == pytest.approx(2)
    assert drift.slope([0.5], [1.0]) is None
    rising = np.array([[1.0, 2, 3, 4], [2.0, 3, 4, 6], [0.0, 1, 2, 5]])
    p = drift.page(rising)
    assert p is not None
    assert p < 0.01
    back = drift.page(rising[:, ::-1])
    assert back is not None
    assert back > 0.9
    assert drift.page(rising[:1]) is None
