"""The grid as a torus, where the last row is followed by the first: no border, no centre."""

import torch
from torch import Tensor

from maskbench.strategy import Grid


def seen_from(top: Tensor, left: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """How far below and to the right of an origin every patch lies, going round the torus.

    Args:
        top: Row of the origin: long, (images, 1).
        left: Its column: long, (images, 1).
        grid: The grid.

    Returns:
        Two long tensors, (images, patches): 0..rows - 1 and 0..columns - 1.
    """
    patch = torch.arange(grid.patches, device=top.device)
    down = (patch // grid.columns - top) % grid.rows
    right = (patch % grid.columns - left) % grid.columns
    return down, right


def roll(values: Tensor, top: Tensor, left: Tensor, grid: Grid) -> Tensor:
    """Roll every image's patches by its own shift: what was at (0, 0) arrives at (top, left).

    Args:
        values: Anything per patch, (images, patches).
        top: Rows to move down: long, (images, 1).
        left: Columns to move right: long, (images, 1).
        grid: The grid.
    """
    down, right = seen_from(top, left, grid)
    return values.gather(1, down * grid.columns + right)


def below(noise: Tensor, count: Tensor | int) -> Tensor:
    """Integers in 0..count - 1 from uniform numbers in [0, 1) of 24 bits: long, same shape."""
    return (noise * count).long()
