r"""AMT: hides attended patches, by maps that the model itself refreshes now and then.

Source: Liu et al., attention-driven masking and throwing, arXiv 2211.15362, and its public code.
No teacher: at a tenth of the budget, and at every further tenth but the last, the current encoder
looks at every training image (its centre crop), and the map is kept per image:

.. math:: a_{bi} = \mathrm{mean}_h\,
    \frac{A_{bhi} - \min_i A_{bhi}}{\max_i A_{bhi} - \min_i A_{bhi}}

with :math:`A` the last layer's attention from CLS. A map is cropped and mirrored with its image.
The ``hidden`` patches are drawn without replacement, with probability proportional to the map: the
highest of :math:`\log a_{bi} + g_{bi}`, :math:`g` Gumbel. Until the first refresh all maps are
flat, so masks are random.

What differs from the published code: the interval is a share of the budget (there: 40 epochs); a
patch's weight is the map interpolated at its centre (there: the sum over its pixels of an enlarged
map). Throwing some patches out of both encoder and decoder, which makes AMT cheap, is **not
offered**: every patch is visible or hidden here (it is off in the published default, too).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from maskbench.strategy import (
    Batch,
    Context,
    DataView,
    Field,
    Grid,
    Mask,
    MaskStrategy,
    ModelShape,
    Outcome,
    StrategySettings,
)

from ._teacher import attention_flops

SMALLEST = 1e-3
CHUNK = 256


class AMT(MaskStrategy):
    """Masks from the model's own attention, refreshed now and then; see the module's text."""

    family = "guided"
    source = "Liu et al., arXiv 2211.15362 (masking without throwing)"
    summary = "hides attended patches at random, by maps the model refreshes every tenth of a run"

    maps: Tensor

    class Settings(StrategySettings):
        """AMT's knobs."""

        every: float = Field(
            0.1, gt=0, lt=1, description="share of the budget between two looks at the data set"
        )

    def setup(self, context: Context, data: DataView) -> None:
        """Flat maps for all images."""
        self._data = data
        self._looks, self._flops = 0, 0
        flat = torch.ones(data.count, context.grid.patches, dtype=torch.float16)
        self.register_buffer("maps", flat.to(context.device))

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Draw hidden patches with probability proportional to the cropped map."""
        boxes = 0.5 + (batch.boxes - 0.5) / self._data.shown  # the map is of the centre crop
        weight = crop_maps(self.maps[batch.positions].float(), boxes, context.grid)
        return Mask.from_scores(weight.log() + context.gumbel("mask", batch), context.grid)

    def after_step(
        self, batch: Batch, outcome: Outcome, context: Context
    ) -> Mapping[str, Tensor | float]:
        """Look at the whole data set when it is time; not at the end, where it would be unused.

        Nor where the rest of a FLOP budget does not pay for it.
        """
        due = math.floor(context.progress / self.settings.every + 1e-9)
        paid = self._look_flops(context) <= context.flops_left
        if due > self._looks and context.progress < 1 and paid:
            self.refresh(context)
            self._looks = due
        return {"amt/looks": float(self._looks)}

    @torch.no_grad()
    def refresh(self, context: Context) -> None:
        """New maps of all images from the encoder as it is."""
        self.maps.copy_(context.once(lambda: self._look(context)))
        self._flops += self._look_flops(context)

    def _look(self, context: Context) -> Tensor:
        """Maps of all images, on the CPU: (images, patches)."""
        maps = torch.empty(self.maps.shape, dtype=self.maps.dtype)
        for chunk in torch.split(torch.arange(self._data.count), CHUNK):
            attention = context.model.attention(self._data.images(chunk), "cls")
            low, high = attention.amin(2, keepdim=True), attention.amax(2, keepdim=True)
            scaled = (attention - low) / (high - low).clamp(min=1e-12)
            maps[chunk] = scaled.mean(1).to(maps.dtype).cpu()
        return maps

    def _look_flops(self, context: Context) -> int:
        return attention_flops(context.model.shape, "cls") * self._data.count

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """Nothing per step: drawing from the maps has no matrix products, looking is ``spent``."""
        return {}

    def spent(self) -> Mapping[str, int]:
        """The looks at the data set: the encoder describes images, it does not learn."""
        return {"feature extraction": self._flops} if self._flops else {}

    def get_extra_state(self) -> dict[str, Any]:
        """How often it has looked, and what that cost."""
        return {"looks": self._looks, "flops": self._flops} if hasattr(self, "_looks") else {}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore it."""
        if state:
            self._looks, self._flops = int(state["looks"]), int(state["flops"])


def crop_maps(maps: Tensor, boxes: Tensor, grid: Grid) -> Tensor:
    """Cut and mirror maps like their images; interpolated at the centre of every patch.

    Args:
        maps: Per patch of the whole image, (images, patches).
        boxes: Top, left, bottom, right as shares of the image, (images, 4).
        grid: The patches.

    Returns:
        (images, patches), at least 0.001: nothing is impossible.
    """
    down = (torch.arange(grid.rows, device=maps.device) + 0.5) / grid.rows
    across = (torch.arange(grid.columns, device=maps.device) + 0.5) / grid.columns
    y = boxes[:, :1] + (boxes[:, 2:3] - boxes[:, :1]) * down
    x = boxes[:, 1:2] + (boxes[:, 3:4] - boxes[:, 1:2]) * across
    rows = y.unsqueeze(2).expand(-1, -1, grid.columns)
    columns = x.unsqueeze(1).expand(-1, grid.rows, -1)
    where = 2 * torch.stack([columns, rows], dim=-1) - 1
    image = maps.view(-1, 1, grid.rows, grid.columns)
    cut = functional.grid_sample(image, where, padding_mode="border", align_corners=False)
    return cut.flatten(1).clamp(min=SMALLEST)
