"""What probes are asked: doubles, classes that are short, labels that are none."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maskbench.data import Images, Split
from maskbench.errors import DataError
from maskbench.probes.development import best_layer, development_classes
from maskbench.probes.features import Described
from maskbench.probes.task import task_of

CLASSES = ("ant", "bee", "cat")


def split(name: str, labels: NDArray[Any], seed: int) -> Split:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (len(labels), 4, 4, 3), dtype=np.uint8)
    return Split(images, labels, [f"{name}/{i:03}" for i in range(len(labels))])


def toy(per_class: int = 20, **changes: Any) -> Images:
    labels = np.repeat(np.arange(3), per_class)
    found = Images("toy", CLASSES, split("train", labels, 0), split("test", labels, 1), "mark")
    return replace(found, **changes)


def doubled(images: Images, train: list[int], test: list[int]) -> Images:
    assert images.test is not None
    images.train.images[train] = images.test.images[test]
    return images


def test_images_of_both_splits_are_left_out_and_counted() -> None:
    images = doubled(toy(), [0, 1, 25], [40, 40, 7])
    task = task_of(images)
    assert task.duplicates == 3
    assert task.train.positions.tolist() == [i for i in range(60) if i not in (0, 1, 25)]
    assert len(task.test.positions) == 60
    assert "3 training images are in the test split, too" in task.notes[0]
    assert task_of(toy()).duplicates == 0
    assert not task_of(toy()).notes


def test_one_changed_pixel_is_another_image() -> None:
    images = doubled(toy(), [5], [6])
    images.train.images[5, 0, 0, 0] ^= 1
    assert task_of(images).duplicates == 0


def test_a_class_that_only_doubles_can_teach_is_an_error() -> None:
    images = doubled(toy(), list(range(20)), list(range(20)))
    with pytest.raises(DataError, match=r"no training image of ant.*20 training images are in"):
        task_of(images)


def test_a_class_without_test_images_is_said() -> None:
    labels = np.repeat([0, 2], 10)
    task = task_of(toy(test=split("test", labels, 1)))
    assert any("no test image of bee" in note for note in task.notes)


def test_short_classes_are_said() -> None:
    labels = np.array([0] * 20 + [1] * 3 + [2] * 20)
    task = task_of(toy(train=split("train", labels, 0)))
    assert "at 4, 8, 16 images per class: class 'bee' has only 3" in task.notes[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": split("train", np.repeat([0.0, 1.0, 2.0], 5), 0)}, "float64, not whole"),
        ({"test": split("test", np.repeat([True, False], 5), 0)}, "bool, not whole"),
        ({"test": split("test", np.repeat([0, 3], 5), 0)}, "go from 0 to 3"),
        ({"train": split("train", np.repeat([-1, 1], 5), 0)}, "go from -1 to 1"),
        ({"classes": ("ant",)}, "at least two classes"),
        ({"test": None}, "no test split"),
        ({"train": split("train", np.repeat([0, 2], 5), 0)}, "no training image of bee"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        task_of(toy(**changes))


def test_limits_keep_classes_even() -> None:
    task = task_of(toy(100), limit=150)
    assert np.bincount(task.train.labels).tolist() == [50, 50, 50]
    assert len(task.train.images) == len(task.train.ids) == 150
    assert (task.train.images == toy(100).train.images[task.train.positions]).all()


def test_development_classes_are_few_and_of_the_names_alone() -> None:
    names = [f"class {i}" for i in range(20)]
    chosen = development_classes(names, "toy")
    assert len(chosen) == 4
    turned = names[::-1]
    assert {turned[i] for i in development_classes(turned, "toy")} == {names[i] for i in chosen}
    assert development_classes(names, "other") != chosen
    assert len(development_classes(names[:4], "toy")) == 2
    assert not development_classes(names[:3], "toy")


@pytest.mark.parametrize("told", [1, 2, 3])
def test_the_layer_that_tells_development_classes_apart_is_chosen(told: int) -> None:
    """Another layer that tells only the scored classes apart is of no account."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 40)
    ids = [f"{i}" for i in range(160)]
    layers = rng.normal(size=(3, 160, 8)).astype(np.float32)
    layers[told - 1, :, 0] += 20 * (labels == 1)  # 1 and 3 are for development
    layers[told % 3, :, 0] += 20 * (labels == 2)
    found = Described(layers[-1], layers)
    assert best_layer(found, labels, ids, [1, 3]) == told


def test_equal_layers_leave_the_last() -> None:
    layers = np.tile(np.random.default_rng(0).normal(size=(80, 8)).astype(np.float32), (3, 1, 1))
    ids = [f"{i}" for i in range(80)]
    assert best_layer(Described(layers[-1], layers), np.repeat([0, 1], 40), ids, [0, 1]) == 3
