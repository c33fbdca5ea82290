"""Data sets of Hugging Face: columns and splits are found, the pixels are those of the files."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import numpy as np
import pytest
from conftest import cli
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from pictures import SIDE, dataset, noise
from PIL import Image
from pyarrow.parquet import write_table

from maskbench.data import kinds, open_data
from maskbench.data.folder import open_folder
from maskbench.data.hub import open_hub
from maskbench.data.source import Images
from maskbench.errors import DATA, USAGE, DataError, UsageError
from maskbench.events import Silent
from maskbench.results import Store

NAMES = ["cat", "dog"]
Opened = Callable[..., Images]
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No bars, and Arrow files where the test ends."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


@pytest.fixture
def hub(tmp_path: Path) -> Opened:
    def call(text: Path | str, max_bad: float = 0.01) -> Images:
        return open_hub(str(text), SIDE, tmp_path / "cache", max_bad, Silent())

    return call


def rows(files: list[Path]) -> list[Row]:
    return [{"image": {"bytes": file.read_bytes(), "path": None},
             "label": NAMES.index(file.parent.name)} for file in files]  # fmt: skip


def made(found: list[Row], **features: Any) -> Dataset:
    """Rows with the features of images and classes, or others."""
    kinds = {"image": datasets.Image(), "label": ClassLabel(names=NAMES), **features}
    used = {name: kind for name, kind in kinds.items() if name in found[0]}
    raw = {"bytes": Value("binary"), "path": Value("string")}  # taken as it is
    plain = {n: raw if isinstance(kind, datasets.Image) else kind for n, kind in used.items()}
    return Dataset.from_list(found, features=Features(plain)).cast(Features(used))


def one(seed: int = 0, label: int | None = 0) -> Row:
    buffer = io.BytesIO()
    Image.fromarray(noise(seed)).save(buffer, "PNG")
    return {"image": {"bytes": buffer.getvalue(), "path": None}, "label": label}


def both() -> list[Row]:
    return [one(0, 0), one(1, 1)]


def parquet(folder: Path, **splits: Dataset) -> Path:
    (folder / "data").mkdir(parents=True)
    for name, split in splits.items():
        split.to_parquet(str(folder / "data" / f"{name}-00000-of-00001.parquet"))
    return folder


def saved(folder: Path, **splits: Dataset) -> Path:
    DatasetDict(splits).save_to_disk(str(folder))
    return folder


@pytest.fixture
def pets(tmp_path: Path) -> dict[str, Dataset]:
    root = dataset(tmp_path / "pets", 6)
    return {split: made(rows(sorted((root / split).rglob("*.png")))) for split in ("train", "test")}


@pytest.mark.parametrize("keep", [parquet, saved])
@pytest.mark.parametrize("test", ["test", "validation"])
def test_the_same_files_are_the_same_pixels(
    pets: dict[str, Dataset], tmp_path: Path, hub: Opened, keep: Any, test: str
) -> None:
    folder = open_folder(tmp_path / "pets", SIDE, tmp_path / "other")
    path = keep(tmp_path / "hub pets", **{"train": pets["train"], test: pets["test"]})
    found = hub(path)
    assert folder.test is not None
    assert found.test is not None
    for mine, theirs in ((found.train, folder.train), (found.test, folder.test)):
        np.testing.assert_array_equal(mine.images, theirs.images)
        np.testing.assert_array_equal(mine.labels, theirs.labels)
    assert found.classes == folder.classes
    assert found.name == "hf:hub-pets"
    assert list(found.train.ids)[:2] == ["train/00000000", "train/00000001"]
    assert f"split train and {test}" in found.notes["layout"]
    assert str(tmp_path) not in str(found.notes)


def test_the_second_opening_decodes_nothing(
    pets: dict[str, Dataset], tmp_path: Path, hub: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "p", **pets)
    first = hub(path)
    monkeypatch.setattr(Image, "open", None)
    assert hub(path).fingerprint == first.fingerprint


def test_changed_files_are_packed_anew(
    pets: dict[str, Dataset], tmp_path: Path, hub: Opened
) -> None:
    path = parquet(tmp_path / "p", **pets)
    first = hub(path)
    pets["train"].select(range(11, -1, -1)).to_parquet(
        str(path / "data" / "train-00000-of-00001.parquet")
    )
    second = hub(path)
    np.testing.assert_array_equal(second.train.images, first.train.images[::-1])
    assert second.fingerprint != first.fingerprint


def test_a_file_or_one_saved_split_is_train_alone(tmp_path: Path, hub: Opened) -> None:
    flat = made([{"image": one(seed)["image"]} for seed in range(3)])
    flat.to_parquet(str(tmp_path / "x.parquet"))
    flat.save_to_disk(str(tmp_path / "x"))
    for path in (tmp_path / "x.parquet", tmp_path / "x"):
        found = hub(path)
        assert (found.classes, found.test, found.train.labels) == ((), None, None)
        np.testing.assert_array_equal(found.train.images[2], noise(2))


def test_a_test_split_that_hides_its_labels_is_not_scored_on(tmp_path: Path, hub: Opened) -> None:
    splits = {"train": both(), "test": [one(2, -1), one(3, -1)], "validation": [one(4), one(5, 1)]}
    path = saved(tmp_path / "x", **{name: made(found) for name, found in splits.items()})
    found = hub(path)
    assert found.test is not None
    np.testing.assert_array_equal(found.test.images[1], noise(5))


def test_unusable_rows_are_skipped_and_named(tmp_path: Path, hub: Opened) -> None:
    home = tmp_path / "x"
    home.mkdir()
    Image.fromarray(noise(7)).save(home / "own.png")
    Image.fromarray(noise(8)).save(tmp_path / "foreign.png")
    (home / "link.png").symlink_to(tmp_path / "foreign.png")
    os.mkfifo(home / "pipe")
    foreign = [tmp_path / "foreign.png", home / "link.png", home / "pipe", "/etc"]
    paths = [home / "own.png", *foreign]
    bad: list[Row] = [
        {"image": {"bytes": b"hello", "path": None}, "label": 0},
        {"image": {"bytes": None, "path": None}, "label": 0},
        {"image": None, "label": 0},
        one(3, None),
        *({"image": {"bytes": None, "path": str(path)}, "label": 1} for path in paths),
    ]
    (home / "data").mkdir()
    for split, found_rows in (("train", [*both(), *bad]), ("test", both())):
        split_made = made(found_rows)
        table = split_made.with_format("arrow")[:].cast(split_made.features.arrow_schema)
        write_table(table, home / "data" / f"{split}.parquet")  # datasets would embed the files
    found = hub(home, max_bad=0.9)
    reasons = {b["path"]: b["reason"] for b in found.notes["skipped"]["files"]}
    assert reasons == {
        "train/00000002": "not an image",
        "train/00000003": "no image in this row",
        "train/00000004": "no image in this row",
        "train/00000005": "no label",
        "train/00000007": "a file outside the data set",
        "train/00000008": "a file outside the data set",
        "train/00000009": "no such file",
        "train/00000010": "no such file",
    }
    np.testing.assert_array_equal(found.train.images[2], noise(7))
    with pytest.raises(DataError, match="8 of 13 files"):
        hub(home)


def test_files_beside_the_rows_are_read(tmp_path: Path, hub: Opened) -> None:
    dataset(tmp_path / "pets", 2)  # datasets' own builder of image folders keeps paths
    found = hub(tmp_path / "pets")
    folder = open_folder(tmp_path / "pets", SIDE, tmp_path / "other")
    np.testing.assert_array_equal(found.train.images, folder.train.images)


def test_labels_are_chosen_by_a_name_behind_a_hash(tmp_path: Path, hub: Opened) -> None:
    found = [{**row, "coarse": 0, "fine": n} for n, row in enumerate(both())]
    for row in found:
        del row["label"]
    extra = {"coarse": ClassLabel(names=["pet"]), "fine": ClassLabel(names=["tom", "rex"])}
    path = saved(tmp_path / "x", train=made(found, **extra), test=made(found, **extra))
    assert hub(f"{path}#fine").classes == ("tom", "rex")
    assert hub(f"{path}#coarse").classes == ("pet",)
    assert hub(f"{path}#").classes == ()
    with pytest.raises(
        DataError, match=r"several of class labels.* there are coarse, fine.*#coarse'"
    ):
        hub(path)
    with pytest.raises(DataError, match=r"no column wrong of class labels"):
        hub(f"{path}#wrong")


def test_what_is_missing_is_named(tmp_path: Path, hub: Opened) -> None:
    good = made(both())
    with pytest.raises(DataError, match=r"no split train, only test\. .*save_to_disk"):
        hub(saved(tmp_path / "a", test=good))
    with pytest.raises(DataError, match=r"no labelled split named test, .*there are train, extra"):
        hub(saved(tmp_path / "b", train=good, extra=good))
    text = Dataset.from_dict({"words": ["a"], "label": [0]})
    with pytest.raises(DataError, match=r"no column of images; its columns are words \(Value\)"):
        hub(saved(tmp_path / "c", train=text))
    two = [{"left": row["image"], "right": row["image"]} for row in both()]
    twice = made(two, left=datasets.Image(), right=datasets.Image())
    with pytest.raises(DataError, match=r"several columns of images, left, right"):
        hub(saved(tmp_path / "d", train=twice))
    plain = made([{**both()[0], "label": 3}], label=Value("int64"))
    assert hub(saved(tmp_path / "e", train=plain)).classes == ()


def test_a_file_that_is_none(tmp_path: Path, hub: Opened) -> None:
    (tmp_path / "x.parquet").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"x\.parquet cannot be read: .*Expected is a Parquet file"):
        hub(tmp_path / "x.parquet")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"nothing cannot be read: .*Expected is a Parquet file"):
        hub(tmp_path / "nothing")


def test_a_name_that_is_not_there_says_where_it_was_sought(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    words = ["run", "--strategy", "random", "--model", "nano", "--data", "hf:nobody/nothing"]
    assert cli(monkeypatch, *words, "--dry-run") == DATA
    told = " ".join(capsys.readouterr().err.split())
    assert "hf:nobody/nothing cannot be read" in told
    assert "looked for on the Hugging Face hub: check the name and the network" in told


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(kinds, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    assert cli(monkeypatch, "run", "--strategy", "random", "--data", "hf:x", "--dry-run") == USAGE
    assert "pip install 'maskbench[hf]'" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(UsageError, match="needs the library datasets"):
        open_data("hf:x", SIDE, tmp_path, 0.01, Silent())
    with pytest.raises(UsageError, match=r"needs a path, as in --data hf:PATH or hf:NAME"):
        kinds.check_kind("hf:")


def test_a_run_on_parquet(
    pets: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = parquet(tmp_path / "p", **pets)
    words = ["run", "--strategy", "random", "--model", "nano", "--budget", "1ep", "--batch", "4"]
    assert cli(monkeypatch, *words, "--data", f"hf:{path}") == 0
    [record], _ = Store(tmp_path / "runs").records()
    assert (record["data"]["name"], record["status"]) == ("hf:p", "finished")
