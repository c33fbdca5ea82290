"""How masks of different images differ: Hamming distance, overlap, and the frequency map.

For fixed-size masks the mean Hamming distance, the position share and chi2 are functions of one
number, the squared deviation of the frequency map from uniform. Under random masks it is a sum over
pairs of images that are uncorrelated (the overlap of a mask with any other is hypergeometric,
whatever the mask), so variances of pair means are those of a pair over the number of pairs; the
shape of the bands is that of chi2 with L - 1 degrees of freedom.
"""

from math import log, sqrt
from typing import NamedTuple

import numpy as np
import scipy
from scipy import special

from maskbench.analysis.quantity import (
    CONFIDENCE,
    Array,
    Band,
    Estimate,
    Masks,
    chunks,
    jackknife,
    missing,
)

ONE_IMAGE = "one image has no pairs"
NAMES = ("chi2", "chi2_p", "entropy", "position_share", "hamming", "iou_hidden", "iou_visible")


class Size(NamedTuple):
    """Patches, hidden patches of a mask, and images of a set."""

    patches: int
    hidden: int
    images: int

    @property
    def variance(self) -> float:
        """Of a patch under random masks: r (1 - r)."""
        r = self.hidden / self.patches
        return r * (1 - r)


def spread(masks: Masks) -> dict[str, Estimate]:
    """Quantities of pairs of images and of the frequency map.

    Intervals are jackknifes over images. Of chi2 there is none: it grows with the number of images
    and its value in a population does not exist.

    Args:
        masks: Bool, shape (images, patches), equally many hidden in each.
    """
    size = Size(masks.shape[1], int(np.count_nonzero(masks[0])), len(masks))
    if size.images < 2:
        return {name: missing(ONE_IMAGE) for name in NAMES}
    columns = np.count_nonzero(masks, axis=0).astype(np.float64)
    distances = _times(masks, size.images - 2 * columns) + columns.sum()
    hamming = _of_pairs(distances / size.patches)
    # sum of (f - r)^2 over patches, from which chi2 and the share follow
    scale = size.images / (size.images - 1) * 2 * size.variance
    share = 1 - _value(hamming) / scale
    chi2 = max(0.0, size.images * (size.patches - 1) * share)
    return {
        "chi2": Estimate(
            chi2, note=f"{size.patches - 1} degrees of freedom, if masks are independent"
        ),
        "chi2_p": Estimate(_tail(chi2, size)),
        "entropy": _entropy(masks, columns, size),
        "position_share": _turned(hamming, scale),
        "hamming": hamming,
        **_overlaps(masks, size),
    }


def bands(size: Size) -> dict[str, Band]:
    """Exact expectations and variances under random masks; none for a single image."""
    if size.images < 2:
        return {}
    freedom = size.patches - 1
    ends = (freedom + _narrowing(size) * end * sqrt(2 * freedom) for end in _centred(freedom))
    chi2 = Band(freedom, *ends)
    share = Band(*(min(1.0, end / (size.images * freedom)) for end in chi2))
    scale = 2 * size.variance * size.images / (size.images - 1)
    level = (1 - CONFIDENCE) / 2
    return {
        "chi2": chi2,
        "chi2_p": Band(0.5, level, 1 - level),
        "entropy": _entropy_band(size),
        "position_share": share,
        "hamming": Band(2 * size.variance, scale * (1 - share.high), scale * (1 - share.low)),
        "iou_hidden": _overlap_band(size.hidden, size),
        "iou_visible": _overlap_band(size.patches - size.hidden, size),
    }


def _times(masks: Masks, vector: Array) -> Array:
    """Sum of a number per patch over each image's hidden patches; shape (images,)."""
    parts = [masks[part].astype(np.float64) @ vector for part in chunks(*masks.shape)]
    return np.concatenate(parts)


def _of_pairs(sums: Array) -> Estimate:
    """Mean over pairs from each image's sum over all other images (U-statistic of order two)."""
    images = len(sums)
    total = sums.sum() / 2
    without = (total - sums) / max(1, (images - 1) * (images - 2) / 2)
    return _share(float(total / (images * (images - 1) / 2)), without)


def _share(value: float, without: Array) -> Estimate:
    """Jackknife of what cannot leave [0, 1]."""
    found = jackknife(value, without)
    return found._replace(low=_cut(found.low), high=_cut(found.high))


def _cut(end: float | None) -> float | None:
    return None if end is None else min(1.0, max(0.0, end))


