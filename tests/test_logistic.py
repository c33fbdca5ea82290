"""Logistic regression: scikit-learn's optimum, whatever else is solved beside it."""

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from maskbench.probes import logistic
from maskbench.probes.features import standardise
from maskbench.probes.logistic import Fits, solve

CLASSES = 5


def clusters(count: int, width: int, distance: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated clusters, z-scored, as features are: (count, width) and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    mixed = np.random.default_rng(99).normal(size=(width, width)) / np.sqrt(width)
    features = rng.normal(size=(count, width)) + distance * np.eye(width)[labels]
    return torch.from_numpy(standardise(features @ mixed)[0]), torch.from_numpy(labels)


def oracle(
    features: Tensor, labels: Tensor, strength: float, weights: Tensor | None = None
) -> tuple[LogisticRegression, float]:
    """Scikit-learn's fit, as exact as it gets, and its objective."""
    rows, names = features.numpy(), labels.numpy()
    share = np.ones(len(rows)) if weights is None else weights.numpy()
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=20000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows, names, sample_weight=share)
    known = np.searchsorted(model.classes_, names)
    lost = -model.predict_log_proba(rows)[np.arange(len(rows)), known]
    return model, 0.5 * (model.coef_**2).sum() + strength * (lost * share).sum()


def scores(fits: Fits, queries: Tensor) -> Tensor:
    """(problems, strengths, classes, queries)."""
    return fits.weights @ queries.mT + fits.intercepts[..., None]


def fitted(features: Tensor, labels: Tensor, rows: Tensor, *strengths: float, **more: Any) -> Fits:
    exact = torch.tensor(strengths, dtype=torch.float64)
    return solve(features, labels, rows, CLASSES, strengths=exact, **more)


def agree(fits: Fits, at: tuple[int, int], expected: Any, queries: Tensor) -> None:
    model, objective = expected
    assert fits.converged[at]
    assert fits.loss[at].item() == pytest.approx(objective, rel=1e-4)
    found = scores(fits, queries)[at].argmax(0).numpy()
    assert (found == model.predict(queries.numpy())).mean() >= 0.999
    chances = scores(fits, queries)[at].softmax(0).T[:, model.classes_].numpy()
    np.testing.assert_allclose(chances, model.predict_proba(queries.numpy()), atol=5e-4)


@pytest.mark.parametrize("distance", [0.0, 2.0, 40.0])
@pytest.mark.parametrize("shots", [1, 4, 16])
def test_it_is_scikit_learns_optimum(shots: int, distance: float) -> None:
    """From noise to separable, with fewer rows than dimensions and with more."""
    pool, labels = clusters(400, 30, distance)
    queries, _ = clusters(1000, 30, distance, seed=1)
    rows = torch.stack([torch.arange(CLASSES * shots) + 80 * draw for draw in range(3)])
    strengths = (0.1, 10.0, 1000.0)
    fits = fitted(pool, labels, rows, *strengths)
    for draw, chosen in enumerate(rows):
        for at, strength in enumerate(strengths):
            expected = oracle(pool[chosen], labels[chosen], strength)
            agree(fits, (draw, at), expected, queries)


def test_two_classes_and_an_absent_one() -> None:
    """Two are one sigmoid to scikit-learn, not a softmax; what was not seen is never found."""
    pool, labels = clusters(200, 12, 1.5)
    queries, _ = clusters(500, 12, 1.5, seed=1)
    for seen in ((1, 3), (0, 2, 4)):
        chosen = torch.isin(labels, torch.tensor(seen)).nonzero()[:30, 0]
        fits = fitted(pool, labels, chosen[None], 50.0)
        agree(fits, (0, 0), oracle(pool[chosen], labels[chosen], 50.0), queries)
        absent = [name for name in range(CLASSES) if name not in seen]
        assert (fits.intercepts[0, 0, absent] == -torch.inf).all()
        assert scores(fits, queries).isnan().sum() == 0


def test_rows_weigh_what_they_are_given_and_nothing_else() -> None:
    """Ragged problems are filled up with rows that weigh nothing, also of absent classes."""
    pool, labels = clusters(300, 20, 1.0)
    queries, _ = clusters(500, 20, 1.0, seed=1)
    rows = torch.arange(120).reshape(3, 40)
    weights = torch.from_numpy(np.random.default_rng(0).uniform(0.2, 3, (3, 40)))
    weights[1, 25:] = 0
    weights[2, labels[rows[2]] == 3] = 0
    fits = fitted(pool, labels, rows, 30.0, weights=weights)
    for problem in range(3):
        some = weights[problem] > 0
        chosen = rows[problem, some]
        expected = oracle(pool[chosen], labels[chosen], 30.0, weights[problem, some])
        agree(fits, (problem, 0), expected, queries)


