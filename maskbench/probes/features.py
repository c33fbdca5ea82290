"""Frozen features that probes are fitted on: an encoder's patch mean and CLS, and raw pixels.

One definition for every strategy: all patches visible, the trained final norm, then the mean over
patch tokens, without CLS (MAE's ``--global_pool`` fed through the norm that was trained). CLS alone
and both side by side are variants, and so is the patch mean of an earlier block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from maskbench.errors import DataError, DivergedError
from maskbench.events import Progress, Silent

if TYPE_CHECKING:
    from maskbench.probes.backbone import Backbone

FEATURES = ("patchmean", "cls", "cls+patchmean")
CHUNK, BLOCK = 128, 4096
NUMBERS = 2**26
"""Of all layers' tokens, at a time."""
Floats = NDArray[np.float64]
Features = NDArray[np.float32] | Floats
F = TypeVar("F", bound=NDArray[np.floating[Any]])


@dataclass(frozen=True)
class Described:
    """Frozen features of some images, float32; may be memory-mapped.

    Args:
        cls: The CLS token after the last block, (images, D).
        patchmeans: Means of the patch tokens after each block, or after the last one alone,
            (layers, images, D).
    """

    cls: NDArray[np.float32]
    patchmeans: NDArray[np.float32]

    def feature(self, name: str) -> NDArray[np.float32]:
        """One of ``FEATURES``, (images, D) or (images, 2 D)."""
        if name == "patchmean":
            last: NDArray[np.float32] = self.patchmeans[-1]
            return last
        if name == "cls":
            return self.cls
        return np.concatenate([self.cls, self.patchmeans[-1]], axis=1)


Make = Callable[[str, tuple[int, ...]], NDArray[np.float32]]


def describe(
    backbone: Backbone,
    images: Any,
    *,
    every_layer: bool = True,
    make: Make = lambda name, shape: np.empty(shape, np.float32),
    progress: Progress | None = None,
) -> Described:
    """All features of some images in one pass: float32, every patch visible, in evaluation mode.

    Args:
        backbone: Its training mode is left as it was.
        images: Uint8, (images, side, side, 3); may be memory-mapped.
        every_layer: Whether patch means of all blocks are kept.
        make: Makes an array of a name and shape to write in.
        progress: Told how many images are done.

    Raises:
        DivergedError: A feature is not finite.
        DataError: The images are smaller than the encoder's input.
    """
    import torch

    progress = progress or Silent()
    count, depth = len(images), backbone.depth if every_layer else 1
    found = Described(
        make("cls", (count, backbone.width)), make("patchmeans", (depth, count, backbone.width))
    )
    size = (1 + backbone.patches) * backbone.width * backbone.depth
    chunk = min(CHUNK, max(1, NUMBERS // size))
    encoder, training, broken = backbone.encoder, backbone.encoder.training, 0
    encoder.eval()
    progress.start("features", count, "images")
    try:
        with torch.no_grad():
            for start in range(0, count, chunk):
                batch = torch.from_numpy(np.array(images[start : start + chunk]))
                shown = backbone.prepare(batch.permute(0, 3, 1, 2).to(backbone.device))
                layers = backbone.layers(shown)[-depth:]
                assert layers[-1].shape[1] == 1 + backbone.patches, "a probe sees every patch"
                rows = slice(start, start + len(batch))
                found.cls[rows] = layers[-1][:, 0].float().cpu().numpy()
                for layer, tokens in enumerate(layers):
                    found.patchmeans[layer, rows] = tokens[:, 1:].float().mean(1).cpu().numpy()
                broken += _broken(found.cls[rows])
                progress.advance(rows.stop)
    finally:
        encoder.train(training)
        progress.finish()
    if broken:
        raise DivergedError(_not_finite(broken, count))
    return found


def pixels(images: Any, crop: int, *, side: int = 32, chunk: int = 500) -> NDArray[np.float32]:
    """Raw pixels in [0, 1], the control that has learnt nothing.

    Args:
        images: Uint8, (images, stored side, stored side, 3); may be memory-mapped.
        crop: The model's input side, pixels: both see the same part of an image.
        side: Larger crops are shrunk to this side by averaging areas.
        chunk: Images averaged at a time.

    Returns:
        (images, s * s * 3) where s is the smaller of ``crop`` and ``side``.
    """
    shrink = _area_weights(crop, min(crop, side))
    features = np.empty((len(images), 3 * len(shrink) ** 2), np.float32)
    for start in range(0, len(images), chunk):
        part = centre_crop(images[start : start + chunk], crop).astype(np.float32) / 255
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
    parts = (features[start : start + BLOCK] for start in range(0, len(features), BLOCK))
    broken = sum(_broken(part) for part in parts)  # may be memory-mapped
    if broken:
        raise DivergedError(_not_finite(broken, len(features)))
    return features


def _broken(features: NDArray[np.floating[Any]]) -> int:
    return int((~np.isfinite(features)).any(1).sum())


def _not_finite(broken: int, count: int) -> str:
    return (
        f"features of {broken} of {count} images are not finite: the encoder has diverged; lower "
        "the learning rate or probe an earlier checkpoint"
    )
