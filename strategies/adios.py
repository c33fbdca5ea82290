r"""ADIOS ported to the autoencoder: an adversary that cuts an image into parts and hides one.

Source: Shi et al., Adversarial Masking for Self-Supervised Learning, arXiv 2201.13100, as in its
public code. Published for contrastive learning on soft pixel masks; **this port to patches and to
reconstruction is ours**, no published number belongs to it.

A small U-Net over the grid of detached patch embeddings gives :math:`N` soft masks
:math:`m_{bni} \ge 0` with :math:`\sum_n m_{bni} = 1`. Every image hides one of them, drawn at
random: :math:`n(b)`. Two updates per step:

(a) The autoencoder minimises its loss with the ``hidden`` patches of highest :math:`m_{b,n(b)}`
    hidden (the published masks have no fixed count; beyond its own part a channel hides what it
    claims most).
(b) The U-Net alone minimises

    .. math:: -R + \alpha \sum_n \mathrm{mean}_b \frac{1}{\sin(\pi a_{bn}) + \epsilon},
        \qquad a_{bn} = \mathrm{mean}_i\, m_{bni}

    with :math:`R` the soft reconstruction loss of ``clmae`` at keep-weights
    :math:`1 - m_{b,n(b)}`: hide what is hard to rebuild, but let no part be empty or everything.

Published defaults: :math:`N = 6`, :math:`\alpha = 0.889`. One channel per image and step is the
cheaper published variant (ADIOS-s).
"""

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
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
    conv_flops,
    linear_flops,
    soft_pass_flops,
)

from ._masking_net import reconstruction
from ._private import RATE, PrivateAdamW, Rate, rate

EPSILON = 1e-10
GROUPS = 4


def levels(side: int) -> int:
    """How often the grid is halved: down to two or three cells along a side."""
    return max(int(math.log2(side)) - 1, 1)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, group norm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, outputs), nn.ReLU())


class PatchUNet(nn.Module):
    """A U-Net on the patch grid: halves it level by level and comes back over skip connections.

    Args:
        shape: The autoencoder's sizes.
        base: Channels at the first level; doubled at each further one.
        masks: Output channels.
    """

    def __init__(self, shape: ModelShape, base: int, masks: int) -> None:
        super().__init__()
        self.side = shape.side
        widths = [base * 2**level for level in range(levels(shape.side) + 1)]
        self.stem = convolution(shape.width, base)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(convolution(a, b, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(convolution(a + b, a) for a, b in reversed(pairs))
        self.head = nn.Conv2d(base, masks, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(images, patches, width) to float32 masks that sum to 1: (images, masks, patches)."""
        x = self.stem(tokens.transpose(1, 2).reshape(len(tokens), -1, self.side, self.side))
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        for up in self.up:
            skip = skips.pop()
            x = functional.interpolate(x, size=skip.shape[-2:], mode="nearest")
            x = up(torch.cat([skip, x], dim=1))
        with torch.autocast(tokens.device.type, enabled=False):  # bfloat16 would make many ties
            logits: Tensor = self.head(x.float())
        return logits.flatten(2).softmax(1)


def area_penalty(masks: Tensor) -> Tensor:
    """Sum over masks of the mean over images of 1 / sin(pi area): (B, N, L) to a scalar."""
    area = masks.mean(2)
    return (1 / (torch.sin(math.pi * area) + EPSILON)).mean(0).sum()


class ADIOS(MaskStrategy):
    """Adversarial parts; see the module's text for the equations."""

    family = "adversarial"
    source = "Shi et al., arXiv 2201.13100 (ported from contrastive learning: ours)"
    summary = "a U-Net cuts the image into soft parts to make rebuilding hard; hides one part"

    class Settings(StrategySettings):
        """ADIOS' knobs; defaults as published where there is a counterpart."""

        masks: int = Field(6, ge=2, description="soft masks per image (N)")
        alpha: float = Field(0.889, ge=0, description="weight of the area penalty")
        base: int = Field(
            16, ge=4, multiple_of=4, description="channels of the U-Net's first level"
        )
        lr: float = Field(1.0, gt=0, description="the U-Net's learning rate / the model's")
        lr_schedule: Rate = Field("constant", description=RATE)
        weight_decay: float = Field(0.05, ge=0, description="of the U-Net's optimiser")

    def setup(self, context: Context, data: DataView) -> None:
        """Build the U-Net and its own optimiser."""
        shape, s = context.model.shape, self.settings
        stream = context.generator("init", device="cpu")
        self.net = context.model.build(lambda: PatchUNet(shape, s.base, s.masks), stream)
        self.net.to(context.device)
        self.private = PrivateAdamW(self.net, s.weight_decay)

    def chosen(self, batch: Batch, context: Context) -> tuple[Tensor, Tensor]:
        """All soft masks, (images, masks, patches), and the drawn one, (images, patches)."""
        masks: Tensor = self.net(context.model.embed(batch.images))
        draw = context.uniform("channel", batch, 1) * self.settings.masks
        index = draw.long().unsqueeze(-1).expand(-1, 1, masks.shape[2])
        return masks, masks.gather(1, index).squeeze(1)

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Step (a): hide the patches that the drawn soft mask claims most."""
        return Mask.from_scores(self.chosen(batch, context)[1], context.grid)

    def after_step(
        self, batch: Batch, outcome: Outcome, context: Context
    ) -> Mapping[str, Tensor | float]:
        """Step (b): one update of the U-Net; the model is only differentiated through."""
        masks, one = self.chosen(batch, context)
        keep = 1 - one
        patch_loss = context.model.soft_patch_loss(batch.images, keep)
        soft = reconstruction(context.gather(keep), context.gather(patch_loss))
        penalty = area_penalty(masks)
        learning_rate = self.settings.lr * rate(self.settings.lr_schedule, context)
        self.private.step(self.settings.alpha * penalty - soft, learning_rate, context)
        return {
            "adios/soft_loss": soft.detach(),
            "adios/penalty": penalty.detach(),
            "adios/strongest": masks.detach().amax(1).mean(),
        }

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """Two forward passes and one backward of the U-Net, and the soft pass."""
        base, sides = self.settings.base, [shape.side]
        stem = conv_flops(shape.patches, shape.width, base, 3)
        rest = conv_flops(shape.patches, base, self.settings.masks, 1)
        for level in range(levels(shape.side)):
            a, b = base * 2**level, base * 2 ** (level + 1)
            rest += conv_flops(sides[-1] ** 2, a + b, a, 3)
            sides.append((sides[-1] + 1) // 2)
            rest += conv_flops(sides[-1] ** 2, a, b, 3)
        embed = linear_flops(shape.patches, shape.patch_values, shape.width)
        encoder, decoder = soft_pass_flops(shape)
        generator = 3 * stem + 4 * rest + 2 * embed
        return {"mask generator": generator, "encoder": encoder, "decoder": decoder}
