"""Pictures: hidden patches are the covered ones, maps are neutral where they should be."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from synthetic import GRID, IMAGES, SIDE, put, record, some_masks

from maskbench.errors import StoreError
from maskbench.figures import curves
from maskbench.figures import masks as drawn
from maskbench.report.tape import read_masks


def pixels_of(uri: str) -> NDArray[np.uint8]:
    data = base64.b64decode(uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def test_the_hidden_patches_are_the_covered_ones() -> None:
    images = np.zeros((2, SIDE, SIDE, 3), dtype=np.uint8)
    images[1] = (10, 200, 30)
    hidden = np.zeros((1, 2, GRID, GRID), dtype=np.bool_)
    hidden[0, 0, 0, 1] = hidden[0, 1, 3, 0] = True
    for mask, inverted in ((hidden, False), (~hidden, True)):
        full, masked = (pixels_of(uri) for uri in drawn.strips(images, mask))
        side = full.shape[1]
        covered = (masked[..., :3] == drawn.COVER).all(axis=2) & (masked[..., 3] > 0)
        tiles = covered[:side], covered[-side:]
        for tile, bits in zip(tiles, mask[0], strict=True):
            wanted = bits.repeat(side // GRID, axis=0).repeat(side // GRID, axis=1)
            assert (tile == wanted).all(), inverted
        assert (full[:side][~tiles[0]] == masked[:side][~tiles[0]]).all()


def test_large_images_get_whole_patches() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    hidden = np.ones((1, 1, 14, 14), dtype=np.bool_)
    assert pixels_of(drawn.strips(images, hidden)[1]).shape == (56, 56, 4)


def test_a_frequency_map_is_neutral_at_the_hidden_share() -> None:
    colours = pixels_of(drawn.frequency_map(np.array([[0.5, 0.75], [1.0, 0.75]]), 0.75, 0.25))
    even = colours[0, -1, :3].astype(int)
    assert even.min() > 235
    assert np.ptp(even) < 8
    assert colours[0, 0, 0] > colours[0, 0, 2]
    assert colours[-1, 0, 0] < colours[-1, 0, 2]


def test_masks_come_back_as_they_were(tmp_path: Path) -> None:
    folder = put(tmp_path, "random-0", record("random", 0, 0.5))
    tape = read_masks(folder)
    assert (tape.hidden.reshape(3, IMAGES, -1) == some_masks()).all()
    (folder / "masks.safetensors").write_bytes(b"no")
    with pytest.raises(StoreError, match="no readable masks"):
        read_masks(folder)


@pytest.mark.parametrize("values", [[0.0, 0.1, 0.2], [1.0, 1.0, 1.0, 9.0], [0.0, 5.0, 5.1], [2.0]])
def test_labels_are_spread_without_disorder(values: list[float]) -> None:
    found = curves.spread(values, 1.0)
    assert np.diff(found).min(initial=1.0) >= 1.0 - 1e-9
    assert sum(found) == pytest.approx(sum(values))
