"""Decoding: any kind of image becomes the same square RGB pixels; limits hold; nothing warns."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from maskbench.data import decode
from maskbench.events import Silent

SIDE = 32


def noise(height: int = SIDE, width: int = SIDE) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def opened(*paths: Path) -> list[NDArray[np.uint8] | str]:
    """Per file: its pixels (32, 32, 3), or why there are none."""
    results: list[bytes | str] = []
    work = partial(decode.pixels, side=SIDE)
    decode.in_threads(work, [str(path) for path in paths], "test", Silent(), results.extend)
    return [
        r if isinstance(r, str) else np.frombuffer(r, np.uint8).reshape(SIDE, SIDE, 3)
        for r in results
    ]


def test_crop_takes_the_middle_without_resampling(tmp_path: Path) -> None:
    for pixels, middle in ((noise(32, 51), noise(32, 51)[:, 9:41]), (noise(40, 32), None)):
        Image.fromarray(pixels).save(tmp_path / "x.png")
        np.testing.assert_array_equal(
            opened(tmp_path / "x.png")[0], pixels[4:36] if middle is None else middle
        )


def test_resizing_is_antialiased_bicubic(tmp_path: Path) -> None:
    large = np.zeros((64, 128, 3), np.uint8)
    large[::2, 32:96] = 200  # fine stripes, in the middle square only
    Image.fromarray(large).save(tmp_path / "x.png")
    [image] = opened(tmp_path / "x.png")
    inner = np.asarray(image)[4:-4].astype(int)
    assert np.abs(inner - 100).max() <= 6  # neither 0 nor 200
    smooth = Image.fromarray(noise(64, 64))
    smooth.save(tmp_path / "y.png")
    expected = np.asarray(smooth.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(opened(tmp_path / "y.png")[0], expected)


def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1))
    grey = Image.fromarray(ramp)
    deep = Image.fromarray(ramp.astype(np.uint16) * 256 + 77)
    kinds = {
        "grey.png": grey,
        "deep.png": deep,
        "deep.tif": deep,
        "int.tif": Image.fromarray(ramp.astype(np.int32) * 256 + 77),
        "alpha.png": grey.convert("LA"),
        "rgba.png": grey.convert("RGBA"),
        "bits.png": grey.convert("P"),
        "cmyk.tif": Image.merge("CMYK", [grey, grey, grey, Image.new("L", grey.size)]),
    }
    for name, image in kinds.items():
        image.save(tmp_path / name)
    grey.convert("P").save(tmp_path / "clear.png", transparency=bytes(range(256)))
    expected = np.repeat(ramp[..., None], 3, 2)
    names = [*kinds, "clear.png"]
    results = opened(*(tmp_path / name for name in names))
    for name, pixels in zip(names, results, strict=True):
        wanted = 255 - expected if name == "cmyk.tif" else expected
        np.testing.assert_array_equal(pixels, wanted, name)


def test_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(noise()).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(opened(tmp_path / "x.png")[0], noise())


def test_huge_images_are_refused_by_their_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(noise(40, 80)).save(tmp_path / "x.png")
    assert decode.size(str(tmp_path / "x.png")) == (80, 40)
    monkeypatch.setattr(decode, "MAX_PIXELS", 40 * 80 - 1)
    monkeypatch.setattr(decode, "_rgb", None)
    assert decode.size(str(tmp_path / "x.png")) == "too many pixels"
    assert opened(tmp_path / "x.png") == ["too many pixels"]


@pytest.mark.parametrize(("limit", "fails"), [(20_000, False), (1_000, True)])
def test_pillows_own_pixel_limit_neither_warns_nor_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, fails: bool
) -> None:
    Image.fromarray(noise(150, 150)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # over it: a warning; twice: an error
    [result] = opened(tmp_path / "x.png")
    assert isinstance(result, str) == fails
    assert not fails or result == "too many pixels"


def test_results_keep_their_order_over_many_batches(tmp_path: Path) -> None:
    results: list[str] = []
    parts: list[int] = []

    def take(part: object) -> None:
        assert isinstance(part, list)
        parts.append(len(part))
        results.extend(part)

    paths = [str(i) for i in range(1000)]
    decode.in_threads(str.upper, paths, "test", Silent(), take)
    assert results == paths
    assert max(parts) < len(paths)  # never all of them in memory
