"""Saliency from pixels: oracles, known answers, symmetries, and nothing where there is nothing."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.filters import sobel

from maskbench.analysis import sources

Maps = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Work = Callable[[Pixels], Maps]


def noise(count: int = 3, side: int = 48, seed: int = 0, high: int = 256) -> Pixels:
    return np.random.default_rng(seed).integers(0, high, (count, side, side, 3), np.uint8)


def grey(maps: Maps) -> Pixels:
    return np.repeat(maps.round().astype(np.uint8)[..., None], 3, axis=-1)


CELL, MARGIN = 9, 5


def odd_one_out(row: int, column: int) -> Pixels:
    """Six by six bars in cells of 9 px, all lying but one, which stands; 64 px."""
    image = np.full((1, 64, 64), 40.0)
    long, short = slice(1, CELL - 1), slice(CELL // 2 - 1, CELL // 2 + 1)
    for r in range(6):
        for c in range(6):
            top, left = MARGIN + r * CELL, MARGIN + c * CELL
            box = image[0, top : top + CELL, left : left + CELL]
            box[(long, short) if (r, c) == (row, column) else (short, long)] = 200
    return grey(image)


def by_the_paper(image: Pixels) -> Maps:
    """Hou and Zhang, section 2, equations 1 to 4, step by step for an image of up to 64 px."""
    side = image.shape[0]
    spectrum = np.fft.fft2(rgb2gray(image))
    log, phase = np.log(np.abs(spectrum)), np.angle(spectrum)
    wide = np.pad(log, 1, mode="wrap")
    mean = sum(wide[i : i + side, j : j + side] for i in range(3) for j in range(3)) / 9
    back = np.fft.ifft2(np.exp((log - mean) + 1j * phase))
    return np.asarray(ndimage.gaussian_filter(np.abs(back) ** 2, 2.5 * side / 64))


@pytest.mark.parametrize("side", [32, 48, 64])
def test_spectral_residual_is_the_papers(side: int) -> None:
    images = noise(3, side)
    found = sources.spectral_residual(images)
    assert found.shape == (3, side, side)
    assert found.dtype == np.float64
    for image, one in zip(images, found, strict=True):
        np.testing.assert_allclose(one, by_the_paper(image), rtol=1e-9)


def test_large_images_are_looked_at_in_64_px() -> None:
    small = noise(2, 64)
    large = small.repeat(3, axis=1).repeat(3, axis=2)
    found = sources.spectral_residual(large)
    np.testing.assert_allclose(found[:, 1::3, 1::3], sources.spectral_residual(small), rtol=1e-9)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(("row", "column"), [(1, 2), (2, 1), (3, 3), (4, 0), (0, 5)])
def test_the_odd_one_out_stands_out(times: int, row: int, column: int) -> None:
    image = odd_one_out(row, column).repeat(times, axis=1).repeat(times, axis=2)
    found = sources.spectral_residual(image)[0]
    y, x = np.array(np.unravel_index(found.argmax(), found.shape)) / times
    assert ((y - MARGIN) // CELL, (x - MARGIN) // CELL) == (row, column)


def test_edges_are_scikit_images() -> None:
    images = noise(3, 40)
    for image, one in zip(images, sources.edge_energy(images), strict=True):
        np.testing.assert_allclose(one, sobel(rgb2gray(image)), rtol=0, atol=1e-14)


def test_a_step_by_hand() -> None:
    """From 0 to 255 in the middle: full difference on both sides of the step."""
    image = np.zeros((1, 8, 8, 3), np.uint8)
    image[:, :, 4:] = 255
    expected = np.zeros((8, 8))
    expected[:, 3:5] = 1 / np.sqrt(2)
    np.testing.assert_allclose(sources.edge_energy(image)[0], expected, rtol=1e-14)


@pytest.mark.parametrize("work", [sources.spectral_residual, sources.edge_energy])
@pytest.mark.parametrize("side", [32, 64, 72, 224])
def test_nothing_stands_out_of_one_colour(work: Work, side: int) -> None:
    colours = [(0, 0, 0), (255, 255, 255), (7, 130, 201), (1, 0, 0)]
    images = np.broadcast_to(np.array(colours, np.uint8)[:, None, None], (4, side, side, 3))
    assert not np.any(work(images))


def test_what_is_averaged_away_does_not_stand_out() -> None:
    board = np.indices((128, 128)).sum(0)[None] % 2 * 255.0
    assert not sources.spectral_residual(grey(board)).any()


def test_rounding_is_not_lifted_to_saliency() -> None:
    """Stripes have an empty spectrum off one line; their map stays constant along the stripes."""
    stripes = np.broadcast_to(np.random.default_rng(0).integers(0, 256, 64), (1, 64, 64))
    found = sources.spectral_residual(grey(stripes.astype(float)))[0]
    assert np.ptp(found, axis=0).max() < 1e-9 * np.ptp(found, axis=1).max()


SYMMETRIES: dict[str, Callable[[Any], Any]] = {
    "left right": lambda a: a[:, :, ::-1],
    "upside down": lambda a: a[:, ::-1],
    "transposed": lambda a: a.swapaxes(1, 2),
}


@pytest.mark.parametrize("work", [sources.spectral_residual, sources.edge_energy])
@pytest.mark.parametrize("name", SYMMETRIES)
@given(seed=st.integers(0, 99), side=st.sampled_from([16, 33, 72]))
@settings(max_examples=5, deadline=None)
def test_maps_follow_the_image(work: Work, name: str, seed: int, side: int) -> None:
    images, turn = noise(2, side, seed), SYMMETRIES[name]
    straight = work(images)
    np.testing.assert_allclose(work(turn(images)), turn(straight), rtol=1e-6, atol=1e-12)
    assert not np.allclose(turn(straight), straight, rtol=1e-3)


@given(seed=st.integers(0, 99), gain=st.integers(1, 5), offset=st.integers(0, 5))
@settings(max_examples=10, deadline=None)
def test_brightness(seed: int, gain: int, offset: int) -> None:
    """A gain does not move the residual and multiplies edges; an offset does not move edges."""
    images = noise(2, 32, seed, high=51)
    np.testing.assert_allclose(
        sources.spectral_residual(gain * images), sources.spectral_residual(images), rtol=1e-9
    )
    moved = gain * images + np.uint8(offset if gain < 5 else 0)
    expected = gain * sources.edge_energy(images)
    np.testing.assert_allclose(sources.edge_energy(moved), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("work", [sources.spectral_residual, sources.edge_energy])
def test_every_image_by_itself(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(7, 40)
    whole = work(images)
    monkeypatch.setattr(sources, "_CHUNK", 2 * 40**2)
    np.testing.assert_array_equal(work(images), whole)
    np.testing.assert_array_equal(work(images[3:4])[0], whole[3])


@pytest.mark.parametrize("work", [sources.spectral_residual, sources.edge_energy])
def test_memory_is_bounded(work: Work) -> None:
    images = noise(512, 112)
    tracemalloc.start()
    found = work(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - found.nbytes < 250 * 2**20


def test_centre_prior_by_hand() -> None:
    prior = sources.centre_prior(64)
    assert prior.shape == (64, 64)
    d = (np.arange(64) + 0.5 - 32) / (sources.SPREAD * 64)
    np.testing.assert_allclose(prior, np.exp(-(d[:, None] ** 2 + d**2) / 2), rtol=1e-12)
    for turned in (prior[::-1], prior[:, ::-1], prior.T):
        np.testing.assert_array_equal(turned, prior)
    assert sources.centre_prior(7).argmax() == 24
    assert sources.centre_prior(7)[3, 3] == 1


def test_tokens_by_hand() -> None:
    maps = np.arange(2 * 4 * 6, dtype=np.float64).reshape(2, 4, 6)
    first = [[4, 6, 8], [16, 18, 20]]  # 2 x 2 px: 0, 1, 6, 7 and so on, less a half
    expected = np.array(first, np.float64).ravel() - 0.5
    np.testing.assert_array_equal(sources.tokens(maps, 2, 3), [expected, expected + 24])
    np.testing.assert_array_equal(sources.tokens(maps > 7, 2, 3)[0], [0, 0.5, 0.5, 1, 1, 1])


@given(rows=st.integers(1, 5), columns=st.integers(1, 5), patch=st.integers(1, 4))
def test_tokens_are_means_of_patches(rows: int, columns: int, patch: int) -> None:
    maps = np.random.default_rng(rows).random((3, rows * patch, columns * patch))
    found = sources.tokens(maps, rows, columns).reshape(3, rows, columns)
    for r in range(rows):
        for c in range(columns):
            box = maps[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch]
            np.testing.assert_allclose(found[:, r, c], box.reshape(3, -1).mean(1))


@pytest.mark.parametrize(("rows", "columns"), [(5, 4), (4, 5), (32, 1)])
def test_patches_must_divide_the_map(rows: int, columns: int) -> None:
    with pytest.raises(ValueError, match=f"16 x 16 px have no {rows} x {columns}"):
        sources.tokens(np.zeros((1, 16, 16)), rows, columns)
