"""Probes: what a feature is, who is labelled, and that a score means what it says."""

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from maskbench.errors import DataError
from maskbench.probes import fewshot, suite
from maskbench.probes.features import standardise
from maskbench.probes.fewshot import subsets
from maskbench.probes.knn import knn, vote
from maskbench.probes.task import probe_pool

CLASSES = ("ant", "bee", "cat", "dog")
Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


def labelled(per_class: int, classes: int = len(CLASSES)) -> tuple[list[str], Labels]:
    labels = np.repeat(np.arange(classes, dtype=np.int64), per_class)
    return [f"{label}/{i:04}.jpg" for i, label in enumerate(labels)], labels


def draw(ids: list[str], labels: Labels, **changes: Any) -> dict[int, set[str]]:
    options: dict[str, Any] = {"dataset": "toy", "draw": 0, "classes": CLASSES} | changes
    found = subsets(ids, labels, options.pop("classes"), **options)
    return {shots: {ids[i] for i in chosen} for shots, chosen in found.items()}


def clusters(per_class: int, distance: float, seed: int = 0) -> tuple[Floats, Labels]:
    """Gaussian clusters in 12 dimensions, ``distance`` deviations from the origin."""
    rng = np.random.default_rng(seed)
    _, labels = labelled(per_class)
    return rng.normal(size=(len(labels), 12)) + distance * np.eye(12)[labels], labels


def toy_rows(train: Floats, test: Floats, labels: tuple[Labels, Labels], **options: Any) -> Any:
    ids = [f"{i}" for i in range(len(train))]
    return suite.run_suite({"x": (train, test)}, labels, ids, CLASSES, dataset="toy", **options)


def test_subsets_are_nested_and_balanced() -> None:
    ids, labels = labelled(20)
    found = subsets(ids, labels, CLASSES, dataset="toy", draw=3)
    assert list(found) == [1, 2, 4, 8, 16]
    for shots, chosen in found.items():
        assert np.bincount(labels[chosen]).tolist() == [shots] * 4
        assert set(chosen) <= set(found[16])
    assert len(set(found[16])) == 64


def test_the_key_is_the_documented_one() -> None:
    ids, labels = labelled(20)
    texts = {sid: f"maskbench-fewshot-v1|toy|1|ant|{sid}|0" for sid in ids[:20]}
    hashed = {s: hashlib.blake2b(t.encode(), digest_size=16).digest() for s, t in texts.items()}
    expected = sorted(hashed, key=lambda sid: int.from_bytes(hashed[sid], "big"))
    first = subsets(ids, labels, CLASSES, dataset="toy", draw=0)[8][:8]
    assert [ids[i] for i in first] == expected[:8]


def test_subsets_depend_on_ids_data_set_and_draw_only() -> None:
    ids, labels = labelled(20)
    base = draw(ids, labels)
    shuffled = np.random.default_rng(0).permutation(len(ids))
    assert draw([ids[i] for i in shuffled], labels[shuffled]) == base
    assert draw(ids, labels, draw=1) != base
    assert draw(ids, labels, dataset="other") != base
    more = draw(
        [*[f"new/{i}" for i in range(20)], *ids],
        np.concatenate([np.zeros(20, np.int64), labels + 1]),
        classes=("aardvark", *CLASSES),
    )
    assert {n: {i for i in chosen if i[:3] != "new"} for n, chosen in more.items()} == base


def test_a_repeated_id_is_refused() -> None:
    ids, labels = labelled(20)
    with pytest.raises(DataError, match="share an id"):
        draw([ids[1], *ids[1:]], labels)


def test_shots_that_do_not_fit_are_left_out_for_all() -> None:
    train, labels = clusters(20, 3.0)
    keep = np.arange(5, 80)
    rows = toy_rows(train[keep], train, (labels[keep], labels), draws=1)
    assert {row["shots"] for row in rows if row["probe"] == "logreg"} == {1, 2, 4, 8}


def test_the_primary_feature_shows_what_hangs_on_c() -> None:
    train, labels = clusters(20, 1.0)
    found = suite.run_suite(
        dict.fromkeys(("patchmean", "cls"), (train, train)),
        (labels, labels),
        [f"{i}" for i in range(80)],
        CLASSES,
        dataset="toy",
        draws=1,
    )
    tried = {(row["feature"], row["probe"]): row["C"] for row in found if row["C"]}
    assert tried == {
        ("patchmean", "logreg"): 300.0,
        ("patchmean", "logreg-C/10"): 30.0,
        ("patchmean", "logreg-Cx10"): 3000.0,
        ("cls", "logreg"): 300.0,
    }


def test_few_neighbours_are_said_in_the_name() -> None:
    train, labels = clusters(3, 1.0)
    rows = toy_rows(train, train, (labels, labels), draws=1)
    names = [row["metric"] for row in rows if row["probe"] == "knn20"]
    assert names == ["knn20/k12/T0.07/cosine-centred/x/last"]


def test_macro_accuracy_is_over_classes() -> None:
    found, answers = np.array([0, 0, 0, 1, 1, 0]), np.array([0, 0, 0, 0, 1, 1])
    assert suite.macro(found, answers) == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_the_manifest_names_the_labelled_images() -> None:
    ids, labels = labelled(20)
    draws = fewshot.draws_of(ids, labels, CLASSES, dataset="toy", draws=2)
    found = suite.manifest(ids, draws)
    assert [part["shots"] for part in found["draws"]] == [[1, 2, 4, 8, 16]] * 2 + [[1]] * 2
    assert found["draws"][0]["ids"] == [ids[i] for i in draws[0][16]]
    assert found["sha256"] == suite.manifest(ids, draws)["sha256"]
    other = fewshot.draws_of(ids, labels, CLASSES, dataset="other", draws=2)
    assert found["sha256"] != suite.manifest(ids, other)["sha256"]


