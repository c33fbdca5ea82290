"""Where sets of uniformly random masks lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from maskbench.analysis import components, joins, spectrum, spread
from maskbench.analysis.quantity import CELLS, Band, Masks, chunks, normal_band

MOST = 16384
"""Random masks that are simulated for what has no exact moments; fewer of them on large grids."""
FEWEST = 1024


@dataclass(frozen=True)
class Null:
    """Where 95 % of sets of uniformly random masks lie.

    Args:
        rows: Patch rows.
        columns: Patch columns.
        hidden: Hidden patches per mask.
        images: Masks in a set.
        bands: Expectation and range by quantity.
    """

    rows: int
    columns: int
    hidden: int
    images: int
    bands: Mapping[str, Band] = field(repr=False)

    @property
    def patches(self) -> int:
        """L."""
        return self.rows * self.columns

    @property
    def ratio(self) -> float:
        """r: hidden share of a mask."""
        return self.hidden / self.patches


def random_masks(
    rows: int, columns: int, hidden: int, images: int, generator: np.random.Generator
) -> Masks:
    """Uniformly random masks: every choice of so many patches is equally likely.

    Args:
        rows: Patch rows.
        columns: Patch columns.
        hidden: Hidden patches per mask.
        images: How many masks.
        generator: Draws them.

    Returns:
        Bool, shape (images, rows, columns), True means hidden.
    """
    scores = generator.random((images, rows * columns))
    masks = np.zeros(scores.shape, dtype=bool)
    chosen = scores.argpartition(hidden - 1, axis=1)[:, :hidden]
    np.put_along_axis(masks, chosen, values=True, axis=1)
    return masks.reshape(images, rows, columns)


def uniform(
    rows: int, columns: int, hidden: int, images: int, generator: np.random.Generator
) -> Null:
    """Null bands of all quantities: exact where moments are known, else from simulated masks.

    Bands of simulated means allow for the error of the simulation, so that 95 % of sets lie inside.
    Means are taken as normal and pair numbers as chi2-shaped: fair from a handful of images on.

    Args:
        rows: Patch rows.
        columns: Patch columns.
        hidden: Hidden patches per mask, from 1 to rows * columns - 1.
        images: Masks in a set.
        generator: Draws the simulated masks.

    Raises:
        ValueError: A count is out of its range.
    """
    patches = rows * columns
    if min(rows, columns, images) < 1 or not 0 < hidden < patches:
        raise ValueError(f"no masks of {hidden} of {rows}x{columns} patches for {images} images")
    bands = joins.bands(rows, columns, hidden, images)
    bands |= spread.bands(spread.Size(patches, hidden, images))
    bands["same_image"] = normal_band(1.0, 1 / sqrt((patches - 1) * images))
    bands |= _simulated(rows, columns, hidden, images, generator)
    plain = {name: Band(*(float(end) for end in band)) for name, band in bands.items()}
    return Null(rows, columns, hidden, images, plain)


def _simulated(
    rows: int, columns: int, hidden: int, images: int, generator: np.random.Generator
) -> dict[str, Band]:
    """Components, low frequencies and the slope; means of masks, normal over sets.

    The slope is linear in the powers of the rings to first order; the second order shifts it.
    """
    drawn = min(MOST, max(FEWEST, CELLS // (rows * columns)))
    weights, parts = spectrum.weights(rows, columns), []
    level = spectrum.flat(rows, columns, hidden)
    for part in chunks(drawn, rows * columns):
        masks = random_masks(rows, columns, hidden, len(range(drawn)[part]), generator)
        rings, low = spectrum.radial(masks)
        parts.append(components.counts(masks) | {"low": low, "rings": rings / level})
    pool = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rings, low = pool.pop("rings"), pool.pop("low")
    error = sqrt(1 / images + 1 / drawn)
    bands = {
        name: normal_band(float(values.mean()), float(values.std()) * error)
        for name, values in pool.items()
    }
    share = spectrum.annuli(rows, columns).low.sum() / (rows * columns - 1)
    if min(rows, columns) > 1 and share:
        bands["low_frequency"] = normal_band(share, float(low.std()) / sqrt(images))
    if min(rows, columns) > 1 and weights.any():
        shift = -(rings.var(axis=0) @ weights) / (2 * images)
        band = normal_band(0.0, float((rings @ weights).std()) / sqrt(images))
        bands["slope"] = Band(0.0, band.low + shift, band.high + shift)
    return bands
