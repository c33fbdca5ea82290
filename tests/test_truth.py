"""Ground truth: what is read, that it lies on the image's own pixels, what is refused and named."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from test_annotated import annotate
from test_hostile_images import FILES

from maskbench.data import augment, truth
from maskbench.data.folder import open_folder
from maskbench.data.truth import Truth
from maskbench.errors import DataError

Labels = NDArray[Any]
S = 32


def square(value: int = 1, kind: type = np.uint8) -> Labels:
    """An object of 8 x 12 px in the upper left."""
    labels: Labels = np.zeros((S, S), kind)
    labels[4:12, 6:18] = value
    return labels


def outline(labels: Labels) -> NDArray[np.bool_]:
    """Labelled pixels with a neighbour, up, down, left or right, that differs."""
    wide = np.pad(labels, 1, mode="edge")
    around = (wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:])
    return np.asarray((labels != 0) & np.any([labels != other for other in around], axis=0))


def palette(labels: Labels, colours: int = 256) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette([*range(colours)] * 3)
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of ground truth, with one good file in it; the images are beside it."""
    put(tmp_path, "good.jpg", square())
    return tmp_path / "truth"


def put(root: Path, name: str, labels: Labels | Image.Image | None, height: int = S) -> str:
    """An image and, if given, its labels."""
    path, other = root / "data" / name, (root / "truth" / name).with_suffix(".png")
    for each in (path, other):
        each.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (S, height), (1, 2, 3)).save(path)
    if labels is not None:
        image = labels if isinstance(labels, Image.Image) else Image.fromarray(labels)
        image.save(other)
    return name


def read(folder: Path, *names: str, stored: int = S) -> Truth:
    found = truth.read(folder, folder.parent / "data", ["good.jpg", *names], stored)
    assert found.known_objects[0]
    for path, why in found.missing:
        assert str(folder.parent) not in path + why
        assert (path + why).isprintable()
    return found


def reasons(found: Truth) -> dict[str, str]:
    assert len(dict(found.missing)) == len(found.missing)
    return dict(found.missing)


