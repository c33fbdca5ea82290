"""Regular grid: the easiest mask of the MAE ablation, every second row and column visible.

Source: He et al., Masked Autoencoders Are Scalable Vision Learners, arXiv 2111.06377, table 1f.
Every 2x2 cell shows the *same* one of its four patches. Whether that corner is fixed is not
published; here it is drawn per image, so that every patch is seen equally often. With a quarter of
an even grid visible there are 4 different masks in all, each a lattice of stride 2.

Other counts, ours: patches become visible in the order of their place in the cell: the lattice,
then the patch diagonal to it (a checkerboard, at half visible), then the other two; a level that
is not shown as a whole shows a random subset. On an odd grid the offset decides how many patches
the lattice has (on a single row possibly none), so it may be cut or filled up there.
"""

import torch

from maskbench.strategy import Batch, Context, Mask

from ._free import FreeOfProducts


class RegularGrid(FreeOfProducts):
    """One random offset per image; whatever lies on its lattice is visible first."""

    family = "data-free"
    source = "He et al., arXiv 2111.06377"
    summary = "shows the same patch of every 2x2 cell: a neighbour is always near, an easy task"

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Hide by level in the 2x2 cell (0 lattice, 1 diagonal, 2 beside), then by noise."""
        grid = context.grid
        patch = torch.arange(grid.patches, device=context.device)
        offset = (context.uniform("mask/offset", batch, 2) * 2).long()
        down = (patch // grid.columns + offset[:, :1]) % 2
        right = (patch % grid.columns + offset[:, 1:]) % 2
        level = torch.where(down == right, down, 2)
        return Mask.from_scores(2 * level + context.uniform("mask", batch), grid)