@pytest.mark.parametrize("memory", [0, 10**6])
def test_problems_do_not_know_of_each_other(memory: int) -> None:
    """Together, one by one, in pieces and in another order: the same."""
    pool, labels = clusters(400, 30, 1.0)
    rows = torch.arange(160).reshape(8, 20)
    whole = fitted(pool, labels, rows, 1.0, 100.0)
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    alone = [fitted(pool, labels, row[None], 1.0, 100.0).weights for row in rows]
    torch.testing.assert_close(torch.cat(alone), whole.weights, rtol=1e-6, atol=1e-6)
    for other, same in (
        (fitted(pool, labels, rows, 1.0, 100.0, memory=memory), torch.arange(8)),
        (fitted(pool, labels, rows[order], 1.0, 100.0), order),
    ):
        torch.testing.assert_close(other.weights, whole.weights[same], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(other.loss, whole.loss[same])
    again = fitted(pool, labels, rows, 1.0, 100.0)
    assert (again.weights == whole.weights).all()
    assert (again.iterations == whole.iterations).all()


def test_the_gradient_is_zero_where_it_ends() -> None:
    """By autograd, in the caller's coordinates: weights held by the penalty, intercepts by none."""
    pool, labels = clusters(300, 40, 1.0)
    rows, strengths = torch.arange(300).reshape(5, 60), torch.tensor([1.0, 100.0]).double()
    fits = solve(pool + 0.7, labels, rows, CLASSES, strengths=strengths)
    weights, intercepts = (
        part.clone().requires_grad_() for part in (fits.weights, fits.intercepts)
    )
    logits = weights @ (pool + 0.7)[rows].mT[:, None] + intercepts[..., None]
    answers = labels[rows][:, None].expand(-1, 2, -1)
    losses = torch.nn.functional.cross_entropy(logits.movedim(2, 1), answers, reduction="none")
    objective = losses.sum(2) * strengths + 0.5 * (weights**2).sum((2, 3))
    torch.testing.assert_close(objective, fits.loss)
    objective.sum().backward()  # type: ignore[no-untyped-call]
    for part in (weights, intercepts):
        assert part.grad is not None
        steep = part.grad.flatten(2).norm(dim=2) / (strengths * rows.shape[1])
        assert steep.max() < 1.01 * logistic.TOLERANCE
    assert fits.weights.abs().max() > 0.1


def test_less_penalty_less_training_loss() -> None:
    pool, labels = clusters(300, 30, 1.0)
    fits = fitted(pool, labels, torch.arange(100)[None], *np.logspace(-3, 4, 15))
    penalty = 0.5 * (fits.weights**2).sum((2, 3))[0]
    lost = (fits.loss[0] - penalty) / torch.logspace(-3, 4, 15, dtype=torch.float64)
    assert (lost.diff() < 0).all()
    assert (penalty.diff() > 0).all()


def test_not_converging_is_said() -> None:
    pool, labels = clusters(100, 30, 1.0)
    fits = fitted(pool, labels, torch.arange(100).reshape(2, 50), 100.0, max_iterations=1)
    assert not fits.converged.any()
    assert (fits.iterations == 1).all()
    assert fits.loss.isfinite().all()
    one = torch.zeros_like(labels)
    same = fitted(pool, one, torch.arange(100)[None], 100.0)
    assert (same.converged & (same.loss == 0) & (same.iterations == 0)).all()


def test_a_tolerance_that_cannot_be_met_ends_all_the_same() -> None:
    pool, labels = clusters(100, 30, 1.0)
    fits = fitted(pool, labels, torch.arange(100).reshape(2, 50), 100.0, tolerance=0.0)
    assert not fits.converged.any()
    assert (fits.iterations < 2000).all()
    usual = fitted(pool, labels, torch.arange(100).reshape(2, 50), 100.0)
    torch.testing.assert_close(fits.loss, usual.loss, rtol=1e-6, atol=0)


def test_shuffled_labels_give_chance() -> None:
    pool, labels = clusters(400, 30, 3.0)
    queries, answers = clusters(1000, 30, 3.0, seed=1)
    shuffled = labels[torch.from_numpy(np.random.default_rng(0).permutation(400))]
    found = scores(fitted(pool, shuffled, torch.arange(400).reshape(4, 100), 100.0), queries)
    right = (found.argmax(2) == answers).double().mean(2)
    assert abs(right.mean() - 1 / CLASSES) < 3 * np.sqrt(0.16 / 1000)


@settings(max_examples=6, deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e3), st.integers(0, 99))
def test_offset_and_scale_change_nothing(offset: float, scale: float, seed: int) -> None:
    raw = np.random.default_rng(seed).normal(size=(80, 10))
    labels = torch.arange(80) % CLASSES
    raw[np.arange(80), labels] += 1.0
    found = []
    for features in (raw, raw * scale + offset):
        pool = torch.from_numpy(standardise(features)[0])
        fits = fitted(pool, labels, torch.arange(60).reshape(2, 30), 100.0)
        found.append(scores(fits, pool[60:]).softmax(2))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=2e-3)


def test_dimensions_that_say_nothing_are_harmless() -> None:
    """Constant, repeated and tiny ones: the rows span fewer dimensions than there are."""
    pool, labels = clusters(100, 6, 1.0)
    wide = torch.cat([pool, pool, torch.ones(100, 3), 1e-9 * pool], 1)
    for rows in (torch.arange(10), torch.arange(60)):
        fits = fitted(wide, labels, rows[None], 100.0)
        agree(fits, (0, 0), oracle(wide[rows], labels[rows], 100.0), wide)


BIG = """
import torch
from maskbench.machine import peak_memory
from maskbench.probes.logistic import solve
rng = torch.Generator().manual_seed(0)
labels = torch.arange(16000) % 1000
pool = torch.randn(1000, 768, generator=rng, dtype=torch.float64)[labels]
pool = (pool + torch.randn(16000, 768, generator=rng, dtype=torch.float64)) / 39
rows = torch.arange(16000)[None]
strengths = torch.tensor([100.0, 10.0], dtype=torch.float64)
fits = solve(pool, labels, rows, 1000, strengths=strengths, max_iterations=6)
right = (pool @ fits.weights[0, 0].mT + fits.intercepts[0, 0]).argmax(1) == labels
print(peak_memory('cpu')['host'], right.double().mean().item())
"""


@pytest.mark.slow
def test_a_thousand_classes_fit_into_four_gigabytes() -> None:
    done = subprocess.run([sys.executable, "-c", BIG], capture_output=True, text=True, check=True)
    peak, right = map(float, done.stdout.split())
    assert peak < 4 * 2**30
    assert right > 0.9
    assert [part.start for part in logistic.pieces(5, 2**29, 2**30)] == [0, 2, 4]
