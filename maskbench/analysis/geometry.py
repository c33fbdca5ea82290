"""Geometry of masks: what they look like one by one and as a set, beside random masks.

Names of the quantities; r is the hidden share, L the patches, M the images, n1 and n0 the hidden
and visible patches of a mask. First means over images of one number per mask:

* ``moran``: Moran's I of rook neighbours.
* ``joins_mixed``, ``joins_hidden``, ``joins_visible``: neighbours that differ, are both hidden,
  both visible; ``joins_horizontal`` and ``joins_vertical``: those that differ, by direction.
* ``visible_components``, ``visible_largest`` (patches), ``hidden_components``, ``hidden_largest``
  (share of the hidden patches): 4-connected components.
* ``low_frequency``: share of the power at 0.15 cycles per token or less.
* ``same_image``: patches in which two masks of an image differ, over 2 r (1 - r) L.
* ``score_entropy`` (bits) and ``soft_share_error`` (mean soft hidden share minus r), of generators
  that know probabilities; random masks have no such number.

Then numbers of the set:

* ``slope``: log-log slope of the radial power; red < 0 < blue.
* ``anisotropy``: horizontal over vertical joins that differ, each over its number of joins.
* ``chi2`` and ``chi2_p``: uniformity of the frequency map, if masks of different images are
  independent. ``entropy``: of that map, over log L. ``position_share``: of the variance of a patch
  that its position explains; 1 if all masks are the same, 1 / M expected of random ones.
* ``hamming`` (over L), ``iou_hidden``, ``iou_visible``: means over pairs of images.

Intervals of means are t-intervals over images, those of the set jackknifes over images (on the
logarithm for ``anisotropy``); chi2 and its p have none.
"""

from math import exp, log

import numpy as np
from scipy import special

from maskbench.analysis import components, joins, spectrum, spread
from maskbench.analysis.null import Null, random_masks, uniform
from maskbench.analysis.quantity import (
    Array,
    Estimate,
    Masks,
    Quantity,
    chunks,
    jackknife,
    missing,
    over_images,
)

__all__ = ["Null", "Quantity", "describe", "frequency", "power", "random_masks", "uniform"]


def frequency(masks: Masks) -> Array:
    """How often each patch is hidden.

    Args:
        masks: Bool, shape (images, rows, columns), True means hidden.

    Returns:
        Mean over images, shape (rows, columns).
    """
    _hidden(masks)
    return np.asarray(np.count_nonzero(masks, axis=0) / len(masks), dtype=np.float64)


def power(masks: Masks) -> tuple[Array, Array, float]:
    """Radial power spectrum, mean over images.

    Args:
        masks: Bool, shape (images, rows, columns), equally many hidden in each.

    Returns:
        Radii in cycles per token and mean squared moduli of the unnormalised Fourier transform,
        shape (rings,) each; and the power n1 n0 / (L - 1) that random masks have at every radius.

    Raises:
        ValueError: The masks are none, or the grid is of one row or column.
    """
    hidden = _hidden(masks)
    _, rows, columns = masks.shape
    if min(rows, columns) < 2:
        raise ValueError(spectrum.ONE_LINE)
    rings, _ = spectrum.radial(masks)
    level = spectrum.flat(rows, columns, hidden)
    return spectrum.annuli(rows, columns).radii.copy(), rings.mean(0), level


def describe(
    masks: Masks, *, again: Masks | None = None, keep: Array | None = None, null: Null
) -> list[Quantity]:
    """All quantities of a set of masks, in a fixed order.

    Args:
        masks: Bool, shape (images, rows, columns), True means hidden, equally many in each image.
        again: A second sample for the same images, of the same shape; for ``same_image``.
        keep: Probabilities that a patch stays visible, shape (images, patches); for
            ``score_entropy`` and ``soft_share_error``.
        null: Of sets of the same size, by ``uniform``.

    Raises:
        ValueError: What is given is not of one shape, hides another number than the null says, or
            probabilities are not in [0, 1].
    """
    found = _means(masks, _hidden(masks, null))
    if again is not None:
        found["same_image"] = _same_image(masks, again, null)
    if keep is not None:
        found |= _soft(keep, null)
    found["anisotropy"] = _anisotropy(masks)
    found |= spread.spread(masks.reshape(len(masks), -1))
    return [
        Quantity(name, one.value, one.low, one.high, *_ends(null, name), one.note)
        for name, one in found.items()
    ]