def test_one_class_is_refused() -> None:
    zeros = np.zeros((4, 2))
    nothing = np.zeros(4, np.int64)
    with pytest.raises(DataError, match="two classes"):
        suite.run_suite(
            {"x": (zeros, zeros)}, (nothing, nothing), list("abcd"), ["a"], dataset="toy"
        )


def test_scale_and_offset_change_nothing() -> None:
    train, labels = clusters(20, 2.0)
    test, _ = clusters(25, 2.0, seed=1)
    answers = (labels, clusters(25, 2.0, seed=1)[1])
    base = [row["accuracy"] for row in toy_rows(train, test, answers, draws=2)]
    assert 0.3 < np.mean(base) < 1
    for scale, offset in ((1e3, 0.0), (1.0, 7.0)):
        moved = toy_rows(train * scale + offset, test * scale + offset, answers, draws=2)
        assert [row["accuracy"] for row in moved] == base


def test_separable_features_need_one_image() -> None:
    train, labels = clusters(20, 60.0)
    train = train[:, :4]  # z-scores would make the others as loud as these
    rows = toy_rows(train, train, (labels, labels), draws=3)
    assert {row["probe"] for row in rows} == {"logreg", "ncm", "knn1", "knn20"}
    assert {row["accuracy"] for row in rows} == {1.0}
    assert [row["macro_accuracy"] for row in rows] == pytest.approx([1.0] * len(rows))


def test_shuffled_labels_give_chance() -> None:
    train, labels = clusters(100, 3.0)
    test, answers = clusters(250, 3.0, seed=1)
    rng = np.random.default_rng(5)
    rows = toy_rows(train, test, (rng.permutation(labels), rng.permutation(answers)), draws=3)
    error = np.sqrt(0.25 * 0.75 / len(test))
    for row in rows:
        assert abs(row["accuracy"] - 0.25) < 4 * error, row


def test_rows_are_plain_and_complete() -> None:
    train, labels = clusters(20, 2.0)
    rows = toy_rows(train.astype(np.float32), train.astype(np.float32), (labels, labels), draws=2)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert {tuple(row) for row in rows} == {suite.COLUMNS}
    assert len(rows) == 2 * (5 * 2 + 2) + 2  # one shot has as many draws again
    assert {row["metric"] for row in rows} == {
        *("logreg/C300/x/last", "ncm/x/last"),
        *("knn1/T0.07/cosine-centred/x/last", "knn20/T0.07/cosine-centred/x/last"),
    }
    assert rows[0]["C"] == fewshot.C
    assert all(row["converged"] for row in rows if row["probe"] == "logreg")


def test_a_fit_that_does_not_converge_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fewshot, "MAX_ITERATIONS", 2)
    train, labels = clusters(20, 0.5)
    rows = toy_rows(train, train, (labels, labels), draws=1)
    assert not any(row["converged"] for row in rows if row["probe"] == "logreg")


def test_fits_in_the_span_equal_fits_in_all_dimensions() -> None:
    rng = np.random.default_rng(0)
    ids, labels = labelled(20)
    train, test = (rng.normal(size=(80, 300)) + np.eye(300)[labels] * 3 for _ in range(2))
    draws = [subsets(ids, labels, CLASSES, dataset="toy", draw=0)]
    rows = fewshot.few_shot(train, test, labels, labels, draws=draws)
    pool, queries = standardise(train, test)
    for row in rows:
        chosen = draws[0][row["shots"]]
        if row["probe"] == "logreg":
            model = LogisticRegression(C=fewshot.C, tol=1e-6, max_iter=2000)
            found = model.fit(pool[chosen], labels[chosen]).predict(queries)
        else:
            means = np.stack([pool[chosen][labels[chosen] == name].mean(0) for name in range(4)])
            found = (queries @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T).argmax(1)
        assert row["accuracy"] == (found == labels).mean()


@pytest.mark.parametrize("k", [1, 20, 500])
def test_knn_equals_scikit_learn(k: int) -> None:
    rng = np.random.default_rng(0)
    train, labels = rng.normal(1.0, 1.0, (200, 8)), rng.integers(0, 5, 200)
    test = rng.normal(1.0, 1.0, (150, 8))
    reference = KNeighborsClassifier(
        min(k, 200), metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(train - train.mean(0), labels)
    expected = reference.predict(test - train.mean(0))
    assert (knn(train, labels, test, 5, ks=(k,))[k] == expected).all()


def test_ties_go_to_the_closer_then_the_smaller_class() -> None:
    half = 0.9 - 0.07 * np.log(2)  # two of these weigh as much as one at 0.9
    assert vote(np.array([[0.9, half, half]]), np.array([[0, 1, 1]]), 3, 0.07) == [1]
    assert vote(np.array([[0.5, 0.5]]), np.array([[2, 1]]), 3, 0.07) == [1]


def test_probe_pool_is_balanced_and_independent_of_order() -> None:
    ids, labels = labelled(40)
    chosen = probe_pool(ids, labels, 90)
    assert len(chosen) == 90
    assert (np.diff(chosen) > 0).all()
    assert sorted(np.bincount(labels[chosen])) == [22, 22, 23, 23]
    shuffled = np.random.default_rng(0).permutation(len(ids))
    again = probe_pool([ids[i] for i in shuffled], labels[shuffled], 90)
    assert {ids[i] for i in chosen} == {ids[shuffled[i]] for i in again}
    assert probe_pool(ids, labels, 1000).tolist() == list(range(160))
    assert len(probe_pool(ids, labels, 3)) == 64
