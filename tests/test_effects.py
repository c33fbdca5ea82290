"""Coefficients that draw masks: known ones are found, what cannot be estimated is named."""

import numpy as np
import pytest
from numpy.typing import NDArray

from maskbench.analysis.agreement import standardised
from maskbench.analysis.effects import effects


def drawn(rng: np.random.Generator, pull: NDArray[np.float64], hidden: int) -> NDArray[np.bool_]:
    """Masks by Gumbel top-k: sampling without replacement, log-linear in the pull."""
    masks = np.zeros(pull.shape, bool)
    order = (pull + rng.gumbel(size=pull.shape)).argsort(axis=1)
    np.put_along_axis(masks, order[:, -hidden:], values=True, axis=1)
    return masks


def test_objects_or_texture() -> None:
    """Two maps that go together, one of which draws the mask: the other gets nothing."""
    rng = np.random.default_rng(0)
    edges = rng.normal(size=(300, 64))
    objects = 0.8 * edges + 0.6 * rng.normal(size=(300, 64))
    masks = drawn(rng, 0.7 * standardised(objects), 32)
    found = {one.covariate: one for one in effects(masks, {"objects": objects, "edges": edges})}
    assert found["objects"].low is not None
    assert found["objects"].low > 0.3
    assert found["edges"].low is not None
    assert found["edges"].high is not None
    assert found["edges"].low < 0 < found["edges"].high
    turned = {o.covariate: o for o in effects(~masks, {"objects": objects, "edges": edges})}
    assert turned["objects"].value == pytest.approx(-(found["objects"].value or 0), abs=1e-6)


def test_it_is_nearly_the_conditional_logit() -> None:
    """statsmodels' conditional model conditions on the count exactly (small masks only)."""
    from statsmodels.discrete.conditional_models import ConditionalLogit

    rng = np.random.default_rng(1)
    s = standardised(rng.normal(size=(150, 16)))
    masks = drawn(rng, 0.5 * s, 6)
    groups = np.repeat(np.arange(150), 16)
    exact = ConditionalLogit(masks.ravel().astype(float), s.reshape(-1, 1), groups=groups).fit(
        disp=0
    )
    (ours,) = effects(masks, {"s": s})
    assert ours.value == pytest.approx(exact.params[0], rel=0.1)


def test_random_masks_reject_at_the_nominal_rate() -> None:
    rng = np.random.default_rng(2)
    s = {"a": rng.normal(size=(40, 25)), "b": rng.normal(size=(40, 25))}
    p = [
        one.p
        for _ in range(200)
        for one in effects(drawn(rng, np.zeros((40, 25)), 15), s)
        if one.p is not None
    ]
    assert len(p) == 400
    assert abs(np.mean(np.array(p) < 0.05) - 0.05) < 4 * (0.05 * 0.95 / 400) ** 0.5


def test_what_cannot_be_estimated_is_named() -> None:
    rng = np.random.default_rng(3)
    s = np.stack([rng.permutation(16.0 + np.arange(16)) for _ in range(20)])
    oracle = np.zeros((20, 16), bool)
    np.put_along_axis(oracle, s.argsort(axis=1)[:, -8:], values=True, axis=1)
    (separated,) = effects(oracle, {"s": s})
    assert separated.value is None
    assert "exactly what is hidden" in separated.note
    both = effects(drawn(rng, 0 * s, 8), {"s": s, "twice": 2 * s + 1})
    assert [one.value for one in both] == [None, None]
    assert "go together" in both[0].note
    assert effects(oracle[:1], {"s": s[:1]})[0].note == "fewer than two images"
    assert effects(oracle, {}) == []
