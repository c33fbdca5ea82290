"""Frozen features that probes are fitted on: an encoder's patch mean, and raw pixels.

One definition for every strategy: all patches visible, the trained final norm, then the mean over
patch tokens, without CLS. It is MAE's ``--global_pool`` fed through the norm that was trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from maskbench.errors import DataError, DivergedError
from maskbench.events import Progress, Silent

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from maskbench.model import MaskedAutoencoder

Floats = NDArray[np.float64]
Features = NDArray[np.float32] | Floats
F = TypeVar("F", bound=NDArray[np.floating[Any]])


def patch_mean(
    model: MaskedAutoencoder,
    images: NDArray[np.uint8],
    normalise: Callable[[Tensor], Tensor],
    device: torch.device | str = "cpu",
    *,
    chunk: int = 128,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Mean of the normed patch tokens, every patch visible.

    Args:
        model: On ``device``; its training mode is left as it was.
        images: (images, side, side, 3), centre-cropped to the model's input where larger.
        normalise: Maps a uint8 batch (B, 3, side, side) on ``device`` to the encoder's floats.
        device: Where the encoder runs.
        chunk: Images per forward pass.
        progress: Told how many images are done.

    Returns:
        (images, width).

    Raises:
        DivergedError: A feature is not finite.
    """
    import torch

    progress = progress or Silent()
    cropped = centre_crop(images, model.shape.image)
    means = np.empty((len(images), model.shape.width), np.float32)
    training = model.training
    model.eval()
    progress.start("features", len(images), "images")
    try:
        with torch.no_grad():
            for start in range(0, len(images), chunk):
                batch = torch.from_numpy(np.array(cropped[start : start + chunk]))
                tokens = model.embed(normalise(batch.permute(0, 3, 1, 2).to(device)))
                assert tokens.shape[1] == model.shape.patches, "a probe sees every patch"
                pooled = model.encode(tokens)[:, 1:].float().mean(1)
                means[start : start + chunk] = pooled.cpu().numpy()
                progress.advance(start + len(batch))
    finally:
        model.train(training)
        progress.finish()
    return finite(means)


def pixels(
    images: NDArray[np.uint8], crop: int, *, side: int = 32, chunk: int = 500
) -> NDArray[np.float32]:
    """Raw pixels in [0, 1], the control that has learnt nothing.

    Args:
        images: (images, stored side, stored side, 3).
        crop: The model's input side, pixels: both see the same part of an image.
        side: Larger crops are shrunk to this side by averaging areas.
        chunk: Images averaged at a time.

    Returns:
        (images, s * s * 3) where s is the smaller of ``crop`` and ``side``.
    """
    cropped = centre_crop(images, crop)
    shrink = _area_weights(crop, min(crop, side))
    features = np.empty((len(images), 3 * len(shrink) ** 2), np.float32)
    for start in range(0, len(images), chunk):
        part = cropped[start : start + chunk].astype(np.float32) / 255
        small = np.einsum("ij,njkc,lk->nilc", shrink, part, shrink, optimize=True)
        features[start : start + chunk] = small.reshape(len(part), -1)
    return features


def centre_crop(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A view of the central ``side`` by ``side`` pixels of every image.

    Raises:
        DataError: The images are smaller than that.
    """
    border = images.shape[1] - side
    if border < 0:
        raise DataError(f"images of {images.shape[1]} px are too small for a {side} px encoder")
    first = border // 2
    return images[:, first : first + side, first : first + side]


def _area_weights(size: int, side: int) -> NDArray[np.float32]:
    """(side, size): the share of every stored pixel in each of ``side`` equal cells of a line."""
    edges = np.linspace(0, size, side + 1)[:, None]
    pixel = np.arange(size)
    overlap = np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel)
    return (overlap.clip(min=0) * side / size).astype(np.float32)


def standardise(pool: Features, *others: Features) -> list[Floats]:
    """Z-scores over the unlabelled pool, divided by sqrt(D): a mean squared length of one.

    Uses no labels, and makes one strength of regularisation fit every width and scale.

    Args:
        pool: The train pool, (images, D); gives mean and deviation of every dimension.
        others: More features in the same dimensions, such as those of the test split.

    Returns:
        The pool, then the others, in float64.

    Raises:
        DivergedError: A feature is not finite.
    """
    mean = finite(pool).mean(0, dtype=np.float64)
    scale = (pool.std(0, dtype=np.float64) + 1e-6) * np.sqrt(pool.shape[1])
    return [(finite(part) - mean) / scale for part in (pool, *others)]


def finite(features: F) -> F:
    """The features as they came.

    Raises:
        DivergedError: One of them is NaN or infinite.
    """
    parts = (features[start : start + 4096] for start in range(0, len(features), 4096))
    broken = sum(int((~np.isfinite(part)).any(1).sum()) for part in parts)  # may be memory-mapped
    if broken:
        raise DivergedError(
            f"features of {broken} of {len(features)} images are not finite: the encoder has "
            "diverged; lower the learning rate or probe an earlier checkpoint"
        )
    return features
