"""The few images that pictures are kept of: how many, how large, and how they are made smaller."""

import numpy as np
from numpy.typing import NDArray

SHOWN = 12
"""So many images, the first of a fixed set."""
LARGEST = 96
"""Pixels along one side of what a model paints of them."""


def shown_side(side: int, rows: int) -> int:
    """Pixels along one side of a kept picture: patches stay whole pixels.

    Args:
        side: Of the model's input, pixels.
        rows: Patch rows.

    Returns:
        ``side`` up to ``LARGEST``, else the largest multiple of ``rows`` up to there; a pixel per
        patch where there are more rows than that.
    """
    return side if side <= LARGEST else rows * max(1, LARGEST // rows)


def shrunk(pixels: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """Square images at a smaller side: means over areas, rounded; unchanged at their own side.

    A new pixel is the mean over the square that it covers, pixels that it covers in part by their
    share. Where whole new pixels tile a patch, none mixes two patches.

    Args:
        pixels: 0 to 255, (images, their side, their side, 3); what is beyond is cut off, NaN is 0.
        side: Of the result, at most theirs.

    Returns:
        (images, side, side, 3).
    """
    own = pixels.shape[1]
    edges = np.arange(side + 1) * (own / side)
    ends = np.arange(own + 1)
    covered = np.minimum(edges[1:, None], ends[1:]) - np.maximum(edges[:-1, None], ends[:-1])
    share = covered.clip(0) * (side / own)
    bounded = np.nan_to_num(pixels.astype(np.float64)).clip(0, 255)
    found = np.einsum("ra,sb,iabc->irsc", share, share, bounded, optimize=True)
    return np.ascontiguousarray(np.rint(found), dtype=np.uint8)  # files are written as stored
