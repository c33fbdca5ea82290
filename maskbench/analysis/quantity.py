"""One number of a set of masks: its interval over images, and where random masks lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

CONFIDENCE = 0.95
CELLS = 2**22
"""Patches worked on at a time: bounds the memory that long sets of masks take."""

Array = NDArray[np.float64]
Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Quantity:
    """A number that describes masks; what does not exist is None, and the note says why.

    Args:
        name: Identifier; ``geometry.describe`` lists them.
        value: Of the set of masks.
        low: Lower end of the 95 % interval over images.
        high: Upper end.
        null: Expected of uniformly random masks of as many hidden patches.
        null_low: 95 % of sets of so many random masks lie above; 2.5 % below.
        null_high: Upper end of that band.
        note: Why something is missing, or what the number needs to be read.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    null: float | None
    null_low: float | None
    null_high: float | None
    note: str = ""


class Estimate(NamedTuple):
    """A value and its interval, before they meet the null."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


class Band(NamedTuple):
    """Expectation and 95 % range under uniformly random masks."""

    null: float
    low: float
    high: float


def missing(note: str) -> Estimate:
    """A quantity that does not exist, and why."""
    return Estimate(None, note=note)


def over_images(values: Array) -> Estimate:
    """Mean and 95 % t-interval.

    Args:
        values: One per image, shape (images,).
    """
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean, note="one image has no interval")
    half = _t(len(values)) * float(values.std(ddof=1)) / sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


def jackknife(value: float, without: Array) -> Estimate:
    """95 % t-interval by the jackknife over images.

    Its variance, (M - 1) / M times the sum of squares of the leave-one-out values about their mean,
    is never too small in expectation (Efron and Stein, The jackknife estimate of variance, 1981);
    for quantities of pairs of nearly independent masks it is up to twice too large.

    Args:
        value: Of all images.
        without: Of all images but one, shape (images,); three at least.
    """
    images = len(without)
    if images < 3:
        return Estimate(value, note="fewer than three images have no jackknife interval")
    if not np.isfinite(without).all():
        return Estimate(value, note="not defined without some image: no interval")
    half = _t(images) * sqrt((images - 1) * float(without.var()))
    return Estimate(value, value - half, value + half)


def normal_band(null: float, spread: float) -> Band:
    """Band of a number that is normal about its expectation with a standard deviation."""
    half = float(special.ndtri((1 + CONFIDENCE) / 2)) * spread
    return Band(null, null - half, null + half)


def _t(images: int) -> float:
    return float(special.stdtrit(images - 1, (1 + CONFIDENCE) / 2))


def chunks(images: int, patches: int) -> Iterator[slice]:
    """Slices of the images of at most ``CELLS`` patches each, at least one image."""
    step = max(1, CELLS // patches)
    return (slice(start, start + step) for start in range(0, images, step))
