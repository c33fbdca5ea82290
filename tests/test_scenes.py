import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from maskbench.data.scenes import CLASSES, HUES, SHAPES, TEXTURES, Scenes, generate

Features = NDArray[np.float64]


@pytest.fixture(scope="module")
def train() -> Scenes:
    return generate(5000, "train")


@pytest.fixture(scope="module")
def test() -> Scenes:
    return generate(1000, "test")


def test_same_arguments_give_the_same_bytes_and_others_do_not() -> None:
    first = generate(300, "train", seed=3)
    same = generate(300, "train", seed=3)
    changed = (generate(300, "train", seed=4), generate(300, "test", seed=3))
    for name in first._fields:
        data = getattr(first, name).tobytes()
        assert data == getattr(same, name).tobytes()
        assert all(data != getattr(other, name).tobytes() for other in changed)


def test_global_random_state_is_neither_read_nor_changed() -> None:
    np.random.seed(1)  # noqa: NPY002
    first = generate(50, "train").images
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert drawn == np.random.random()  # noqa: NPY002
    np.testing.assert_array_equal(first, generate(50, "train").images)


@pytest.mark.parametrize("count", [0, 1, 10, 257])
def test_fields_have_their_shapes_and_types(count: int) -> None:
    scenes = generate(count, "train")
    described = [(field.shape, field.dtype.name) for field in scenes]
    assert described == [
        ((count, 32, 32, 3), "uint8"),
        ((count,), "int64"),
        ((count, 32, 32), "bool"),
        ((count, 32, 32), "bool"),
        ((count, 3), "float64"),
    ]


def test_classes_are_balanced_and_in_a_shuffled_order(train: Scenes) -> None:
    assert np.bincount(train.labels).tolist() == [500] * 10
    for part in np.split(train.labels, 10):
        assert np.bincount(part, minlength=10).min() > 20
    assert (np.diff(train.labels) == 1).mean() < 0.2


def test_every_cue_is_shared_and_any_two_cues_name_the_class() -> None:
    named = [tuple(name.split("-")) for name in CLASSES]
    assert len(set(CLASSES)) == 10
    for cue, values in enumerate((TEXTURES, SHAPES, HUES)):
        assert sorted(name[cue] for name in named) == sorted(values * 2)
        assert len({name[:cue] + name[cue + 1 :] for name in named}) == 10


def test_no_image_occurs_twice_within_or_across_splits(train: Scenes, test: Scenes) -> None:
    seen = {image.tobytes() for part in (train, test) for image in part.images}
    assert len(seen) == 6000


def test_contour_is_the_rim_of_a_whole_object(train: Scenes) -> None:
    size = train.objects.sum((1, 2))
    assert size.min() > 60
    assert size.max() < 1024 * 0.65
    rim = train.contours.sum((1, 2))
    assert not (train.contours & ~train.objects).any()
    assert (rim > 20).all()
    assert (rim < size).all()
    outside = np.pad(~train.objects, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    beside = outside[:, :-2, 1:-1] | outside[:, 2:, 1:-1]
    beside |= outside[:, 1:-1, :-2] | outside[:, 1:-1, 2:]
    np.testing.assert_array_equal(train.contours, train.objects & beside)


def test_objects_lie_where_position_and_size_say(train: Scenes) -> None:
    row, column, radius = (values[:, None, None] for values in train.position_size.T)
    grid = np.arange(32.0)
    distance = np.hypot(grid[:, None] - row, grid - column)
    assert (distance[train.objects] <= (1.2 * radius + 0 * distance)[train.objects]).all()
    assert radius.min() >= 9
    assert radius.max() <= 14
    assert (row >= radius).all()
    assert (column + radius <= 31).all()


def test_pixels_on_the_object_differ_from_the_background(train: Scenes) -> None:
    """Objects are textured: grey steps between neighbours are far larger on them than off them."""
    grey = train.images.mean(-1)
    step = np.abs(np.diff(grey, axis=2))
    inner = train.objects & ~train.contours
    on = inner[:, :, 1:] & inner[:, :, :-1]
    off = ~train.objects[:, :, 1:] & ~train.objects[:, :, :-1]
    on_step = (step * on).sum((1, 2)) / np.maximum(on.sum((1, 2)), 1)
    off_step = (step * off).sum((1, 2)) / off.sum((1, 2))
    assert np.median(on_step) > 4 * np.median(off_step)
    assert (on_step > off_step).mean() > 0.9
    tint = train.images.astype(np.float64) - grey[..., None]
    colourful = np.abs(tint).sum(-1)
    assert colourful[train.objects].mean() > 1.5 * colourful[~train.objects].mean()


def _accuracies(train: Features, test: Features, labels: tuple[Features, Features]) -> list[float]:
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    forest = RandomForestClassifier(40, min_samples_leaf=5, random_state=0)
    return [float(model.fit(train, labels[0]).score(test, labels[1])) for model in (linear, forest)]


def test_colour_or_position_and_size_alone_do_not_tell_the_class(
    train: Scenes, test: Scenes
) -> None:
    labels = (train.labels.astype(float), test.labels.astype(float))
    colour = _accuracies(train.images.mean((1, 2)), test.images.mean((1, 2)), labels)
    assert max(colour) < 0.35
    assert min(colour) > 0.12, "palette is a cue"
    assert max(_accuracies(train.position_size, test.position_size, labels)) < 0.15