def _ends(null: Null, name: str) -> tuple[float | None, float | None, float | None]:
    return null.bands.get(name, (None, None, None))


def _hidden(masks: Masks, null: Null | None = None) -> int:
    """Hidden patches of every mask, if they are what they must be."""
    if masks.dtype != np.bool_ or masks.ndim != 3 or not masks.size:
        raise ValueError(
            "masks must be bool of shape (images, rows, columns), "
            f"not {masks.dtype} of shape {masks.shape}"
        )
    counts = np.count_nonzero(masks, axis=(1, 2))
    hidden, most = int(counts[0]), masks[0].size - 1
    if (counts != hidden).any() or not 0 < hidden <= most:
        raise ValueError(
            f"every mask must hide the same number of patches, from 1 to {most}; these hide "
            f"{counts.min()} to {counts.max()}"
        )
    if null and (null.images, null.rows, null.columns, null.hidden) != (*masks.shape, hidden):
        raise ValueError(f"masks of shape {masks.shape} with {hidden} hidden do not fit {null}")
    return hidden


def _means(masks: Masks, hidden: int) -> dict[str, Estimate]:
    """Means over images, and the slope, whose rings come with the share of low frequencies."""
    _, rows, columns = masks.shape
    parts = [masks[part] for part in chunks(len(masks), rows * columns)]
    numbers = [joins.counts(part) | components.counts(part) for part in parts]
    found = {
        name: over_images(np.concatenate([each[name] for each in numbers]))
        if name in numbers[0]
        else missing(f"the grid has no {name.removeprefix('joins_')} joins")
        for name in (*joins.NAMES, *components.NAMES)
    }
    rings, low = spectrum.radial(masks)
    found["low_frequency"] = spectrum.low_share(low, rows, columns)
    found["slope"] = spectrum.slope(rings, rows, columns)
    return found


def _same_image(masks: Masks, again: Masks, null: Null) -> Estimate:
    _hidden(again, null)
    differ = np.count_nonzero(masks ^ again, axis=(1, 2)) / null.patches
    return over_images(differ / (2 * null.ratio * (1 - null.ratio)))


def _soft(keep: Array, null: Null) -> dict[str, Estimate]:
    """Score entropy in bits, and the error of the mean soft share."""
    expected = (null.images, null.patches)
    if keep.shape != expected or not ((keep >= 0) & (keep <= 1)).all():
        raise ValueError(f"keep must be probabilities of shape {expected}, not {keep.shape}")
    chance = keep.astype(np.float64)
    bits = (special.entr(chance) + special.entr(1 - chance)) / log(2)
    return {
        "score_entropy": over_images(bits.mean(1)),
        "soft_share_error": over_images(1 - chance.mean(1) - null.ratio),
    }


def _anisotropy(masks: Masks) -> Estimate:
    """Ratio of the directions, each over its joins; jackknife on the logarithm."""
    _, rows, columns = masks.shape
    if min(rows, columns) < 2:
        return missing("a grid of one row or column has joins in one direction only")
    counts, (across, down) = joins.counts(masks), joins.edges(rows, columns)
    horizontal, vertical = counts["joins_horizontal"], counts["joins_vertical"]
    if not vertical.any():
        return missing("no vertical neighbours differ: the ratio has no value")
    value = float(horizontal.sum() / vertical.sum() * down / across)
    rest = [each.sum() - each for each in (horizontal, vertical)]
    if not (rest[0].all() and rest[1].all()):
        return Estimate(
            value, note="no joins of a direction differ without some image: no interval"
        )
    found = jackknife(log(value), np.log(rest[0] / rest[1] * down / across))
    if found.low is None or found.high is None:
        return Estimate(value, note=found.note)
    return Estimate(value, exp(found.low), exp(found.high))
