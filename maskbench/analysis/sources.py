"""Saliency that needs nothing but the pixels: spectral residual, edge energy, centre prior.

Maps are float64, (images, side, side), larger where an image is more salient; ``tokens`` averages
them over patches. Colours are shares of the largest, 0 to 1; grey is that of scikit-image.
"""

from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import NDArray

Maps = NDArray[np.float64]

GREY = (0.2125, 0.7154, 0.0721)
LONG = 64
"""Pixels that the spectral residual looks at, along one side."""
BLUR = 2.5
"""Standard deviation of its smoothing, in pixels at ``LONG``."""
SPREAD = 0.25
"""Standard deviation of the centre prior as a share of the side.

Human fixations spread by 0.23 of the width (variance 0.22 where the half width is 1: Clarke &
Tatler, Vision Research 2014).
"""

_EMPTY = 1e-3  # of the root mean square amplitude: counts as the smallest
_FLAT = 1e-9  # standard deviation of grey that is rounding
_CHUNK = 2**22  # pixels at once: bounds the memory


def spectral_residual(images: NDArray[np.uint8]) -> Maps:
    """What is unexpected in the amplitude spectrum (Hou & Zhang, CVPR 2007, section 2).

    The log amplitude of a grey image, minus its mean over 3 x 3 frequencies, goes back with the
    phase; the squared modulus is smoothed. Images are averaged down to 64 px, as in the paper, but
    never enlarged: above the old Nyquist frequency an enlarged image holds nothing but traces of
    the interpolation, and the residual would lift them to the level of the content. A smaller
    image is used as it is, with the same smoothing in shares of its side. The spectrum is periodic
    and so is its mean, which makes the map follow flips and transpositions of the image; the
    brightness' scale does not matter, its offset does (it is the mean's own frequency).

    Amplitudes count as no smaller than 1e-3 of their root mean square, else what rounding leaves at
    empty frequencies of a drawn image would be lifted, too; photographs have hardly a smaller one.
    An image of one grey (at that size) has nothing unexpected: its map is zero.

    Args:
        images: Uint8, (images, side, side, 3).

    Returns:
        (images, side, side), at least 0; without a unit, comparable within an image.
    """
    return _in_chunks(_residual, images)


def edge_energy(images: NDArray[np.uint8]) -> Maps:
    """Sobel magnitude of grey: that of ``skimage.filters.sobel`` for every image; 0 if constant.

    Args:
        images: Uint8, (images, side, side, 3).

    Returns:
        (images, side, side), in grey levels (0 to 1) per two pixels over the root of 2.
    """
    return _in_chunks(_sobel, images)


def centre_prior(side: int) -> Maps:
    """Isotropic Gaussian around the image's centre, 1 there: the baseline every map must beat.

    Args:
        side: Pixels along one side.

    Returns:
        (side, side); the standard deviation is ``SPREAD`` of the side.
    """
    offset = np.arange(side) - (side - 1) / 2  # exact, so that mirrored pixels are equal
    along = np.exp(-0.5 * (offset / (SPREAD * side)) ** 2)
    return np.outer(along, along)


def tokens(maps: NDArray[np.float64] | NDArray[np.bool_], rows: int, columns: int) -> Maps:
    """Mean of maps over the pixels of every patch.

    Args:
        maps: Numbers, or bools for shares, (images, height, width).
        rows: Patches along the height.
        columns: Patches along the width.

    Returns:
        Float64, (images, rows * columns), row by row.

    Raises:
        ValueError: The patches do not divide the map.
    """
    count, height, width = maps.shape
    if height % rows or width % columns:
        raise ValueError(f"maps of {height} x {width} px have no {rows} x {columns} equal patches")
    patches = maps.reshape(count, rows, height // rows, columns, width // columns)
    shares = patches.mean(axis=(2, 4), dtype=np.float64)
    return np.asarray(shares.reshape(count, rows * columns))


def _in_chunks(work: Callable[[Maps], Maps], images: NDArray[np.uint8]) -> Maps:
    """Maps of the images' grey, a bounded number of pixels at a time."""
    count, side = images.shape[:2]
    maps = np.empty((count, side, side))
    step = max(1, _CHUNK // side**2)
    for start in range(0, count, step):
        maps[start : start + step] = work(_grey(images[start : start + step]))
    return maps


def _grey(images: NDArray[np.uint8]) -> Maps:
    """Luminance, 0 to 1; pixel by pixel, so that equal colours stay equal to the last bit."""
    red, green, blue = (share * images[..., i] for i, share in enumerate(GREY))
    return np.asarray((red + green + blue) / 255)


def _sobel(grey: Maps) -> Maps:
    """Root mean square of both derivatives; the difference goes first: of equals it is zero."""
    total = np.zeros_like(grey)
    for axis, other in ((1, 2), (2, 1)):
        slope = scipy.ndimage.correlate1d(grey, [-1.0, 0.0, 1.0], axis=axis)
        total += scipy.ndimage.correlate1d(slope, [0.25, 0.5, 0.25], axis=other) ** 2
    return np.asarray(np.sqrt(total / 2))


def _residual(grey: Maps) -> Maps:
    """Spectral residual maps of one chunk."""
    side = grey.shape[1]
    work = min(side, LONG)
    down, up = _averaging(side, work), _interpolation(work, side)
    small = down @ grey @ down.T
    contrast = small.std(axis=(1, 2), keepdims=True)
    flat = contrast <= _FLAT
    spectrum = np.fft.fft2(small)
    floor = _EMPTY * work * np.where(flat, 1, contrast)  # Parseval, without the mean's frequency
    log = np.log(np.maximum(np.abs(spectrum), floor))
    expected = scipy.ndimage.uniform_filter(log, 3, mode="wrap", axes=(1, 2))
    unexpected = np.fft.ifft2(spectrum * np.exp(-expected))  # amplitude e^(log - expected)
    power = np.where(flat, 0, np.abs(unexpected) ** 2)
    maps = scipy.ndimage.gaussian_filter(power, BLUR * work / LONG, axes=(1, 2))
    return np.asarray(up @ maps @ up.T)


def _averaging(side: int, out: int) -> Maps:
    """Mean over the pixels (and parts of pixels) that a larger one covers, (out, side)."""
    scale, source = side / out, np.arange(side)
    first = np.arange(out)[:, None] * scale
    covered = np.minimum(first + scale, source + 1) - np.maximum(first, source)
    return np.asarray(np.maximum(covered, 0) / scale)


def _interpolation(side: int, out: int) -> Maps:
    """Linear interpolation between pixel centres, constant beyond the outermost, (out, side)."""
    at = np.clip((np.arange(out) + 0.5) * side / out - 0.5, 0, side - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(side))))
