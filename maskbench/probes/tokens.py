"""Patch tokens of a frozen encoder, kept on disk in half precision or computed anew."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskbench.errors import DivergedError
from maskbench.events import Progress
from maskbench.probes.backbone import Backbone
from maskbench.probes.labelled import Labelled, central

HALF = 2
"""Bytes of a number that is kept."""
SPARE = 1.1
"""Disk that must be free, in sizes of the file: a memory-mapped file on a full disk kills."""


class Tokens:
    """Patch tokens of some images through the final norm, without CLS, standardised.

    Every dimension has mean 0 and deviation 1 over all tokens of all images: batch norm without
    affine (eps 1e-6), without a batch. Numbers are rounded to half precision first, kept or not.

    Args:
        backbone: In eval mode as long as this is used.
        part: The images; not augmented.
        folder: Where a file of tokens may lie.
        limit: Bytes; a file that would be larger, or does not fit the disk, is not written, and
            tokens are computed for every batch.
        progress: Who watches the one pass over all images.

    Raises:
        DivergedError: A token is not finite, or too large for half precision.
    """

    def __init__(
        self, backbone: Backbone, part: Labelled, folder: Path, limit: int, progress: Progress
    ) -> None:
        self.backbone, self.part = backbone, part
        shape = (len(part), backbone.patches, backbone.width)
        size = int(np.prod(shape)) * HALF
        fits = size <= limit and SPARE * size <= shutil.disk_usage(folder).free
        self.kept: NDArray[np.float16] | None = None
        if fits:
            self.kept = np.memmap(folder / "tokens.f16", np.float16, "w+", shape=shape)
        else:
            progress.message(
                f"tokens of {len(part)} images take {size / 2**20:.0f} MB, more than the limit "
                "or the free disk: they are computed anew for every batch"
            )
        sums: Any = np.zeros((2, backbone.width))
        progress.start("tokens", len(part), "images")
        for places in part.chunks():
            tokens = half_tokens(backbone, part, places)
            if self.kept is not None:
                self.kept[places.numpy()] = tokens.cpu().numpy()
            flat = tokens.flatten(0, 1).double()
            sums += torch.stack([flat.sum(0), flat.square().sum(0)]).cpu().numpy()
            progress.advance(int(places[-1]) + 1)
        progress.finish()
        mean, square = sums / (len(part) * backbone.patches)
        scale = 1 / np.sqrt((square - mean**2).clip(min=0) + 1e-6)
        self.mean, self.scale = (
            torch.tensor(x, dtype=torch.float32, device=backbone.device) for x in (mean, scale)
        )

    def __getitem__(self, places: Tensor) -> Tensor:
        """Of the images at some places, (B, patches, width), float32, on the backbone's device."""
        if self.kept is None:
            return self.standardise(half_tokens(self.backbone, self.part, places))
        return self.standardise(torch.from_numpy(self.kept[places.numpy()]))

    def standardise(self, tokens: Tensor) -> Tensor:
        """Tokens of any images in the same scale, float32, on the backbone's device."""
        return (tokens.to(self.mean.device).float() - self.mean) * self.scale


@torch.no_grad()
def half_tokens(backbone: Backbone, part: Labelled, places: Tensor) -> Tensor:
    """Patch tokens, (B, patches, width), in half precision, on the backbone's device.

    Raises:
        DivergedError: One is not finite, or too large for half precision.
    """
    tokens = backbone.tokens(central(backbone, part, places))[:, 1:].to(torch.float16)
    assert tokens.shape[1] == backbone.patches, "a probe sees every patch"
    broken = int((~tokens.isfinite()).flatten(1).any(1).sum())
    if broken:
        raise DivergedError(
            f"patch tokens of {broken} of {len(tokens)} images are not finite, or above 65,504: "
            f"{backbone.name} has diverged; probe an earlier checkpoint"
        )
    return tokens
