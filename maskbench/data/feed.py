"""Batches from an order of indices: step n gives the same images whatever came before."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from maskbench.budget import Plan
from maskbench.data import augment
from maskbench.data.source import Split

Order = Callable[[int], Tensor]


class Feed:
    """An endless stream of epochs cut into batches; batches may straddle two epochs.

    Every epoch shows ``len(split)`` images in the order it is given; no image is dropped at an
    epoch's end, and the last batch of the budget is cut to fit.

    Args:
        split: The training split.
        plan: Batch size and budget.
        order: Epoch to long indices, (images,).
        seed: The run's seed (augmentation).
        side: The model's input side, pixels.
        device: Where augmentation runs and batches end up.

    ``seen`` marks the images that have been shown at least once.
    """

    def __init__(
        self,
        split: Split,
        plan: Plan,
        order: Order,
        *,
        seed: int,
        side: int,
        device: torch.device,
    ) -> None:
        self._split, self._plan, self._order = split, plan, order
        self._seed, self._side, self._device = seed, side, device
        self._orders: dict[int, Tensor] = {}
        self.seen = torch.zeros(len(split), dtype=torch.bool)

    def where(self, step: int) -> tuple[Tensor, Tensor]:
        """Epoch and position in the training set of every image of a step; long, (batch,)."""
        start = step * self._plan.batch
        stop = min(start + self._plan.batch, self._plan.images)
        slots = torch.arange(start, stop)
        epochs = slots // len(self._split)
        first, last = int(epochs[0]), int(epochs[-1])
        rows = torch.cat([self._epoch(epoch) for epoch in range(first, last + 1)])
        return epochs, rows[slots - first * len(self._split)]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Augmented, normalised images, (batch, 3, side, side), and their positions."""
        epochs, positions = self.where(step)
        self.seen[positions] = True
        pixels = torch.from_numpy(np.ascontiguousarray(self._split.images[positions.numpy()]))
        epochs, positions = epochs.to(self._device), positions.to(self._device)
        crops = augment.draw_crops(
            self._seed, epochs, positions, self._split.side, len(self._split)
        )
        images = augment.crop_resize(pixels.to(self._device), crops, self._side)
        return augment.normalise(images), positions

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {e: o for e, o in self._orders.items() if e >= epoch - 1}
            self._orders[epoch] = self._order(epoch)
        return self._orders[epoch]
