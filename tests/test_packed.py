"""Packs: decoded once, complete or absent, packed anew when something changed."""

import json
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskbench.data import decode
from maskbench.data.folder import open_folder
from maskbench.data.source import Images
from maskbench.errors import DataError, StoreError
from maskbench.events import Silent

SIDE = 32


class Watcher(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.messages: list[str] = []
        self.open = 0

    def start(self, label: str, total: int, unit: str) -> None:
        self.stages.append((label, total))
        self.open += 1

    def finish(self) -> None:
        self.open -= 1

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 150), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:03}.bmp")
    return tmp_path / "pets"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "store" / "data"


def packs(cache: Path) -> list[Path]:
    """All but the folder of what is being packed."""
    return sorted(cache.glob("[!.]*"))


def same(first: Images, second: Images) -> None:
    assert first.fingerprint == second.fingerprint
    assert first.notes == second.notes
    assert first.train.ids == second.train.ids
    np.testing.assert_array_equal(first.train.images, second.train.images)


def test_second_opening_decodes_nothing(
    data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_folder(data, SIDE, cache)

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a file was opened as an image")

    monkeypatch.setattr(Image, "open", refuse)
    watcher = Watcher()
    same(first, open_folder(data, SIDE, cache, progress=watcher))
    assert watcher.stages == []
    assert len(packs(cache)) == 1
    assert packs(cache)[0].name.startswith("pets-")


def test_progress_names_every_stage(data: Path, cache: Path) -> None:
    watcher = Watcher()
    open_folder(data, SIDE, cache, progress=watcher)
    stages = [("measuring images", 304), ("packing train", 300), ("packing test", 4)]
    assert watcher.stages == stages
    assert watcher.open == 0
    assert watcher.messages == []


def test_record_says_how_it_was_packed(data: Path, cache: Path) -> None:
    open_folder(data, SIDE, cache)
    facts = json.loads((packs(cache)[0] / "pack.json").read_text())
    assert facts["counts"] == {"train": 300, "test": 4}
    assert set(facts["notes"]) == {"layout", "stored_side", "exif", "pillow", "numpy", "skipped"}
    assert str(data.parent) not in json.dumps(facts)


@pytest.mark.parametrize("change", ["time", "side", "more", "less", "place"])
def test_a_change_packs_anew(data: Path, cache: Path, change: str) -> None:
    first = open_folder(data, SIDE, cache)
    victim = data / "train" / "cat" / "000.bmp"
    if change == "time":
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(victim)
        os.utime(victim, ns=(0, 1))
    elif change == "more":
        (victim.parent / "new.bmp").write_bytes(victim.read_bytes())
    elif change == "less":
        victim.unlink()
    elif change == "place":
        (data.parent / "else").mkdir()
        data = data.rename(data.parent / "else" / "pets")
    second = open_folder(data, 24 if change == "side" else SIDE, cache)
    assert len(packs(cache)) == 2
    assert (first.fingerprint == second.fingerprint) == (change == "place")
    if change == "time":
        assert second.train.images[0].max() == 0
        assert first.train.images[0].max() > 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pack.json", None),
        ("pack.json", b"{"),
        ("pack.json", b"[]"),
        ("pack.json", b'{"schema": 0}'),
        ("train/images.u8", None),
        ("train/images.u8", b"short"),
        ("train/images.u8", bytes(300 * SIDE * SIDE * 3 + 1)),
        ("test/labels.npy", None),
        ("test/labels.npy", b""),
        ("test/ids.json", b"[]"),
    ],
)
def test_damaged_pack_is_packed_anew(
    data: Path, cache: Path, name: str, content: bytes | None
) -> None:
    first = open_folder(data, SIDE, cache)
    pixels = np.array(first.train.images)
    [pack] = packs(cache)
    (pack / name).unlink()
    if content is not None:
        (pack / name).write_bytes(content)
    watcher = Watcher()
    second = open_folder(data, SIDE, cache, progress=watcher)
    assert len(watcher.messages) == 1
    assert "damaged" in watcher.messages[0]
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.train.images, pixels)
    assert packs(cache) == [pack]


def test_two_threads_pack_the_same_folder(data: Path, cache: Path) -> None:
    results: list[Images] = []
    threads = [
        threading.Thread(target=lambda: results.append(open_folder(data, SIDE, cache)))
        for _ in range(2)
    ]
    before = list(warnings.filters)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(*results)
    assert len(packs(cache)) == 1
    assert list(warnings.filters) == before  # muting Pillow's warnings did not stick


def test_cache_that_cannot_be_written(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        StoreError, match=r"cannot be written.*up to 1\.2 MB.*choose another run store"
    ):
        open_folder(data, SIDE, tmp_path / "file" / "data")


def test_split_whose_images_all_fail_is_refused_not_mapped(
    data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = decode.pixels
    monkeypatch.setattr(
        decode, "pixels", lambda path, side: "rotten" if "/test/" in path else real(path, side)
    )
    for _ in range(2):
        with pytest.raises(DataError, match=r"test split .* no usable image of cat, dog"):
            open_folder(data, SIDE, cache, max_bad=0.5)
