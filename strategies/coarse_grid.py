"""Coarse grid: random masking whose unit is a square cell of patches.

Source: Yang et al., In Pursuit of Pixel Supervision (Pixio), arXiv 2512.15715: cells of 4x4
patches on a 16x16 grid. A hidden cell has no visible patch inside to copy from, so larger cells
make the task harder at the same count. The default here is 2, which suits the small grids of this
benchmark; ``cell=1`` is random masking.

Other counts and grids, ours: when the count does not end with a cell, one cell is hidden in part, a
random set of its patches; cells at the bottom and right border are smaller where ``cell`` does not
divide the grid, and a cell larger than the grid is the grid. The cells do not move.
"""

import torch

from maskbench.strategy import Batch, Context, Field, Mask, StrategySettings

from ._free import FreeOfProducts


class CoarseGrid(FreeOfProducts):
    """Noise per cell of patches; whole cells are hidden, at most one in part."""

    family = "data-free"
    source = "Yang et al., arXiv 2512.15715"
    summary = "hides whole square cells of patches at random: nothing next door to copy from"

    class Settings(StrategySettings):
        """Settings of the coarse grid."""

        cell: int = Field(2, ge=1, description="side of a cell, in patches; 1 is random masking")

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Hide cell after cell in random order; the last one by noise per patch."""
        grid, side = context.grid, self.settings.cell
        across = -(-grid.columns // side)
        cells = -(-grid.rows // side) * across
        turn = context.uniform("mask/cells", batch, cells).argsort(dim=1, stable=True)
        patch = torch.arange(grid.patches, device=context.device)
        cell = patch // grid.columns // side * across + patch % grid.columns // side
        return Mask.from_scores(2 * turn[:, cell] + context.uniform("mask", batch), grid)