def _value(one: Estimate) -> float:
    assert one.value is not None
    return one.value


def _turned(hamming: Estimate, scale: float) -> Estimate:
    """Position share 1 - mean f (1 - f) / (r (1 - r)), linear in the Hamming distance."""
    value, low, high = (
        None if end is None else _cut(1 - end / scale)
        for end in (hamming.value, hamming.high, hamming.low)
    )
    return Estimate(value, low, high, hamming.note)


def _narrowing(size: Size) -> float:
    """Standard deviation of chi2 over that of its limit: sqrt(1 - 1 / M), exactly."""
    return sqrt(1 - 1 / size.images)


def _tail(chi2: float, size: Size) -> float:
    freedom = size.patches - 1
    return float(scipy.stats.chi2.sf((chi2 - freedom) / _narrowing(size) + freedom, freedom))


def _centred(freedom: int) -> tuple[float, float]:
    """Ends of 95 % of chi2, in standard deviations from its mean."""
    low, high = scipy.stats.chi2.interval(CONFIDENCE, freedom)
    return (low - freedom) / sqrt(2 * freedom), (high - freedom) / sqrt(2 * freedom)


def _entropy(masks: Masks, columns: Array, size: Size) -> Estimate:
    """H(f / sum f) / log L; without an image a patch loses one hidden count or none."""
    total, fewer = size.images * size.hidden, (size.images - 1) * size.hidden
    terms = special.xlogy(columns, columns)
    change = np.where(columns > 0, special.xlogy(columns - 1, np.maximum(columns - 1, 1)), 0)
    without = terms.sum() + _times(masks, change - terms)
    value = min(1.0, (log(total) - terms.sum() / total) / log(size.patches))
    return _share(float(value), (log(fewer) - without / fewer) / log(size.patches))


def _entropy_band(size: Size) -> Band:
    """Expectation exact by the binomial; variance of c log c beyond its linear part.

    The linear part cancels, for the counts have a fixed sum. The rest of two patches' counts
    correlates as the square of -1 / (L - 1) (Lancaster, The structure of bivariate distributions,
    1958: Krawtchouk polynomials), whence the factor L / (L - 1).
    """
    patches, hidden, images = size
    count = np.arange(images + 1)
    chance = scipy.stats.binom.pmf(count, images, hidden / patches)
    term, total = special.xlogy(count, count), images * hidden
    mean, centre = chance @ term, total / patches
    slope = chance @ ((term - mean) * (count - centre)) / (images * size.variance)
    beyond = chance @ (term - mean - slope * (count - centre)) ** 2
    spread = sqrt(patches**2 / (patches - 1) * beyond) / total / log(patches)
    null = (log(total) - patches * mean / total) / log(patches)
    low, high = _centred(patches - 1)
    return Band(null, null - high * spread, null - low * spread)


def _iou(size: Size) -> tuple[Array, Array]:
    """IoU of the hidden and of the visible sets of a pair, by how many hidden patches it shares."""
    patches, hidden, _ = size
    shared = np.arange(hidden + 1)
    either = 2 * hidden - shared
    neither = np.maximum(patches - either, 0)
    return shared / either, neither / (patches - shared)


def _overlaps(masks: Masks, size: Size) -> dict[str, Estimate]:
    """Mean IoU over pairs, from a Gram matrix a block of rows at a time."""
    flat = masks.astype(np.float32)
    tables = _iou(size)
    sums = np.empty((2, size.images))
    for part in chunks(size.images, max(masks.shape)):
        shared = (flat[part] @ flat.T).astype(np.intp)
        for table, total in zip(tables, sums, strict=True):
            total[part] = table[shared].sum(1) - 1  # an image with itself
    return {
        "iou_hidden": _of_pairs(sums[0]),
        "iou_visible": _of_pairs(sums[1]),
    }


def _overlap_band(marked: int, size: Size) -> Band:
    """Of sets of ``marked`` patches, whose overlap is hypergeometric."""
    overlap = np.arange(marked + 1)
    chance = scipy.stats.hypergeom.pmf(overlap, size.patches, marked, marked)
    iou = overlap / (2 * marked - overlap)
    mean = float(chance @ iou)
    pairs = size.images * (size.images - 1) / 2
    spread = sqrt(chance @ (iou - mean) ** 2 / pairs)
    low, high = _centred(size.patches - 1)
    return Band(mean, mean + low * spread, mean + high * spread)
