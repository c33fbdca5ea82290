"""Inverse block: one visible rectangle, everything else hidden.

Source: Darcet et al., Cluster and Predict Latents Patches (CAPI), arXiv 2502.08769. The opposite
of random masking: nothing can be filled in from all sides, the picture has to be continued.

With K visible patches: height and width are drawn with log(height / width) uniform in
[log 1/2, log 2] and area K, clamped to fit the grid; the shorter side is rounded and the longer one
is what K then needs (so that tall and wide are equally likely). The rectangle is cut in row-major
order to exactly K patches (its last row may be incomplete), then moved round the torus by a random
shift, so that every patch is visible equally often. Without the shift it lies uniformly where it
fits, which shows the centre more often than the border.

Any count and grid works: on a long grid, or with most patches visible, the clamp leaves the range
of log-aspects.
"""

import math

import torch
from torch import Tensor

from maskbench.strategy import Batch, Context, Field, Grid, Mask, StrategySettings

from . import _torus
from ._free import FreeOfProducts

LOG_ASPECT = math.log(2)


class InverseBlock(FreeOfProducts):
    """A visible rectangle of random aspect at a random place."""

    family = "data-free"
    source = "Darcet et al., arXiv 2502.08769"
    summary = "shows one rectangle and hides the rest: what is far away has to be continued"

    class Settings(StrategySettings):
        """Settings of the inverse block."""

        roll: bool = Field(
            True, description="shift round the torus, so that no place is visible more often"
        )

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Hide what is not among the rectangle's first ``visible`` patches, row by row."""
        grid = context.grid
        noise = context.uniform("mask", batch, 3)
        height, width = sides(noise[:, :1], grid)
        free = (1, 1) if self.settings.roll else (height, width)
        top = _torus.below(noise[:, 1:2], grid.rows - free[0] + 1)
        left = _torus.below(noise[:, 2:], grid.columns - free[1] + 1)
        down, right = _torus.seen_from(top, left, grid)
        visible = (right < width) & (down * width + right < grid.visible)
        return Mask(~visible, grid)


def sides(noise: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Height and width of rectangles that hold the visible patches and lack less than a row.

    Args:
        noise: Uniform numbers, (images, 1); they decide the aspect.
        grid: The grid that says how many are visible.

    Returns:
        Two long tensors, (images, 1).
    """
    shape = torch.exp(-LOG_ASPECT * (2 * noise - 1).abs())
    short = (grid.visible * shape).sqrt().round().long()
    height = short.clamp(-(-grid.visible // grid.columns), grid.rows)
    width = short.clamp(-(-grid.visible // grid.rows), grid.columns)
    width = torch.where(noise < 0.5, (grid.visible + height - 1) // height, width)
    return (grid.visible + width - 1) // width, width
