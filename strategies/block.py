r"""Block-wise masking: hidden rectangles of random size, until enough is hidden.

Source: Bao et al., BEiT, arXiv 2106.08254, algorithm 1; measured for masked autoencoders by He et
al., arXiv 2111.06377, table 1f. Large holes cannot be filled in from the patches next door.

Again and again: area ~ U(smallest, remaining), log(height / width) ~ U(log 0.3, log 1/0.3),
rounded sides, each smaller than the grid's; placed uniformly, both borders included; taken if it
adds between 1 and ``remaining`` newly hidden patches. ``smallest`` shrinks to what remains.

What differs from the published loop: all images go through ``ROUNDS`` rounds of at most one block
together (``TRIES`` tries each), and the count is exact. An image whose rounds end too early is
filled up with random visible patches that border hidden ones: on 14x14, 3 % of the images at 75 %
hidden, by 2 patches on average; almost none at half; two thirds of them, by 5 patches, at 90 %. So
are grids of one or two rows, where rectangles seldom fit; one row or column counts as fitting.

Such blocks hide the centre far more often than the corners (published as well). ``roll`` shifts
every mask round the torus, which leaves the blocks and removes that bias.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from maskbench.strategy import Batch, Context, Field, Grid, Mask, StrategySettings

from . import _torus
from ._free import FreeOfProducts

ROUNDS = 16
TRIES = 4
LOG_ASPECT = math.log(1 / 0.3)


class Block(FreeOfProducts):
    """Hidden rectangles, a fixed number of tries for the whole batch, then an exact count."""

    family = "data-free"
    source = "Bao et al., arXiv 2106.08254"
    summary = "hides large overlapping rectangles: holes that cannot be filled from next door"

    class Settings(StrategySettings):
        """Settings of block-wise masking."""

        smallest: float = Field(
            16 / 196, ge=0, le=1, description="least area of a block, as a share of the grid"
        )
        roll: bool = Field(False, description="shift round the torus: no bias to the centre")

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Hide blocks, then single patches beside them, then shift if asked to."""
        grid = context.grid
        noise = context.uniform("mask", batch, ROUNDS * 4 * TRIES).view(-1, ROUNDS, 4, TRIES)
        blocks = hide_blocks(noise, self.settings.smallest * grid.patches, grid)
        mask = top_up(blocks, context.uniform("mask/border", batch), grid)
        if not self.settings.roll:
            return mask
        shift = context.uniform("mask/roll", batch, 2)
        down = _torus.below(shift[:, :1], grid.rows)
        right = _torus.below(shift[:, 1:], grid.columns)
        return Mask(_torus.roll(mask.hidden, down, right, grid), grid)


def hide_blocks(noise: Tensor, smallest: float, grid: Grid) -> Tensor:
    """Hide rectangles, one a round, until the rounds or the patches to hide are used up.

    A try changes nothing unless it is taken, so the tries of a round are looked at together and
    the first one that fits is taken, as if they had come one after the other.

    Args:
        noise: Uniform numbers, (images, rounds, 4, tries): area, aspect, row and column.
        smallest: Least area, in patches.
        grid: The grid; its count is never exceeded.

    Returns:
        Bool, (images, patches): hidden so far.
    """
    images, device = len(noise), noise.device
    extent = torch.tensor([grid.rows, grid.columns], device=device).view(2, 1, 1)
    patch = torch.arange(grid.patches, device=device)
    place = torch.stack([patch // grid.columns, patch % grid.columns]).view(2, 1, 1, -1).float()
    root_aspect = torch.exp(LOG_ASPECT * (noise[:, :, 1] - 0.5))
    stretch = torch.stack([root_aspect, 1 / root_aspect])
    hidden = torch.zeros(images, grid.patches, dtype=torch.bool, device=device)
    remaining = torch.full((images, 1), grid.hidden, device=device)
    for turn in range(noise.shape[1]):
        root = root_area(noise[:, turn, 0], remaining, smallest)
        side = (root * stretch[:, :, turn]).round().clamp(min=1)
        start = (noise[:, turn, 2:].movedim(1, 0) * (extent - side + 1)).floor()
        within = (place >= start[..., None]) & (place < (start + side)[..., None])
        added = within[0] & within[1] & ~hidden[:, None]
        count = added.sum(2)
        fits = (side < extent.clamp(min=2)).all(0) & (count > 0) & (count <= remaining)
        first = fits.int().argmax(1, keepdim=True)
        taken = fits.gather(1, first)
        hidden |= added.take_along_dim(first[..., None], 1).squeeze(1) & taken
        remaining = remaining - count.gather(1, first) * taken
    return hidden


def root_area(noise: Tensor, remaining: Tensor, smallest: float) -> Tensor:
    """Root of the areas to try, uniform from the smallest block to what remains.

    Args:
        noise: Uniform numbers, (images, tries).
        remaining: Patches still to hide, (images, 1).
        smallest: Least area, in patches; less if less remains.
    """
    least = remaining.clamp(max=smallest)
    return (least + noise * (remaining - least)).sqrt()


def top_up(hidden: Tensor, noise: Tensor, grid: Grid) -> Mask:
    """Reach the exact count with random visible patches, those that touch hidden ones first.

    Args:
        hidden: Bool, (images, patches), at most the grid's count in every image.
        noise: Uniform numbers, (images, patches).
        grid: The grid.
    """
    plane = hidden.view(-1, 1, grid.rows, grid.columns).float()
    tall, wide = max_pool2d(plane, (3, 1), 1, (1, 0)), max_pool2d(plane, (1, 3), 1, (0, 1))
    near = torch.maximum(tall, wide).flatten(1)
    return Mask.from_scores(4 * hidden + 2 * near + noise, grid)
