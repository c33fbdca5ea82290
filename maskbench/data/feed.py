"""Batches from an order of indices: step n gives the same images whatever came before."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskbench import distributed
from maskbench.context import Batch
from maskbench.data import augment
from maskbench.data.source import Split

Order = Callable[[int], Tensor]


class Feed:
    """An endless stream of epochs cut into batches; batches may straddle two epochs.

    Every epoch shows ``len(split)`` images in the order it is given; no image is dropped at an
    epoch's end.

    Args:
        split: The training split.
        size: Images per step.
        seed: The run's seed (augmentation).
        side: The model's input side, pixels.
        device: Where augmentation runs and batches end up.
        share: Which part of every batch this process sees, out of how many.

    ``seen`` marks the images that have been shown at least once.
    """

    def __init__(
        self,
        split: Split,
        size: int,
        *,
        seed: int,
        side: int,
        device: torch.device,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._split, self._size = split, size
        self._seed, self._side, self._device = seed, side, device
        self._share = share
        self._orders: dict[int, Tensor] = {}
        self.seen = torch.zeros(len(split), dtype=torch.bool)

    def where(self, step: int, order: Order, images: int | None = None) -> tuple[Tensor, Tensor]:
        """Epoch and position in the training set of every image of a step; long, (images,).

        Args:
            step: Which step.
            order: Epoch to long positions, (size of the training set,); asked once per epoch.
            images: How many, where the budget cuts the batch (default: all of it).
        """
        start = step * self._size
        slots = torch.arange(start, start + (self._size if images is None else images))
        epochs, rows = slots // len(self._split), slots % len(self._split)
        first, last = int(epochs[0]), int(epochs[-1])
        found = [self._epoch(n, order)[rows[epochs == n]] for n in range(first, last + 1)]
        return epochs, torch.cat(found)

    def batch(self, step: int, order: Order, images: int | None = None) -> Batch:
        """This process's part of a step's augmented, normalised images; arguments as above.

        A process without a part gets one image, which counts for nothing (``distributed``).
        """
        epochs, positions = self.where(step, order, images)
        self.seen[positions] = True
        mine = distributed.part(len(positions), self._share)
        first = mine.start
        mine = slice(first, max(mine.stop, first + 1))
        epochs, positions = epochs[mine], positions[mine]
        pixels = torch.from_numpy(np.ascontiguousarray(self._split.images[positions.numpy()]))
        epochs, positions = epochs.to(self._device), positions.to(self._device)
        crops = augment.draw_crops(
            self._seed, epochs, positions, self._split.side, len(self._split)
        )
        cropped = augment.crop_resize(pixels.to(self._device), crops, self._side)
        boxes = augment.boxes(crops, self._split.side)
        return Batch(augment.normalise(cropped), positions, boxes, first)

    def state_dict(self) -> dict[str, object]:
        """The orders drawn so far that still matter, and the images seen."""
        return {"orders": dict(self._orders), "seen": self.seen.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where another feed stopped."""
        self._orders, self.seen = dict(state["orders"]), state["seen"].clone()

    def again(self, size: int) -> "Feed":
        """A feed of the same images from the start, with another batch size."""
        own: Any = {"side": self._side, "device": self._device, "share": self._share}
        return Feed(self._split, size, seed=self._seed, **own)

    def _epoch(self, epoch: int, order: Order) -> Tensor:
        if epoch not in self._orders:
            self._orders = {e: o for e, o in self._orders.items() if e >= epoch - 1}
            self._orders[epoch] = order(epoch)
        return self._orders[epoch]
