"""Few-shot rows: draws, measures, sensitivity, and the curve's one number."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss

from maskbench.probes import fewshot
from maskbench.probes.features import standardise
from maskbench.probes.fewshot import draws_of, few_shot, fs_aulc, full_data, subsets
from maskbench.probes.measures import accuracies, calibration

CLASSES = ("ant", "bee", "cat")
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Data = tuple[Floats, Floats, Labels, Labels]


@pytest.fixture(scope="module")
def data() -> Data:
    """Train and test features in 8 dimensions, train and test labels; test classes are uneven."""
    rng = np.random.default_rng(0)
    labels, answers = np.arange(120) % 3, (np.arange(200) % 7).clip(max=2)
    train, test = (rng.normal(size=(len(some), 8)) + np.eye(8)[some] for some in (labels, answers))
    return train, test, labels, answers


def drawn(labels: Labels, draws: int = 3) -> list[fewshot.Subset]:
    ids = [str(i) for i in range(len(labels))]
    return draws_of(ids, labels, CLASSES, dataset="toy", draws=draws)


def test_one_shot_has_twice_the_draws(data: Data) -> None:
    ids, labels = [str(i) for i in range(120)], data[2]
    draws = draws_of(ids, labels, CLASSES, dataset="toy")
    assert [list(subset) for subset in draws] == [[1, 2, 4, 8, 16]] * 10 + [[1]] * 10
    for draw, subset in enumerate(draws):
        whole = subsets(ids, labels, CLASSES, dataset="toy", draw=draw)
        assert all((chosen == whole[shots]).all() for shots, chosen in subset.items())
        assert all(set(whole[a]) < set(whole[b]) for a, b in ((1, 2), (2, 4), (4, 8), (8, 16)))
    assert len({tuple(subset[1]) for subset in draws}) == 20
    assert len(draws_of(ids, labels, CLASSES, dataset="toy", shots=(2, 4))) == 10
    short = draws_of(ids[:3], labels[:3], CLASSES, dataset="toy", draws=1, shots=(1, 2))
    assert [list(subset) for subset in short] == [[1], [1]]


def test_every_row_is_scikit_learns(data: Data) -> None:
    """Accuracy, balanced accuracy and log loss of every fit, with and without sensitivity."""
    train, test, labels, answers = data
    draws = drawn(labels)
    rows = few_shot(*data, draws=draws, sensitivity=True)
    names = ["logreg", "logreg-C/10", "logreg-Cx10", "ncm"]
    assert [row["probe"] for row in rows] == names * (3 * 5 + 3)
    pool, queries = standardise(train, test)
    for row in rows:
        chosen = draws[row["draw"]][row["shots"]]
        assert row["n_train"] == len(chosen) == 3 * row["shots"]
        if row["probe"] == "ncm":
            assert {"nll", "C", "n_iter"}.isdisjoint(row)
            continue
        assert row["C"] == {"logreg": 300, "logreg-C/10": 30, "logreg-Cx10": 3000}[row["probe"]]
        model = LogisticRegression(C=row["C"], tol=1e-9, max_iter=9999)
        model.fit(pool[chosen], labels[chosen])
        found = model.predict(queries)
        assert row["converged"]
        assert row["accuracy"] == pytest.approx((found == answers).mean())
        assert row["macro_accuracy"] == pytest.approx(balanced_accuracy_score(answers, found))
        expected = log_loss(answers, model.predict_proba(queries))
        assert row["nll"] == pytest.approx(expected, rel=1e-3)
        assert 0 < row["ece"] < 1
    plain = [row for row in rows if row["probe"] in ("logreg", "ncm")]
    for one, other in zip(few_shot(*data, draws=draws), plain, strict=True):
        assert one.pop("probe") == other.pop("probe")
        assert one == pytest.approx(other, rel=1e-3)


def test_ragged_subsets_and_absent_classes(data: Data) -> None:
    train, test, labels, answers = data
    draws = [{2: np.array([0, 3, 1, 4])}, {2: np.array([0, 3, 6, 2, 5])}]
    pool, queries = standardise(train, test)
    rows = few_shot(*data, draws=draws)
    for row, chosen in zip(rows[::2], (draws[0][2], draws[1][2]), strict=True):
        model = LogisticRegression(C=300, tol=1e-9, max_iter=9999)
        found = model.fit(pool[chosen], labels[chosen]).predict(queries)
        assert row["accuracy"] == pytest.approx((found == answers).mean())
        assert row["nll"] > 36 * (~np.isin(answers, labels[chosen])).mean()
        assert np.isfinite(row["nll"])
    for row, chosen in zip(rows[1::2], (draws[0][2], draws[1][2]), strict=True):
        names = np.unique(labels[chosen])
        means = np.stack([pool[chosen][labels[chosen] == name].mean(0) for name in names])
        cosines = queries @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
        assert row["accuracy"] == pytest.approx((names[cosines.argmax(1)] == answers).mean())


def test_all_of_the_train_data(data: Data) -> None:
    train, test, labels, answers = data
    rows = full_data(*data, sensitivity=True)
    assert [row["probe"] for row in rows] == [
        "logreg-full",
        "logreg-full-C/10",
        "logreg-full-Cx10",
    ]
    pool, queries = standardise(train, test)
    for row in rows:
        model = LogisticRegression(C=row["C"], tol=1e-9, max_iter=9999).fit(pool, labels)
        assert row["accuracy"] == pytest.approx(model.score(queries, answers))
        assert (row["shots"], row["draw"], row["n_train"]) == (None, None, 120)
    (row,) = full_data(*data)
    assert row.keys() == few_shot(*data, draws=drawn(labels, 1))[0].keys()


def test_known_calibration() -> None:
    """Ten images at 0.8, of which six are right; ten at 0.55, all right."""
    chances = torch.tensor([0.8] * 10 + [0.55] * 10, dtype=torch.float64)
    logits = torch.stack([chances, 1 - chances]).log()[None]
    labels = torch.tensor([0] * 6 + [1] * 4 + [0] * 10)
    marks = calibration(logits, labels)
    assert marks["ece"].item() == pytest.approx((0.2 + 0.45) / 2)
    expected = -(6 * np.log(0.8) + 4 * np.log(0.2) + 10 * np.log(0.55)) / 20
    assert marks["nll"].item() == pytest.approx(expected)
    found = accuracies(logits, labels)
    assert found["accuracy"].item() == pytest.approx(0.8)
    assert found["macro_accuracy"].item() == pytest.approx(0.5)
    sure = torch.tensor([[[0.0], [-torch.inf]]], dtype=torch.float64)
    assert calibration(sure, torch.tensor([0]))["ece"].item() == 0
    assert calibration(sure, torch.tensor([1]))["nll"].item() == pytest.approx(36.04, abs=0.01)


def test_a_class_that_the_test_images_lack_does_not_count() -> None:
    scores = torch.eye(3, dtype=torch.float64)[:, [0, 0, 2, 1]][None]
    found = accuracies(scores, torch.tensor([0, 0, 2, 2]))
    assert found["macro_accuracy"].item() == pytest.approx(0.75)


def test_area_under_the_curve() -> None:
    assert fs_aulc(dict.fromkeys((1, 2, 4, 8, 16), 0.1), 0.1) == 0
    assert fs_aulc({1: 1.0, 2: 1.0}, 0.25) == 1
    assert fs_aulc({1: 0.2, 2: 0.4, 4: 0.6}, 0.2) == pytest.approx(0.25)
    assert fs_aulc({1: 0.1}, 0.2) < 0
    with pytest.raises(ValueError, match="no shots"):
        fs_aulc({}, 0.1)
