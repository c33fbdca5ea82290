r"""Colour noise: random masking by filtered instead of white noise.

Source: Hinojosa et al., ColorMAE, arXiv 2407.13036. With white noise :math:`W` and a Gaussian
low-pass :math:`G_\sigma` (:math:`\sigma` in patches) the strongest values of the field stay
*visible*:

* ``red`` :math:`G_w W`: large visible islands, far from what is hidden;
* ``blue`` :math:`W - G_w W`: evenly spread single patches;
* ``green`` :math:`G_n W - G_w W`: small clusters, evenly spread;
* ``purple`` :math:`W - (G_n W - G_w W)`: the rest, neither of these;
* ``white`` :math:`W`: random masking.

What differs from the published code: the field is new for every image and step, not one of a bank
of stored patterns cropped alike for a whole batch; and the widths, which are not published, are
settings, :math:`n` = 0.5 and :math:`w` = 2. The field lives on a torus larger than the grid, is
filtered by FFT, and cropped; any grid and count works.

The field has no preferred place, and patches are visible equally often (within half a percent), but
for ``red``: ranked within the crop, a very smooth field has its extremes at the border, so at 75 %
hidden a corner is visible with 0.27 and the centre with 0.23 on 14x14, and 0.30 and 0.17 on 8x8.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from maskbench.strategy import (
    Batch,
    Context,
    DataView,
    Field,
    Mask,
    StrategySettings,
    UsageError,
)

from ._free import FreeOfProducts

Color = Literal["green", "blue", "red", "purple", "white"]


class ColorNoise(FreeOfProducts):
    """Gaussian noise of one colour; its strongest patches stay visible."""

    family = "data-free"
    source = "Hinojosa et al., arXiv 2407.13036"
    summary = "hides by band-filtered noise: the colour sets how large and how apart the holes are"

    class Settings(StrategySettings):
        """Settings of colour noise."""

        color: Color = Field(
            "green", description="band of the noise: red clusters, blue spreads, green does both"
        )
        narrow: float = Field(
            0.5, ge=0, le=16, description="patches; the low-pass of green and purple lets this pass"
        )
        wide: float = Field(
            2.0, ge=0.1, le=16, description="patches; the low-pass of red, or what is subtracted"
        )

    def setup(self, context: Context, data: DataView) -> None:
        """Refuse an empty band.

        Raises:
            UsageError: ``narrow`` is not below ``wide``.
        """
        band = self.settings.color in ("green", "purple")
        if band and self.settings.narrow >= self.settings.wide:
            raise UsageError(
                f"colornoise: narrow ({self.settings.narrow:g}) must be below wide "
                f"({self.settings.wide:g}): between them lies the band of green."
            )

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Hide the patches where the field is weakest."""
        grid, settings = context.grid, self.settings
        high, across = (field_side(side, settings.wide) for side in (grid.rows, grid.columns))
        noise = context.normal("mask", batch, high * across).view(-1, high, across)
        band = response(settings.color, squared_frequency(noise), settings.narrow, settings.wide)
        field: Tensor = torch.fft.irfft2(torch.fft.rfft2(noise) * band, s=(high, across))
        return Mask.from_scores(-field[:, : grid.rows, : grid.columns].flatten(1), grid)


def field_side(side: int, wide: float) -> int:
    """Side of the torus for a side of the grid: opposite borders are five widths apart; even."""
    return side + 2 * math.ceil(5 * wide / 2) + side % 2


def squared_frequency(field: Tensor) -> Tensor:
    """Squared frequency of ``rfft2``, in cycles per patch: (rows, columns // 2 + 1)."""
    down = torch.fft.fftfreq(field.shape[-2], device=field.device)
    right = torch.fft.rfftfreq(field.shape[-1], device=field.device)
    squared: Tensor = down[:, None].square() + right.square()
    return squared


def response(color: Color, squared: Tensor, narrow: float, wide: float) -> Tensor:
    """Gain of a colour at every frequency, same shape as ``squared``.

    Args:
        color: Which band.
        squared: Squared frequencies, in cycles per patch.
        narrow: Width of the narrow Gaussian, in patches.
        wide: Width of the wide one.
    """

    def low_pass(sigma: float) -> Tensor:
        return torch.exp(-2 * (math.pi * sigma) ** 2 * squared)

    if color == "white":
        return torch.ones_like(squared)
    if color == "red":
        return low_pass(wide)
    if color == "blue":
        return 1 - low_pass(wide)
    green = low_pass(narrow) - low_pass(wide)
    return green if color == "green" else 1 - green
