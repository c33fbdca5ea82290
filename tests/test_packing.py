"""Packing goes on where it was killed, by one process at a time, in bounded memory."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from pictures import SIDE, dataset, put
from PIL import Image

from maskbench.data import decode, packing
from maskbench.data.folder import open_folder
from maskbench.data.source import Images
from maskbench.errors import DataError, StoreError
from maskbench.events import Silent

PER_CLASS = 40
ALL = 4 * PER_CLASS
BAD = "train/cat/bad.png"

PACKER = [sys.executable, str(Path(__file__).parent / "packer.py")]


class Said(Silent):
    """Remembers messages, and how far a stage was when it began to advance."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.first: list[int] = []

    def start(self, label: str, total: int, unit: str) -> None:
        self.first.append(0)

    def advance(self, done: int, **values: float) -> None:
        self.first[-1] = self.first[-1] or done

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images, one of which opens and cannot be decoded."""
    root = dataset(tmp_path / "pets", PER_CLASS)
    put(root / BAD, 1)
    (root / BAD).write_bytes((root / BAD).read_bytes()[:-200])
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "store" / "data"


@pytest.fixture
def whole(data: Path, tmp_path: Path) -> Images:
    """What an undisturbed packing gives."""
    found = open_folder(data, SIDE, tmp_path / "undisturbed", 0.1)
    assert found.notes["skipped"]["count"] == 1
    assert sum(map(len, (found.train, found.test or ()))) == ALL
    return found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often headers were read and images decoded."""
    found: Counter[str] = Counter()
    real = {name: getattr(decode, name) for name in ("size", "pixels")}

    def counting(name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            found[name] += 1
            return real[name](*args, **options)

        return call

    with monkeypatch.context() as patch:
        for name in real:
            patch.setattr(decode, name, counting(name))
        yield found


def kill(data: Path, cache: Path, work: str, after: int) -> None:
    """Pack in a process that is killed at a call, and saves as often as it can."""
    command = [*PACKER, str(data), str(cache), str(SIDE), work, str(after)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not list(cache.glob("[!.]*"))  # nothing that could be taken for a pack


def journal(cache: Path) -> Path:
    [found] = cache.glob(".packing/*/journal.jsonl")
    return found


def finished(cache: Path) -> int:
    """Files the journal says are done."""
    rows = [json.loads(line) for line in journal(cache).read_text().splitlines()[1:]]
    return sum({row["split"]: row["files"] for row in rows}.values())


def same(found: Images, whole: Images) -> None:
    assert found.fingerprint == whole.fingerprint
    assert found.notes == whole.notes
    assert list(found.train.ids) == list(whole.train.ids)
    np.testing.assert_array_equal(found.train.images, whole.train.images)
    assert found.test is not None
    assert whole.test is not None
    np.testing.assert_array_equal(found.test.images, whole.test.images)


@pytest.mark.parametrize("after", [40, 75, 130, 160])
def test_a_killed_packing_goes_on(
    data: Path, cache: Path, whole: Images, calls: Counter[str], after: int
) -> None:
    kill(data, cache, "pixels", after)
    kept = finished(cache)
    # every finished task but those that others were begun beside
    assert after - 8 * 16 - 8 * (os.cpu_count() or 1) <= kept <= after
    said = Said()
    same(open_folder(data, SIDE, cache, 0.1, said), whole)
    assert calls == Counter({"pixels": ALL + 1 - kept} if kept < ALL + 1 else {})
    if kept:
        assert "are packed already; going on after them." in said.messages[0]
    assert not list(cache.glob(".packing/*/*.jsonl"))
    assert not list(cache.glob(".packing/*/pack"))


def test_headers_that_were_read_are_not_read_again(
    data: Path, cache: Path, whole: Images, calls: Counter[str]
) -> None:
    kill(data, cache, "pixels", 0)
    same(open_folder(data, SIDE, cache, 0.1), whole)
    assert calls["size"] == 0


def test_killed_while_measuring(
    data: Path, cache: Path, whole: Images, calls: Counter[str]
) -> None:
    kill(data, cache, "size", 100)
    same(open_folder(data, SIDE, cache, 0.1), whole)
    assert calls == Counter({"size": ALL + 1, "pixels": ALL + 1})


@pytest.fixture
def cut_short(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with all of train and a part of test, in as many ranges as can be."""
    real, calls = decode.pixels, iter(range(1000))

    def failing(*args: Any) -> bytes | str:
        if next(calls) == 150:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "SAVE", 0.0)
        patch.setattr(decode, "pixels", failing)
        with pytest.raises(KeyboardInterrupt):
            open_folder(data, SIDE, cache, 0.1)
    assert finished(cache) > 80
    return cache


def test_an_interrupted_packing_goes_on(
    data: Path, cut_short: Path, whole: Images, calls: Counter[str]
) -> None:
    kept, said = finished(cut_short), Said()
    same(open_folder(data, SIDE, cut_short, 0.1, said), whole)
    assert calls == {"pixels": ALL + 1 - kept}
    assert said.first[-1] > kept - 2 * PER_CLASS - 1  # the bar begins where the work does


def test_any_torn_journal_is_gone_on_with(
    data: Path, cut_short: Path, whole: Images, calls: Counter[str], tmp_path: Path
) -> None:
    text = journal(cut_short).read_bytes()
    kept = []
    for number, length in enumerate([0, 1, 40, len(text) // 2, len(text) - 60, len(text) - 1]):
        calls.clear()
        copy = tmp_path / str(number)
        subprocess.run(["/bin/cp", "-r", str(cut_short), str(copy)], check=True)
        journal(copy).write_bytes(text[:length])
        same(open_folder(data, SIDE, copy, 0.1), whole)
        kept.append(ALL + 1 - calls["pixels"])
    assert kept == sorted(kept)
    assert kept[0] == kept[1] == kept[2] == 0
    assert 0 < kept[3] < kept[-1]


@pytest.mark.parametrize("rubbish", [b"\xff\n", b"[]\n", b"{}\n", b'{"split": 3}\n', b"[" * 9999])
@pytest.mark.parametrize("line", [0, 1])
def test_rubbish_in_a_journal_is_not_trusted(
    data: Path, cut_short: Path, whole: Images, rubbish: bytes, line: int
) -> None:
    lines = journal(cut_short).read_bytes().splitlines(keepends=True)
    lines[line] = rubbish
    journal(cut_short).write_bytes(b"".join(lines))
    same(open_folder(data, SIDE, cut_short, 0.1), whole)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "more"])
def test_images_that_changed_on_the_disk_are_decoded_again(
    data: Path, cut_short: Path, whole: Images, calls: Counter[str], damage: str
) -> None:
    kept = finished(cut_short)
    [path] = cut_short.glob(".packing/*/pack/train/images.u8")
    content = bytearray(path.read_bytes())
    content[40 * SIDE * SIDE * 3] ^= 1
    changed = {"flip": content, "cut": content[: len(content) // 2], "more": None, "gone": b""}
    if damage == "more":  # written, and not noted before the kill
        [path] = cut_short.glob(".packing/*/pack/test/images.u8")
        changed["more"] = path.read_bytes() + bytes(10_000)
    path.write_bytes(changed[damage] or b"")
    same(open_folder(data, SIDE, cut_short, 0.1), whole)
    again = calls["pixels"] - (ALL + 1 - kept)
    assert again == 0 if damage == "more" else again > 0
    assert calls["pixels"] == ALL + 1 if damage == "gone" else calls["pixels"] < ALL + 1


def test_another_decoder_packs_anew(
    data: Path, cut_short: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PIL, "__version__", "0.1")
    open_folder(data, SIDE, cut_short, 0.1)
    assert calls == {"size": ALL + 1, "pixels": ALL + 1}


def test_a_full_disk_keeps_what_is_packed(
    data: Path, cache: Path, whole: Images, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, syncs = os.fsync, iter(range(1000))

    def full(handle: int) -> None:
        if next(syncs) == 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "SAVE", 0.0)
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"No space left.*make room .*is kept"):
            open_folder(data, SIDE, cache, 0.1)
    calls.clear()
    same(open_folder(data, SIDE, cache, 0.1), whole)
    assert 0 < calls["pixels"] < ALL + 1


def test_refused_data_leaves_nothing(data: Path, cache: Path) -> None:
    (data / "train" / "cat" / "text.png").write_text("hello")
    with pytest.raises(DataError):
        open_folder(data, SIDE, cache, 0.001)
    assert not list(cache.glob(".packing/*/[!.]*"))


def test_one_packs_and_the_other_waits(
    data: Path, cache: Path, whole: Images, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Images] = []
    second, waiting = Said(), threading.Event()
    monkeypatch.setattr(second, "message", lambda text: waiting.set())
    real = decode.pixels
    begun: list[threading.Thread] = []

    def slow(*args: Any) -> bytes | str:
        if not begun:
            work = lambda: found.append(open_folder(data, SIDE, cache, 0.1, second))  # noqa: E731
            begun.append(threading.Thread(target=work))
            begun[0].start()
        assert waiting.wait(30)
        return real(*args)

    monkeypatch.setattr(decode, "pixels", slow)
    found.append(open_folder(data, SIDE, cache, 0.1))
    begun[0].join()
    for one in found:
        same(one, whole)
    assert calls == {"size": ALL + 1, "pixels": ALL + 1}


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    root = tmp_path / "plain"
    root.mkdir()
    Image.new("RGB", (256, 256), "red").save(root / "0.png")
    for number in range(1, 800):
        os.link(root / "0.png", root / f"{number}.png")
    command = [*PACKER, str(root), str(tmp_path / "cache"), "224"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, grown = map(int, done.stdout.split())
    assert size == 800 * 256 * 256 * 3
    assert grown < size / 3
