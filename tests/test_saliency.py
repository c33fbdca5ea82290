"""Rows of the saliency table: gaps by their names, and random masks as the self-test."""

import numpy as np
import pytest
from test_agreement import maps, random

from maskbench.analysis import saliency
from maskbench.analysis.agreement import Source
from maskbench.analysis.saliency import Prepared


def test_gaps_are_named_and_the_rest_is_computed() -> None:
    rng = np.random.default_rng(9)
    s, m = maps(rng, 6, 16), random(rng, 6, 4, 4, 8)
    s[1] = 0.7  # constant
    known = np.array([True, True, True, True, True, False])
    nobody = Source("objects", np.zeros((6, 16)), np.zeros(6, bool))
    tokens = s > np.median(s, axis=1, keepdims=True)
    tokens[2] = False
    rows = saliency.rows(0, m, [Prepared(Source("edges", s, known, tokens)), Prepared(nobody)], 4)
    by_metric = {(row.source, row.metric): row for row in rows}
    auc = by_metric["edges", "auc"]
    assert np.isnan(auc.values).tolist() == [False, True, False, False, False, True]
    assert auc.interval.images == 4
    assert auc.undefined == 2
    assert "1 of 6 images have no such map" in auc.note
    assert "1 of 5 are constant" in auc.note
    covered = by_metric["edges", "coverage"]
    assert covered.interval.images == 3
    assert "2 of 5 are empty or full" in covered.note
    nothing = by_metric["objects", ""]
    assert nothing.interval.mean is None
    assert "6 of 6 images have no such map" in nothing.note
    assert saliency.adjusted(rows)[-1]["p_uniform"] is None


@pytest.mark.slow
def test_random_masks_lie_in_the_null_band_at_its_rate() -> None:
    """500 sets of 64 random masks: every metric outside of its 95 % band in 5 % +- 4 errors."""
    rng = np.random.default_rng(10)
    s = maps(rng, 64, 64)
    tokens = s > np.quantile(s, 0.7, axis=1, keepdims=True)
    source = Prepared(Source("made up", s, np.ones(64, bool), tokens))
    outside: dict[tuple[str, str], list[bool]] = {}
    for _ in range(500):
        for row in saliency.rows(0, random(rng, 64, 8, 8, 48), [source], 8):
            for test, null in row.nulls.items():
                p = null.p(row.interval.mean) if null and row.interval.mean is not None else None
                assert p is not None
                outside.setdefault((row.metric, test), []).append(p < 0.05)
    assert len(outside) == 3 * 10 + 1
    assert ("sauc", "shuffle") in outside
    rates = {key: np.mean(values) for key, values in outside.items()}
    allowed = 4 * np.sqrt(0.05 * 0.95 / 500)
    assert all(abs(rate - 0.05) < allowed for rate in rates.values()), rates
