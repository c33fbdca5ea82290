"""Spatial frequencies of masks: radial power, its slope, and the share of low frequencies."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskbench.analysis.quantity import (
    Array,
    Estimate,
    Masks,
    chunks,
    jackknife,
    missing,
    over_images,
)

LOW = 0.15
"""Low frequencies reach to this radius, in cycles per token."""
_ROUNDING = 1e-9

ONE_LINE = "a grid of one row or column has no two-dimensional spectrum"


class Annuli(NamedTuple):
    """Rings of frequencies, one cycle per longer side wide, without the mean.

    Args:
        radii: Mean radius of each ring in cycles per token, shape (rings,).
        member: Averages powers over rings, shape (patches, rings).
        low: Which frequencies are low, bool of shape (patches,).
        whole: Which rings are centred at most on the Nyquist frequency, bool of shape (rings,);
            those beyond are cut by the corners of the spectrum.
    """

    radii: Array
    member: Array
    low: NDArray[np.bool_]
    whole: NDArray[np.bool_]


@cache
def annuli(rows: int, columns: int) -> Annuli:
    """The rings of a grid, the frequencies in the order of the discrete Fourier transform."""
    side = max(rows, columns)
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)).ravel()
    ring = np.floor(radius * side + 0.5 + _ROUNDING).astype(int)
    ring[0] = 0
    centres = np.unique(ring[1:])
    member = (ring[:, None] == centres).astype(np.float64)
    member /= member.sum(0)
    low = (radius <= LOW + _ROUNDING) & (ring > 0)
    return Annuli(radius @ member, member, low, centres <= side / 2)


def flat(rows: int, columns: int, hidden: int) -> float:
    """Expected power of every frequency but the mean under random masks: n1 n0 / (L - 1)."""
    patches = rows * columns
    return hidden * (patches - hidden) / (patches - 1)


def radial(masks: Masks) -> tuple[Array, Array]:
    """Power per ring, and the share of low frequencies, of each mask.

    Power is the squared modulus of the unnormalised discrete Fourier transform of m - mean(m).

    Args:
        masks: Bool, shape (images, rows, columns), equally many hidden in each.

    Returns:
        Shapes (images, rings) and (images,).
    """
    images, rows, columns = masks.shape
    _, member, low, _ = annuli(rows, columns)
    level = flat(rows, columns, int(np.count_nonzero(masks[0])))
    rings, share = np.empty((images, member.shape[1])), np.empty(images)
    for part in chunks(images, rows * columns):
        waves = np.fft.fft2(masks[part].astype(np.float64)).reshape(-1, rows * columns)
        waves[:, 0] = 0
        powers = waves.real**2 + waves.imag**2
        rings[part] = powers @ member
        share[part] = powers[:, low].sum(1) / powers.sum(1)
    rings[rings < _ROUNDING * level] = 0.0
    return rings, share


def weights(rows: int, columns: int) -> Array:
    """What the logarithm of each ring's power weighs in the least-squares slope; shape (rings,).

    Rings that are not whole weigh nothing; all are zero where fewer than two are left.
    """
    radii, _, _, whole = annuli(rows, columns)
    found = np.zeros(len(radii))
    if whole.sum() > 1:
        x = np.log(radii[whole])
        x -= x.mean()
        found[whole] = x / (x @ x)
    return found


def low_share(shares: Array, rows: int, columns: int) -> Estimate:
    """Mean over images of the share of low frequencies, if the grid has any; shape (images,)."""
    if min(rows, columns) < 2:
        return missing(ONE_LINE)
    if not annuli(rows, columns).low.any():
        return missing(f"the grid has no frequency of {LOW} cycles per token or less")
    return over_images(shares)


def slope(rings: Array, rows: int, columns: int) -> Estimate:
    """Log-log slope of the mean power over rings; jackknife over images.

    Args:
        rings: Power of each mask, shape (images, rings), of ``radial``.
        rows: Patch rows.
        columns: Patch columns.
    """
    if min(rows, columns) < 2:
        return missing(ONE_LINE)
    weight = weights(rows, columns)
    used = weight != 0
    if not used.any():
        return missing("fewer than two rings of frequencies")
    rings, weight = rings[:, used], weight[used]
    total, images = rings.sum(0), len(rings)
    if not total.all():
        return missing("some ring of frequencies has no power")
    value = float(np.log(total / images) @ weight)
    if images < 2:
        return Estimate(value, note="one image has no interval")
    rest = total - rings
    rest[rest <= _ROUNDING * total] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return jackknife(value, np.log(rest / (images - 1)) @ weight)
