"""A frozen autoencoder that masks are judged by: what is hard for it, and where it looks."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskbench import seeds
from maskbench.data import augment
from maskbench.job import Job
from maskbench.mask import Grid, Mask
from maskbench.model import MaskedAutoencoder
from maskbench.optim import autocast

CHUNK = 64
LEAST_MASKS = 8

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """An autoencoder as it was when its training ended; nothing here changes it.

    Args:
        name: Whose it is.
        model: On its device.
        device: Where it is.
        precision: ``fp32`` or ``bf16``.
    """

    name: str
    model: MaskedAutoencoder
    device: torch.device
    precision: str

    @classmethod
    def of(cls, job: Job, name: str) -> "Reference":
        """A job's model as it is now."""
        return cls(name, job.model, job.device, job.precision)

    def difficulty(self, images: NDArray[np.uint8], hidden: int) -> Floats:
        """Mean loss of every patch over masks that hide each equally often.

        A random order of an image's patches is cut into windows of ``hidden`` patches whose starts
        are spread evenly round it: every patch is hidden under some of the masks, each under as
        many as any other, or one more.

        Args:
            images: Centre crops, uint8, (images, side, side, 3).
            hidden: Hidden patches per mask.

        Returns:
            (images, patches).
        """
        patches = self.model.shape.patches
        draws = max(LEAST_MASKS, 2 * math.ceil(patches / hidden))
        grid = Grid(self.model.shape.side, self.model.shape.side, hidden)
        order = seeds.uniform(
            seeds.key(0, "difficulty", 0), torch.arange(len(images)), patches
        ).argsort(1)
        total, count = (torch.zeros(len(images), patches, dtype=torch.float64) for _ in range(2))
        for draw in range(draws):
            window = (torch.arange(hidden) + draw * patches // draws) % patches
            places = order[:, window].sort(1).values
            empty = torch.zeros(len(images), patches, dtype=torch.bool)
            mask = Mask(empty.scatter(1, places, value=True), grid)
            total.scatter_add_(1, places, self._losses(images, mask))
            count.scatter_add_(1, places, torch.ones_like(places, dtype=torch.float64))
        return (total / count).numpy()

    def losses(self, images: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> Floats:
        """Mean loss of every image under a mask of its own.

        Args:
            images: Centre crops, uint8, (images, side, side, 3).
            hidden: (images, patches), the same number in every image.

        Returns:
            (images,).
        """
        grid = Grid(self.model.shape.side, self.model.shape.side, int(hidden[0].sum()))
        return self._losses(images, Mask(torch.from_numpy(hidden), grid)).mean(1).numpy()

    def random_losses(self, images: NDArray[np.uint8], hidden: int, draws: int = 4) -> Floats:
        """Mean loss of every image over uniformly random masks, (images,)."""
        grid = Grid(self.model.shape.side, self.model.shape.side, hidden)
        rows = torch.arange(len(images))
        found = []
        for draw in range(draws):
            noise = seeds.uniform(seeds.key(0, "reference", draw), rows, grid.patches)
            found.append(self._losses(images, Mask.from_scores(noise, grid)).mean(1))
        return torch.stack(found).mean(0).numpy()

    @torch.no_grad()
    def attention(self, images: NDArray[np.uint8]) -> Floats:
        """Attention of CLS in the last block, mean over heads: (images, patches)."""
        found = []
        for first in range(0, len(images), CHUNK):
            with autocast(self.device, self.precision):
                heads = self.model.attention(self._seen(images[first : first + CHUNK]))
            found.append(heads.mean(1).double().cpu())
        return torch.cat(found).numpy()

    @torch.no_grad()
    def _losses(self, images: NDArray[np.uint8], mask: Mask) -> Tensor:
        """Loss of every hidden patch by position, (images, hidden), on the CPU."""
        found = []
        for first in range(0, len(images), CHUNK):
            part = mask.hidden[first : first + CHUNK].to(self.device)
            with autocast(self.device, self.precision):
                seen = self._seen(images[first : first + CHUNK])
                outcome = self.model(seen, replace(mask, hidden=part))
            found.append(outcome.patch_loss.double().cpu())
        return torch.cat(found)

    def _seen(self, images: NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        return augment.normalise(pixels.to(self.device))
