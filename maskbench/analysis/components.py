"""Connected parts of the visible and the hidden patches."""

from typing import Any

import numpy as np
from scipy import ndimage

from maskbench.analysis.quantity import Array, Masks

NAMES = ("visible_components", "visible_largest", "hidden_components", "hidden_largest")
_WITHIN = np.zeros((3, 3, 3), dtype=bool)
_WITHIN[1] = ndimage.generate_binary_structure(2, 1)


def components(sets: Masks) -> tuple[Array, Array]:
    """4-connected components of the True patches, all images labelled in one pass.

    Args:
        sets: Bool, shape (images, rows, columns).

    Returns:
        How many an image has, and the patches of its largest; shape (images,) each.
    """
    images = len(sets)
    labelled: Any = ndimage.label(sets, _WITHIN)
    flat, parts = labelled[0].reshape(images, -1), labelled[1]
    size = np.bincount(flat.ravel(), minlength=parts + 1)[1:]
    owner = np.zeros(parts + 1, dtype=np.intp)
    owner[flat] = np.arange(images)[:, None]
    largest = np.zeros(images)
    np.maximum.at(largest, owner[1:], size)
    return np.bincount(owner[1:], minlength=images).astype(np.float64), largest


def counts(masks: Masks) -> dict[str, Array]:
    """Of each mask: components of both kinds, patches of the largest visible, share of the hidden.

    Args:
        masks: Bool, shape (images, rows, columns), True means hidden.

    Returns:
        Shape (images,) each; ``hidden_largest`` as a share of the hidden patches.
    """
    visible, largest = components(~masks)
    hidden, most = components(masks)
    return {
        "visible_components": visible,
        "visible_largest": largest,
        "hidden_components": hidden,
        "hidden_largest": most / np.count_nonzero(masks, axis=(1, 2)),
    }
