"""A study as a whole: which way masks and moments go, and what does not fit together."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import make_job
from numpy.typing import NDArray

from maskbench import registry
from maskbench.analysis.agreement import Source
from maskbench.analysis.study import Moment, study
from maskbench.errors import StrategyError

SIDE, HIDDEN, IMAGES = 8, 48, 40


def source(seed: int = 0) -> Source:
    maps = np.random.default_rng(seed).lognormal(size=(IMAGES, SIDE**2))
    return Source("edges", maps, np.ones(IMAGES, bool))


def moment(share: float, scores: NDArray[np.float64], hidden: int = HIDDEN, **more: Any) -> Moment:
    """Hides the highest scores."""
    masks = np.zeros((IMAGES, SIDE**2), bool)
    np.put_along_axis(masks, scores.argsort(axis=1)[:, -hidden:], values=True, axis=1)
    return Moment(share, int(100 * share), masks.reshape(IMAGES, SIDE, SIDE), **more)


def test_from_hiding_what_is_dull_to_hiding_what_is_salient() -> None:
    edges = source()
    hard = np.stack([np.full(IMAGES, 1.2), np.ones(IMAGES)])
    easy = np.stack([np.full(IMAGES, 0.9), np.ones(IMAGES)])
    moments = [
        moment(0.0, -edges.maps, losses=easy, frozen=hard, schedule=1.0),
        moment(1.0, edges.maps, losses=hard, frozen=easy, schedule=-1.0),
    ]
    found = study(moments, [edges])
    auc = [row["value"] for row in found.tables["saliency"] if row["metric"] == "auc"]
    assert auc == pytest.approx([0, 1], abs=1e-12)
    (rise,) = (r for r in found.tables["trends"] if r["of"] == "auc, edges")
    assert rise["value"] == pytest.approx(1)
    gaps = {(r["moment"], r["quantity"]): r["value"] for r in found.tables["drift"]}
    assert gaps[0, "difficulty gap"] == pytest.approx(-0.1)
    assert gaps[1, "difficulty gap"] == pytest.approx(0.2)
    assert gaps[1, "difficulty frozen gap"] == pytest.approx(-0.1)
    assert [gaps[0, "lambda"], gaps[1, "lambda"]] == [1, -1]
    np.testing.assert_allclose(found.frequency[1], moments[1].hidden.mean(axis=0))


def test_what_does_not_fit_together_is_named() -> None:
    edges = source()
    one = moment(0.0, edges.maps)
    other = replace(one, share=1.0, step=100, hidden=one.hidden[:, :4])
    with pytest.raises(ValueError, match="another grid or other images at step 100"):
        study([one, other], [edges])
    with pytest.raises(ValueError, match=r"the maps of edges are \(40, 16\)"):
        study([one], [replace(edges, maps=edges.maps[:, :16])])
    uneven = one.hidden.copy()
    uneven[0, 0, 0] ^= True
    with pytest.raises(ValueError, match="do not all hide as many"):
        study([replace(one, hidden=uneven)], [edges])


def test_another_ratio_at_another_moment_has_its_own_nulls() -> None:
    edges = source()
    found = study([moment(0.0, edges.maps, 16), moment(1.0, edges.maps, 48)], [edges])
    shares = [row["uniform"] for row in found.tables["saliency"] if row["metric"] == "share"]
    assert shares == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize("keep", [1.5, -0.1, float("nan"), None])
def test_keep_probabilities_are_checked(keep: float | None) -> None:
    class Odd(registry.load("random")):  # type: ignore[misc]
        def keep(self, batch: Any, context: Any) -> Any:
            noise = context.uniform("keep", batch)
            return noise[:, :3] if keep is None else noise * 0 + keep

    job = make_job(Odd())
    with pytest.raises(StrategyError, match=r"keep.*probabilities of shape"):
        job.keep(job.batch(0), job.context(0))
    plain = make_job("random")
    assert plain.keep(plain.batch(0), plain.context(0)) is None
