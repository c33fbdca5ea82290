"""Nearest neighbours: blocks change nothing, ties are settled, memory is bounded."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskbench.errors import DivergedError, UsageError
from maskbench.probes.knn import SPARE, knn, neighbours


def noise(images: int, width: int, seed: int, *, steps: float = 0.0) -> Any:
    """Random features; with ``steps`` on a coarse grid, so that many are the same."""
    values = np.random.default_rng(seed).normal(1.0, 1.0, (images, width))
    return (np.round(values / steps) * steps if steps else values).astype(np.float32)


def all_neighbours(train: Any, test: Any, k: int, **more: Any) -> tuple[Any, Any]:
    found = list(neighbours(train, test, k, **more))
    assert [i for rows, _, _ in found for i in range(rows.start, rows.stop)] == list(
        range(len(test))
    )
    _, similarity, index = zip(*found, strict=True)
    return np.concatenate(similarity), np.concatenate(index)


def plainly(train: Any, test: Any, k: int, *, centred: bool = True) -> tuple[Any, Any]:
    """The same in one piece, in double precision."""
    train, test = train.astype(np.float64), test.astype(np.float64)
    centre = train.mean(0) if centred else 0 * train[0]
    train, test = train - centre, test - centre
    train /= np.linalg.norm(train, axis=1, keepdims=True)
    test /= np.linalg.norm(test, axis=1, keepdims=True)
    similarity = (test @ train.T).round(12)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarity, order, 1), order


@pytest.mark.parametrize("centred", [True, False])
def test_they_are_the_nearest(centred: bool) -> None:
    train, test = noise(700, 9, 0), noise(120, 9, 1)
    similarity, index = all_neighbours(train, test, 20, centred=centred)
    expected, order = plainly(train, test, 20, centred=centred)
    assert (index == order).all()
    np.testing.assert_allclose(similarity, expected, atol=1e-11)
    assert (np.diff(similarity, axis=1) <= 0).all()


@pytest.mark.parametrize("steps", [0.0, 1.0])
@pytest.mark.parametrize("sizes", [(64, 7, 30), (701, 1, 1000), (13, 120, 50)])
def test_blocks_change_no_bit(
    monkeypatch: pytest.MonkeyPatch, steps: float, sizes: tuple[int, int, int]
) -> None:
    """Also where many train images are the same and only their position orders them."""
    train, test = noise(700, 5, 0, steps=steps), noise(120, 5, 1, steps=steps)
    labels = np.random.default_rng(2).integers(0, 6, 700)
    whole, whole_index = all_neighbours(train, test, 20)
    voted = knn(train, labels, test, 6)
    for name, rows in zip(("TRAIN_ROWS", "TEST_ROWS", "GROUP"), sizes, strict=True):
        monkeypatch.setattr(f"maskbench.probes.knn.{name}", rows)
    monkeypatch.setattr("maskbench.probes.knn.COMPARED", 2_000)
    similarity, index = all_neighbours(train, test, 20)
    assert (index == whole_index).all()
    assert similarity.tobytes() == whole.tobytes()
    again = knn(train, labels, test, 6)
    assert all((again[k] == voted[k]).all() for k in (1, 20))


def test_one_pass_gives_every_k_and_k_may_be_too_large() -> None:
    train, labels, test = noise(30, 4, 0), np.arange(30) % 3, noise(11, 4, 1)
    found = knn(train, labels, test, 3, ks=(1, 5, 500))
    assert list(found) == [1, 5, 500]
    for k in found:
        assert (found[k] == knn(train, labels, test, 3, ks=(k,))[k]).all()
    assert (found[500] == knn(train, labels, test, 3, ks=(30,))[30]).all()
    _, order = plainly(train, test, 1)
    assert (found[1] == labels[order[:, 0]]).all()
    with pytest.raises(UsageError, match="k of 1 or more"):
        knn(train, labels, test, 3, ks=(0,))


def test_equal_images_go_by_position_and_a_tie_to_the_smaller_class() -> None:
    train = np.concatenate([[[1.0, 0, 0], [-1, 0, 0]]] * (SPARE // 2)).astype(np.float32)
    labels = np.full(SPARE, 3)
    labels[[0, 2]] = 2, 1
    test = np.array([[5.0, 0, 0]], np.float32)
    _, index = all_neighbours(train, test, 3)
    assert index.tolist() == [[0, 2, 4]]
    found = knn(train, labels, test, 4, ks=(1, 2, 3))
    assert [int(found[k][0]) for k in (1, 2, 3)] == [2, 1, 1]


def test_not_finite_is_counted_over_all_blocks() -> None:
    train = noise(9_000, 3, 0)
    train[[5, 8_999], 1] = np.nan, np.inf
    with pytest.raises(DivergedError, match="2 of 9000 images"):
        knn(train, np.zeros(9_000, np.int64), train[:4], 2)


MEASURE = """
import sys, threading, time
import numpy as np
from numpy.lib.format import open_memmap
from maskbench.probes.knn import knn
path, images, queries = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
made = open_memmap(path, "w+", np.float32, (images, 768))
for start in range(0, images, 10_000):
    made[start : start + 10_000] = rng.standard_normal((len(made[start : start + 10_000]), 768))
made.flush()
del made
train = np.load(path, mmap_mode="r", allow_pickle=False)
test = rng.standard_normal((queries, 768)).astype(np.float32)
labels = rng.integers(0, 1000, images)
def own():  # KiB that no file backs
    return int(next(s for s in open("/proc/self/status") if s.startswith("RssAnon")).split()[1])
before, over = own(), threading.Event()
most = [before]
def watch():
    while not over.wait(0.005):
        most.append(own())
watcher = threading.Thread(target=watch)
watcher.start()
begun = time.perf_counter()
found = knn(train, labels, test, 1000)
over.set()
watcher.join()
assert set(found) == {1, 20}
print((max(most) - before) / 1024, time.perf_counter() - begun)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_train_features(tmp_path: Path) -> None:
    """300,000 x 768 in single precision are 0.9 GB; what is held in memory is far less."""
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    command = [sys.executable, str(script), str(tmp_path / "train.npy"), "300000", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) < 600  # MiB; a copy in single precision would be 880
