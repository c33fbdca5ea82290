"""Image folders that are refused: the words say what was found, where, and what to do."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import dataset, flat, put

from maskbench.data.source import Images
from maskbench.errors import DataError, UsageError


def refusal(opened: Callable[..., Images], **options: object) -> str:
    with pytest.raises(DataError) as caught:
        opened(**options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_max_bad_is_a_limit_that_may_be_reached_not_passed(
    data: Path, opened: Callable[..., Images]
) -> None:
    flat(data, 71)
    for i in range(29):
        (data / f"bad{i:02}.png").write_text("x")
    assert opened(max_bad=0.29).notes["skipped"]["count"] == 29
    text = refusal(opened, max_bad=0.28)  # the pack exists now: the limit holds all the same
    for part in ("29 of 100 files", "29 %", "28 %", "bad00.png (not an image)", "--max-bad"):
        assert part in text
    assert "bad02.png" in text
    assert "bad03.png" not in text
    assert "29 of 100" in refusal(opened)


def test_max_bad_counts_files_that_fail_only_when_decoded(
    data: Path, opened: Callable[..., Images]
) -> None:
    path = put(flat(data, 3) / "cut.png", 0, 64, 64)
    path.write_bytes(path.read_bytes()[:2000])
    assert "1 of 4 files" in refusal(opened)
    assert opened(max_bad=0.25).train.images.shape[0] == 3


def test_max_bad_must_be_a_share(data: Path, opened: Callable[..., Images]) -> None:
    with pytest.raises(UsageError, match="--max-bad"):
        opened(max_bad=1.5, path=flat(data, 1))


def test_missing_path_and_file_as_path(data: Path, opened: Callable[..., Images]) -> None:
    assert "does not exist" in refusal(opened)
    data.write_text("x")
    text = refusal(opened)
    assert "is a file, not a folder" in text
    assert str(data) in text


def test_empty_folder(data: Path, opened: Callable[..., Images]) -> None:
    (data / "also empty").mkdir(parents=True)
    (data / ".hidden").write_text("x")
    text = refusal(opened)
    assert f"{data} holds no files" in text
    assert "Expected are train/ and test/" in text


@pytest.mark.parametrize(("only", "missing"), [("train", "test/ or val/"), ("val", "train/")])
def test_missing_split(data: Path, opened: Callable[..., Images], only: str, missing: str) -> None:
    put(data / only / "cat" / "0.png")
    text = refusal(opened)
    assert f"{data} has {only}/ but no {missing}" in text
    assert "Add the missing split" in text


def test_class_folders_without_train(data: Path, opened: Callable[..., Images]) -> None:
    text = refusal(opened, path=dataset(data) / "train")
    assert "no train/ but cat/, dog/" in text
    assert "give its parent" in text
    assert "flat folder" in text
    put(data / "train" / "x.png")
    assert "beside loose files" in refusal(opened, path=data / "train")


def test_loose_images_in_train(data: Path, opened: Callable[..., Images]) -> None:
    flat(data / "train", 2)
    flat(data / "test", 2)
    text = refusal(opened)
    assert f"{data / 'train'} holds 2 loose files" in text
    assert f"--data folder:{data / 'train'}" in text


def test_empty_split(data: Path, opened: Callable[..., Images]) -> None:
    (data / "train").mkdir(parents=True)
    (data / "test").mkdir()
    assert f"{data / 'train'} is empty" in refusal(opened)


def test_one_class_only(data: Path, opened: Callable[..., Images]) -> None:
    put(data / "train" / "cat" / "0.png")
    put(data / "test" / "cat" / "0.png")
    text = refusal(opened)
    assert "one class only, 'cat'" in text
    assert "at least two class folders" in text


def test_splits_with_different_classes(data: Path, opened: Callable[..., Images]) -> None:
    dataset(data)
    put(data / "test" / "emu" / "0.png")
    for i in range(6):
        put(data / "train" / f"x{i}" / "0.png")
    text = refusal(opened)
    assert "train/x0, train/x1, train/x2, train/x3, train/x4 and 2 more" in text
    assert "same class folders" in text


@pytest.mark.parametrize("kind", ["empty", "header", "pixels", "link"])
def test_class_without_usable_image(
    data: Path, opened: Callable[..., Images], tmp_path: Path, kind: str
) -> None:
    emu = put(dataset(data) / "train" / "emu" / "0.png", 0, 64, 64)
    put(data / "test" / "emu" / "0.png")
    raw = emu.read_bytes()
    emu.unlink()
    if kind == "link":
        emu.parent.rmdir()
        emu.parent.symlink_to(put(tmp_path / "elsewhere" / "x.png").parent)
    elif kind != "empty":
        emu.write_bytes(raw[: 4 if kind == "header" else 2000])
    text = refusal(opened, max_bad=0.5)
    assert "The train split" in text
    assert "no usable image of emu" in text
    assert "Add images" in text


def test_split_that_is_a_link(data: Path, opened: Callable[..., Images], tmp_path: Path) -> None:
    dataset(tmp_path / "real")
    data.mkdir()
    for split in ("train", "test"):
        (data / split).symlink_to(tmp_path / "real" / split)
    assert "train is a link" in refusal(opened)


def test_all_files_bad(data: Path, opened: Callable[..., Images]) -> None:
    data.mkdir()
    for i in range(3):
        (data / f"{i}.jpg").write_text("x")
    text = refusal(opened, max_bad=1.0)
    assert "None of the 3 files" in text
    assert "0.jpg (not an image)" in text
    assert "JPEG, PNG" in text


def test_images_smaller_than_the_models_input(data: Path, opened: Callable[..., Images]) -> None:
    put(data / "0.png", 0, 16, 20)
    put(data / "1.png", 0, 31, 90)
    text = refusal(opened, max_bad=1.0)
    assert "2 of 2 files" in text
    assert "smaller than the model's input of 32x32 px" in text
    assert "20x16" in text
    assert "--model" in text
    put(data / "2.png")
    assert "2 of 3 files" in refusal(opened, max_bad=0.5)
    assert opened(max_bad=0.67).train.images.shape == (1, 32, 32, 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder(data: Path, opened: Callable[..., Images]) -> None:
    dataset(data)
    (data / "train" / "cat").chmod(0)
    try:
        assert "cannot be read" in refusal(opened)
    finally:
        (data / "train" / "cat").chmod(0o700)