KINDS: dict[str, Labels | Image.Image] = {
    "grey": square(7),
    "palette": palette(square(7)),
    "black and white": square(255),
    "1 bit": Image.fromarray(square(1) > 0),
    "16 bit": square(255, np.uint16),
    "16 bit, large": square(60_000, np.uint16),
    "palette of 4 bits": palette(square(15), 16),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_every_kind(folder: Path, kind: str) -> None:
    name = put(folder.parent, "train/cat/one.jpg", KINDS[kind])
    found = read(folder, name)
    assert found.objects is not None
    assert found.void is not None
    assert found.contours is not None
    np.testing.assert_array_equal(found.objects[1], square() > 0)
    np.testing.assert_array_equal(found.contours[1], outline(square()))
    assert not found.void.any()
    assert found.annotators.tolist() == [1, 1]
    assert found.known_objects.all()
    assert found.known_contours.all()
    assert not found.missing


@pytest.mark.parametrize("make", [palette, Image.fromarray])
def test_void_is_neither_and_its_middle_is_the_contour(
    folder: Path, make: Callable[[Labels], Image.Image]
) -> None:
    labels = np.zeros((S, S), np.uint8)
    labels[:, 10:14], labels[:, 14:20], labels[:, 20:] = 255, 3, 4
    found = read(folder, put(folder.parent, "void.jpg", make(labels)))
    assert found.objects is not None
    assert found.void is not None
    assert found.contours is not None
    np.testing.assert_array_equal(found.void[1], labels == 255)
    np.testing.assert_array_equal(found.objects[1], (labels == 3) | (labels == 4))
    assert np.flatnonzero(found.contours[1].all(0)).tolist() == [12, 19, 20]
    assert np.flatnonzero(found.contours[1].any(0)).tolist() == [12, 19, 20]


def test_annotators_are_averaged(folder: Path) -> None:
    names = [put(folder.parent, f"{i}.jpg", None) for i in range(2)]
    drawn = [outline(square()).astype(np.uint8), outline(square()), np.zeros((S, S), np.uint8)]
    annotate(folder / "0.mat", *drawn)
    annotate(folder / "1.mat", drawn[1].astype(float), do_compression=True)
    found = read(folder, *names)
    assert found.contours is not None
    np.testing.assert_allclose(found.contours[1], outline(square()) * 2 / 3, rtol=1e-6)
    np.testing.assert_array_equal(found.contours[2], outline(square()))
    assert found.annotators.tolist() == [1, 3, 1]
    assert found.known_contours.all()
    assert found.known_objects.tolist() == [True, False, False]
    only = truth.read(folder, folder.parent / "data", names, S)
    assert only.objects is None
    assert only.void is None
    assert not only.missing


REFUSED: dict[str, tuple[Labels | Image.Image, str]] = {
    "colours": (Image.new("RGB", (S, S)), ".png: RGB pixels; labels are grey or a palette"),
    "clear": (Image.new("RGBA", (S, S)), ".png: RGBA pixels"),
    "half": (Image.new("LA", (S, S)), ".png: LA pixels"),
    "small": (square()[1:], ".png: 32x31 px, its image has 32x32"),
    "empty": (square(0), "no object pixel"),
    "unsure": (palette(square(255)), "no object pixel"),
    "full": (square(0) + 5, "nothing but object"),
    "sure": (palette(255 - 250 * np.sign(square())), "nothing but object"),
}


def test_what_tells_nothing_is_named(folder: Path) -> None:
    names = [put(folder.parent, f"{name}.jpg", made) for name, (made, _) in REFUSED.items()]
    put(folder.parent, "none.jpg", None)
    put(folder.parent, "gone.jpg", square())
    (folder.parent / "data" / "gone.jpg").unlink()
    found = read(folder, *names, "none.jpg", "gone.jpg")
    why = reasons(found)
    for name, (_, expected) in REFUSED.items():
        assert why.pop(f"{name}.jpg").startswith(expected), name
    assert why.pop("none.jpg") == "no ground truth"
    assert why.pop("gone.jpg") == "its image: not in the data folder"
    assert not why
    assert found.known_objects.sum() == found.known_contours.sum() == 1


def test_segments_without_background_still_have_contours(folder: Path) -> None:
    labels = square() + 1
    found = read(folder, put(folder.parent, "full.jpg", labels))
    assert reasons(found) == {"full.jpg": "nothing but object"}
    assert found.known_objects.tolist() == [True, False]
    assert found.known_contours.tolist() == [True, True]
    assert found.contours is not None
    np.testing.assert_array_equal(found.contours[1], outline(labels))


def test_hostile_labels_are_named(folder: Path, tmp_path: Path) -> None:
    names = []
    for i, (content, _) in enumerate(FILES.values()):
        names.append(put(tmp_path, f"{i}.jpg", None))
        (folder / f"{i}.png").write_bytes(content)
    os.mkfifo(folder / "pipe.png")
    (folder / "deep.png").mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    Image.fromarray(square()).save(tmp_path / "secret.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "same.png").symlink_to("good.png")
    odd = [put(tmp_path, f"{name}.jpg", None) for name in ("pipe", "deep", "link", "loop", "same")]
    with (folder / "vast.png").open("wb") as file:
        file.truncate(2**26 + 1)
    found = read(folder, *names, *odd, put(tmp_path, "vast.jpg", None), "../data/good.jpg")
    why = reasons(found)
    assert found.known_objects.sum() == 2  # a link that stays in the folder is followed
    assert len(why) == len(FILES) + 6
    assert "link that leaves" in why["link.jpg"]
    assert "loop of links" in why["loop.jpg"]
    assert "at most 67,108,864" in why["vast.jpg"]
    assert why["pipe.jpg"] == why["deep.jpg"] == ".png: is not a regular file"


def test_an_image_is_not_its_own_truth(tmp_path: Path) -> None:
    Image.fromarray(square()).save(tmp_path / "a.png")
    found = truth.read(tmp_path, tmp_path, ["a.png"], S)
    assert reasons(found) == {"a.png": ".png: it is the image itself"}


def test_no_file_at_all(tmp_path: Path) -> None:
    ids = [f"train/cat/{i}.jpg" for i in range(5)]
    with pytest.raises(DataError, match="does not exist"):
        truth.read(tmp_path / "truth", tmp_path, ids, S)
    (tmp_path / "truth").mkdir()
    with pytest.raises(
        DataError, match=r"any of 5 images.*cat/0.png.*cat/2.png and so on"
    ) as caught:
        truth.read(tmp_path / "truth", tmp_path, ids, S)
    assert ".mat" in str(caught.value)
    assert "cat/3" not in str(caught.value)


# Geometry


SIZES = [(90, 60), (60, 90), (64, 64), (97, 61), (61, 98), (32, 32), (33, 200)]


def test_labels_lie_on_their_images_pixels(tmp_path: Path) -> None:
    """White quadrants and stripes, packed as ever: white is where the labels say object."""
    for i, (width, height) in enumerate(SIZES):
        labels = np.zeros((height, width), np.uint8)
        labels[: height // 2, : width // 2] = 1
        labels[:, width // 2 + 9 : width // 2 + 14] = 1
        put(tmp_path, f"{i}.png", labels)
        Image.fromarray(labels * 255).convert("RGB").save(tmp_path / "data" / f"{i}.png")
    split = open_folder(tmp_path / "data", 28, tmp_path / "cache").train
    assert split.side == S
    found = truth.read(tmp_path / "truth", tmp_path / "data", split.ids, split.side)
    assert found.objects is not None
    white = split.images[..., 0] > 127
    wrong = (found.objects != white).mean((1, 2))
    assert wrong.max() < 0.01  # where an edge cuts a pixel in halves
    assert (found.objects[..., ::-1] != white).mean((1, 2)).min() > 0.2
    assert (found.objects[:, ::-1] != white).mean((1, 2)).min() > 0.2
    for side in (28, 31):
        crop = truth.centred(found, side)
        seen = augment.centre(torch.from_numpy(np.array(split.images)), side)[:, 0].numpy() > 127
        assert crop.objects is not None
        assert crop.contours is not None
        assert crop.contours.shape == seen.shape
        assert (crop.objects != seen).mean() < 0.01


@given(
    width=st.integers(8, 60), height=st.integers(8, 60), stored=st.integers(4, 40),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_no_contour_is_lost(width: int, height: int, stored: int, seed: int) -> None:
    """Every drawn pixel marks the one stored pixel its middle lies in; enlarged, as labels are."""
    drawn = np.random.default_rng(seed).random((height, width)) < 0.05
    found = truth._stored(truth._Marks([drawn], drawn, drawn), (width, height), stored)
    short = min(width, height)
    top, left = (height - short) // 2, (width - short) // 2
    expected = np.zeros((stored, stored), bool)
    for y, x in zip(*np.nonzero(drawn[top : top + short, left : left + short]), strict=True):
        row, column = (2 * y + 1) * stored // (2 * short), (2 * x + 1) * stored // (2 * short)
        expected[row, column] = True
    image = Image.fromarray(drawn.astype(np.uint8))
    box = (left, top, left + short, top + short)
    near = np.asarray(image.resize((stored, stored), Image.Resampling.NEAREST, box)) > 0
    clear = (2 * np.arange(stored) + 1) * short % (2 * stored) > 0  # else Pillow's rounding decides
    assert found.objects is not None
    np.testing.assert_array_equal(found.objects[clear][:, clear], near[clear][:, clear])
    np.testing.assert_array_equal(found.drawn[0], expected if stored <= short else found.objects)


def test_a_crop_may_lose_what_is_known(folder: Path) -> None:
    labels = square(0)
    labels[0, 0] = labels[31, 31] = 1
    found = truth.centred(read(folder, put(folder.parent, "rim.jpg", labels)), 28)
    assert found.known_objects.tolist() == found.known_contours.tolist() == [True, False]
    assert reasons(found) == {"rim.jpg": "no object pixel in the crop"}
    with pytest.raises(ValueError, match="28 px"):
        truth.centred(found, 33)
