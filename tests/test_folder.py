"""Image folders: what comes out, what is stored, what is skipped."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import SIDE, dataset, flat, noise, put
from PIL import Image

from maskbench.data import packing
from maskbench.data.folder import open_folder
from maskbench.data.source import Images

CIFAR = Path(__file__).parents[1].parent / "shared" / "data" / "cifar10.tar.xz"


def reasons(images: Images) -> dict[str, str]:
    assert images.notes["skipped"]["count"] == len(images.notes["skipped"]["files"])
    return {bad["path"]: bad["reason"] for bad in images.notes["skipped"]["files"]}


@pytest.mark.parametrize("test", ["test", "val"])
def test_pixels_labels_and_ids_belong_together(
    data: Path, opened: Callable[..., Images], test: str
) -> None:
    images = opened(path=dataset(data, test=test))
    assert images.name == "folder:my-data"
    assert images.classes == ("cat", "dog")
    assert images.test is not None
    for s, (split, folder) in enumerate([(images.train, "train"), (images.test, test)]):
        assert split.labels is not None
        assert split.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert list(split.ids) == [f"{folder}/{c}/{i}.png" for c in ("cat", "dog") for i in "012"]
        for i in range(6):
            np.testing.assert_array_equal(split.images[i], noise(100 * s + 10 * (i // 3) + i % 3))
    assert images.notes["stored_side"] == SIDE
    assert images.notes["skipped"] == {"count": 0, "share": 0.0, "files": []}
    assert images.notes["exif"] == "orientation not applied"


def test_images_are_memory_mapped_and_read_only(data: Path, opened: Callable[..., Images]) -> None:
    images = opened(path=dataset(data))
    assert isinstance(images.train.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images.train.images[0] = 0


def test_labels_follow_the_class_folder_where_paths_sort_otherwise(
    data: Path, opened: Callable[..., Images]
) -> None:
    for split in ("train", "test"):
        put(data / split / "cat" / "0.png", 1)
        put(data / split / "cat-2" / "0.png", 2)  # "cat-2/" sorts before "cat/"
    images = opened()
    assert images.classes == ("cat", "cat-2")
    assert list(images.train.ids) == ["train/cat-2/0.png", "train/cat/0.png"]
    assert images.train.labels is not None
    assert images.train.labels.tolist() == [1, 0]


def test_flat_folder_has_no_classes_and_no_test_split(
    data: Path, opened: Callable[..., Images]
) -> None:
    flat(data, 3)
    (data / "empty" / "deeper").mkdir(parents=True)
    images = opened()
    assert images.classes == ()
    assert images.train.labels is None
    assert images.test is None
    assert list(images.train.ids) == ["000.png", "001.png", "002.png"]
    assert "flat" in images.notes["layout"]


def test_nested_images_count_and_hidden_ones_do_not(
    data: Path, opened: Callable[..., Images]
) -> None:
    dataset(data, per_class=1)
    put(data / "train" / "cat" / "deep" / "er" / "x.png")
    put(data / "train" / ".hidden" / "x.png")
    put(data / "train" / "cat" / ".cache" / "x.png")
    (data / "train" / "cat" / ".DS_Store").write_text("x")
    images = opened()
    assert list(images.train.ids) == [
        "train/cat/0.png",
        "train/cat/deep/er/x.png",
        "train/dog/0.png",
    ]
    assert reasons(images) == {}


def test_val_is_ignored_beside_test_and_noted(data: Path, opened: Callable[..., Images]) -> None:
    put(dataset(data) / "val" / "other" / "x.png")
    images = opened()
    assert images.test is not None
    assert images.test.ids[0].startswith("test/")
    assert "val/ ignored" in images.notes["layout"]


def test_order_and_fingerprint_do_not_depend_on_the_order_of_creation(
    tmp_path: Path, opened: Callable[..., Images]
) -> None:
    names = [f"{split}/{c}/{i}.png" for split in ("train", "test") for c in "ab" for i in range(4)]
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(names))
        for i in order:
            put(tmp_path / str(seed) / names[i], int(i))
    first, *others = [opened(path=tmp_path / str(seed)) for seed in range(3)]
    for other in others:
        assert other.fingerprint == first.fingerprint
        assert other.train.ids == first.train.ids
        np.testing.assert_array_equal(other.train.images, first.train.images)


@pytest.mark.parametrize("change", ["pixel", "label", "name"])
def test_fingerprint_changes_with_pixels_labels_and_ids(
    tmp_path: Path, opened: Callable[..., Images], change: str
) -> None:
    first, second = dataset(tmp_path / "1"), dataset(tmp_path / "2")
    victim = second / "train" / "cat" / "2.png"
    if change == "pixel":
        put(victim, 999)
    else:
        victim.rename(second / "train" / ("dog/00.png" if change == "label" else "cat/20.png"))
    assert opened(path=first).fingerprint != opened(path=second).fingerprint


# What is stored


def test_roomy_images_are_stored_larger_and_a_tight_one_changes_that(
    data: Path, opened: Callable[..., Images]
) -> None:
    put(data / "0.png", 0, 36, 40)
    put(data / "1.png", 1, 60, 48)
    assert opened().train.images.shape == (2, 36, 36, 3)
    put(data / "2.png", 2, 35, 90)
    images = opened()
    assert images.train.images.shape == (3, 32, 32, 3)
    assert images.notes["stored_side"] == 32
    assert opened(side=28).train.images.shape == (3, 32, 32, 3)  # 28 * 8 // 7
    assert opened(side=24).train.images.shape == (3, 27, 27, 3)


# What is skipped


def test_bad_files_are_skipped_counted_and_named(
    data: Path, opened: Callable[..., Images], tmp_path: Path
) -> None:
    dataset(data)
    cat = data / "train" / "cat"
    (cat / "note.txt").write_text("not an image at all")
    (cat / "zero.png").touch()
    put(cat / "small.png", 0, 16, 20)
    jpeg = put(cat / "cut.jpg", 0, 64, 64).read_bytes()
    (cat / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    png = put(cat / "rotten.png", 0, 64, 64).read_bytes()
    (cat / "rotten.png").write_bytes(png[:200] + bytes(100) + png[300:])
    Image.fromarray(np.zeros((32, 32), np.float32)).save(cat / "float.tif")
    put(cat / "png.png", 77).rename(cat / "named.jpg")  # a PNG all the same: fine
    put(cat / "Ünïcode 猫.png", 78)  # fine
    put(data / "test" / "loose.png")
    (cat / "out.png").symlink_to(put(tmp_path / "elsewhere.png"))
    (cat / "in.png").symlink_to(cat / "0.png")  # fine
    (cat / "gone.png").symlink_to(cat / "nowhere.png")
    images = opened(max_bad=0.5)
    found = reasons(images)
    assert found.pop("train/cat/cut.jpg").startswith("image file is truncated")
    assert found.pop("train/cat/rotten.png")
    assert found == {
        "train/cat/note.txt": "not an image",
        "train/cat/zero.png": "empty file",
        "train/cat/small.png": "smaller than 32 px: 20x16",
        "train/cat/float.tif": "floating-point pixels",
        "train/cat/out.png": "link out of the folder",
        "train/cat/gone.png": "not a regular file",
        "test/loose.png": "not in a class folder",
    }
    assert images.notes["skipped"]["share"] == 9 / (9 + 12 + 3)
    usable = ["0.png", "1.png", "2.png", "in.png", "named.jpg", "Ünïcode 猫.png"]
    cats = [i for i in images.train.ids if i.startswith("train/cat/")]
    assert cats == sorted(f"train/cat/{n}" for n in usable)
    assert images.train.labels is not None
    assert images.train.labels.tolist() == [0] * 6 + [1] * 3
    place = images.train.ids.index("train/cat/named.jpg")
    np.testing.assert_array_equal(images.train.images[place], noise(77))


def test_only_the_first_skipped_files_are_named(
    data: Path, opened: Callable[..., Images], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SHOWN", 20)
    flat(data, 1)
    for i in range(30):
        (data / f"n{i:02}.txt").write_text("x")
    skipped = opened(max_bad=1.0).notes["skipped"]
    assert skipped["count"] == 30
    assert [bad["path"] for bad in skipped["files"]] == [f"n{i:02}.txt" for i in range(20)]


def test_names_that_a_terminal_cannot_take_are_escaped(
    data: Path, opened: Callable[..., Images]
) -> None:
    put(data / "a\x1b[31m.png")
    Path(os.fsdecode(os.fsencode(data) + b"/b\xff.png")).write_bytes(
        (data / "a\x1b[31m.png").read_bytes()
    )
    assert list(opened().train.ids) == ["a\\x1b[31m.png", "b\\udcff.png"]


# Real images


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif(not CIFAR.exists(), reason=f"{CIFAR} is not there")
def test_cifar10(tmp_path: Path) -> None:
    with tarfile.open(CIFAR, "r|xz") as archive:
        for member in archive:
            if member.isfile() and int(Path(member.name).stem) < 50:
                archive.extract(member, tmp_path / "cifar10", filter="data")
    images = open_folder(tmp_path / "cifar10", SIDE, tmp_path / "cache")
    assert images.name == "folder:cifar10"
    assert len(images.classes) == 10
    assert images.notes["skipped"]["count"] == 0
    assert images.test is not None
    for split in (images.train, images.test):
        assert split.images.shape == (500, 32, 32, 3)
        assert split.labels is not None
        np.testing.assert_array_equal(split.labels, np.repeat(np.arange(10), 50))
        assert 30 < split.images.std() < 90
    with Image.open(tmp_path / "cifar10" / images.train.ids[123]) as image:
        np.testing.assert_array_equal(images.train.images[123], np.asarray(image))
