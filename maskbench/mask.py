"""Grid and Mask: the only words for "which patches are hidden".

``True`` means hidden. How many patches are hidden is an integer, decided once for a run, never a
ratio: truncating ``L * (1 - ratio)`` in floating point silently loses a patch for some grids.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """The patches of an image and how many of them are hidden in every image.

    Args:
        rows: Patch rows.
        columns: Patch columns.
        hidden: Hidden patches per image, from 1 to ``rows * columns - 1``.

    Raises:
        ValueError: A count is out of its range.
    """

    rows: int
    columns: int
    hidden: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"a grid needs at least one row and column, not {self}")
        if not 0 < self.hidden < self.patches:
            raise ValueError(
                f"hidden patches must lie in 1..{self.patches - 1} for a "
                f"{self.rows}x{self.columns} grid, not {self.hidden}"
            )

    @property
    def patches(self) -> int:
        """Patches per image (L)."""
        return self.rows * self.columns

    @property
    def visible(self) -> int:
        """Visible patches per image (K = L - hidden)."""
        return self.patches - self.hidden


@dataclass(frozen=True)
class Mask:
    """Which patches are hidden, for a batch.

    Args:
        hidden: Bool, shape (images, patches); True means hidden. Every row hides equally many.
        grid: The grid that says how many.
    """

    hidden: Tensor
    grid: Grid

    @classmethod
    def from_scores(cls, scores: Tensor, grid: Grid) -> "Mask":
        """Hide the ``grid.hidden`` patches with the highest score in every image.

        Ties go to the patch that comes first; so the count is exact whatever the scores are.

        Args:
            scores: Finite floats, shape (images, patches).
            grid: The grid that says how many are hidden.

        Raises:
            ValueError: The shape does not fit the grid, or (on the CPU) a score is not finite.
        """
        if scores.ndim != 2 or scores.shape[1] != grid.patches:
            raise ValueError(
                f"scores must have shape (images, {grid.patches}), not {tuple(scores.shape)}"
            )
        if scores.device.type == "cpu" and not bool(torch.isfinite(scores).all()):
            raise ValueError("scores must be finite")
        highest = scores.argsort(dim=1, descending=True, stable=True)[:, : grid.hidden]
        empty = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
        return cls(empty.scatter(1, highest, value=True), grid)

    def check(self, images: int, grid: Grid) -> None:
        """Refuse a mask that is not bool, has another shape or grid, or hides another number.

        The count is checked on the device; on a GPU without waiting for it.

        Args:
            images: Images in the batch.
            grid: The grid the mask must fit.

        Raises:
            ValueError: Naming what was expected and what was found.
        """
        expected = (images, grid.patches)
        if self.hidden.dtype != torch.bool or tuple(self.hidden.shape) != expected:
            raise ValueError(
                f"a mask must be bool of shape {expected}, "
                f"not {self.hidden.dtype} of shape {tuple(self.hidden.shape)}"
            )
        if self.grid != grid:
            raise ValueError(f"a mask must be of the context's grid, {grid}, not {self.grid}")
        counts = self.hidden.sum(1)
        if counts.device.type == "cuda":
            torch._assert_async((counts == grid.hidden).all(), "a mask hides the wrong number")
            return
        wrong = counts != grid.hidden
        if bool(wrong.any()):
            raise ValueError(
                f"a mask must hide exactly {grid.hidden} of {grid.patches} patches in every image; "
                f"{int(wrong.sum())} of {images} images differ, the first hides "
                f"{int(counts[wrong][0])}"
            )

    @cached_property
    def _order(self) -> Tensor:
        return self.hidden.to(torch.uint8).argsort(dim=1, stable=True)

    @property
    def visible_positions(self) -> Tensor:
        """Positions of the visible patches, ascending: long, (images, grid.visible)."""
        return self._order[:, : self.grid.visible]

    @property
    def hidden_positions(self) -> Tensor:
        """Positions of the hidden patches, ascending: long, (images, grid.hidden)."""
        return self._order[:, self.grid.visible :]


def take(tokens: Tensor, positions: Tensor) -> Tensor:
    """Gather tokens by position: (B, L, D) and (B, K) give (B, K, D)."""
    return tokens.gather(1, positions.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
