"""Two-level intervals: coverage under made-up seeds and images, and their corners."""

import numpy as np
import pytest
from scipy import stats

from maskbench.analysis.intervals import two_level


@pytest.mark.parametrize(
    ("seeds", "spread"), [(1, (0.0, 1.0, 0.5)), (3, (1.0, 0.3, 0.5)), (3, (0.02, 1.0, 1.0)),
                          (5, (0.1, 1.0, 1.0))]
)  # fmt: skip
def test_coverage(seeds: int, spread: tuple[float, float, float]) -> None:
    """Of 2,000 made-up studies, 95 % of the intervals hold the truth, or a little more."""
    rng = np.random.default_rng(0)
    of_seed, of_image, rest = spread
    hits, count, images = 0, 2000, 40
    for _ in range(count):
        values = (
            3
            + of_seed * rng.normal(size=(seeds, 1))
            + of_image * rng.normal(size=(1, images))
            + rest * rng.normal(size=(seeds, images))
        )
        found = two_level(values)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 3 <= found.high
    assert 0.935 < hits / count < 0.985


def test_one_seed_is_the_t_interval_over_images() -> None:
    values = np.random.default_rng(1).normal(size=(1, 30))
    found = two_level(values, 0.4)
    test = stats.ttest_1samp(values[0], 0.4)
    low, high = test.confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p == pytest.approx(test.pvalue)
    assert (found.seeds, found.images) == (1, 30)


def test_differing_seeds_widen_it() -> None:
    values = np.random.default_rng(2).normal(size=(1, 200))
    alike = two_level(np.repeat(values, 3, axis=0))
    apart = two_level(values + np.array([[-0.5], [0.0], [0.5]]))
    assert alike.high is not None
    assert apart.high is not None
    assert alike.mean is not None
    assert apart.high - alike.mean > 4 * (alike.high - alike.mean)
    over_seeds = stats.t.ppf(0.975, 2) * 0.5 / 3**0.5
    assert apart.high - alike.mean == pytest.approx(over_seeds, rel=0.1)


def test_images_without_a_value_are_left_out_for_all_seeds() -> None:
    values = np.arange(8.0).reshape(2, 4)
    values[1, 2] = np.nan
    found = two_level(values)
    assert found.mean == pytest.approx(values[:, [0, 1, 3]].mean())
    assert found.images == 3
    nothing = two_level(np.full((2, 3), np.nan))
    assert (nothing.mean, nothing.low, nothing.images) == (None, None, 0)
    single = two_level(np.array([[2.0]]))
    assert (single.mean, single.low, single.p) == (2, None, None)
    same = two_level(np.ones((2, 5)))
    assert (same.low, same.high, same.p) == (1, 1, None)
