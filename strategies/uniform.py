"""Uniform sampling: one visible patch in every 2x2 cell, chosen independently per cell.

Source: Li et al., Uniform Masking (UM-MAE), arXiv 2205.10063. No region is without a visible
patch, yet no lattice can be memorised. The published *secondary masking* (a shared token in place
of a quarter of the visible patches) is left out: it changes the encoder's input, not the mask. The
published code balances the four corners within an image; here cells are independent.

Other counts, ours: the patches of a cell are ranked by noise; all first ones become visible, then
all second ones, and so on, and the level where the count ends is filled at random. Cells at the
border of an odd grid are smaller and show their patches sooner.
"""

from torch import Tensor
from torch.nn.functional import pad

from maskbench.strategy import Batch, Context, Grid, Mask

from ._free import FreeOfProducts


class Uniform(FreeOfProducts):
    """Rank within the 2x2 cell decides, then noise between cells."""

    family = "data-free"
    source = "Li et al., arXiv 2205.10063"
    summary = "shows one random patch of every 2x2 cell: evenly spread, but no fixed lattice"

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Hide the patches of highest rank in their cell, in random order within a rank."""
        rank = cell_rank(context.uniform("mask", batch), context.grid)
        return Mask.from_scores(2 * rank + context.uniform("mask/fill", batch), context.grid)


def cell_rank(noise: Tensor, grid: Grid) -> Tensor:
    """Rank of every patch among the patches of its 2x2 cell, lowest noise first.

    Args:
        noise: Floats below 2, (images, patches).
        grid: The grid; an odd side ends in cells of one row or column.

    Returns:
        Long, (images, patches), from 0 to 3; every cell counts from 0 without a gap.
    """
    images, down, right = len(noise), (grid.rows + 1) // 2, (grid.columns + 1) // 2
    missing = (0, grid.columns % 2, 0, grid.rows % 2)
    plane = pad(noise.view(images, grid.rows, grid.columns), missing, value=2.0)
    cells = plane.view(images, down, 2, right, 2).transpose(2, 3).reshape(images, -1, 4)
    rank = cells.argsort(dim=2, stable=True).argsort(dim=2)
    plane = rank.view(images, down, right, 2, 2).transpose(2, 3).reshape(images, 2 * down, -1)
    return plane[:, : grid.rows, : grid.columns].flatten(1)
