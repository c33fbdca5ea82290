"""CL-MAE's masking network, its four losses, and the strategy they make (arXiv 2308.16572).

``clmae.py`` has the equations in words; ``adversarial``, ``cooperative`` and ``neutral`` are the
same code with lambda held at -1, +1 and 0.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from maskbench.strategy import (
    Batch,
    Context,
    DataView,
    Field,
    Grid,
    Mask,
    MaskStrategy,
    ModelShape,
    ModelView,
    Outcome,
    StrategySettings,
    blocks_forward,
    linear_flops,
    soft_pass_flops,
)

from ._private import RATE, PrivateAdamW, Rate, rate

HEADS = 4
SIGMA = 0.12
DISTANCE_SCALE = 0.1
PUBLISHED_TARGET = 0.25
SMALLEST = 1e-6


class MaskingNet(nn.Module):
    """Transformer blocks over [CLS, patches]; the CLS output gives one keep-score per patch.

    Args:
        shape: The autoencoder's sizes (the net works at the encoder's width).
        depth: Blocks.
    """

    def __init__(self, shape: ModelShape, depth: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.blocks = ModelView.blocks(depth, shape.width, HEADS, eps=1e-5)
        norm, head = nn.LayerNorm(shape.width, eps=1e-5), nn.Linear(shape.width, shape.patches)
        self.mlp_head = nn.Sequential(norm, head)

    def forward(self, tokens: Tensor) -> Tensor:
        """Keep-probabilities in (0, 1), float32: (images, patches, width) to (images, patches)."""
        cls = self.cls_token.expand(len(tokens), -1, -1)
        tokens = torch.cat([cls.to(tokens.dtype), tokens], dim=1)
        read = ModelView.outputs(self.blocks, tokens, slice(1))[:, 0]
        with torch.autocast(tokens.device.type, enabled=False):  # bfloat16 would make many ties
            logits: Tensor = self.mlp_head(read.float())
        return logits.sigmoid().clamp(SMALLEST, 1 - SMALLEST)


def reconstruction(keep: Tensor, patch_loss: Tensor) -> Tensor:
    """R: losses weighted by how hidden each patch is; one normaliser for the whole batch."""
    hidden = 1 - keep
    return (hidden * patch_loss).sum() / hidden.sum()


def gaussian(keep: Tensor) -> Tensor:
    """G: highest at 1/2 (0.301), nothing at 0 and 1. Divided by the density's constant as coded."""
    bump = torch.exp(-((keep - 0.5) ** 2) / (2 * SIGMA**2))
    return SIGMA * math.sqrt(2 * math.pi) * bump.mean()


def divergence(keep: Tensor, target: float) -> Tensor:
    """K per image, (images,): KL(mean score || target) of two-point distributions."""
    mean = keep.mean(1)
    other = 1 - mean
    return torch.xlogy(mean, mean / target) + torch.xlogy(other, other / (1 - target))


def diversity(keep: Tensor) -> Tensor:
    """D: 1 when all images share one mask, less the further apart they are; 0 for one image."""
    if len(keep) < 2:
        return keep.sum() * 0
    return torch.exp(-DISTANCE_SCALE * torch.pdist(keep)).mean()


class LearnedMasking(MaskStrategy):
    """A mask network trained by lambda times the reconstruction loss, and three regularisers."""

    fixed: ClassVar[float] = 0.0
    """Lambda, where it does not move."""

    class Settings(StrategySettings):
        """The mask network's knobs; defaults as published unless said otherwise."""

        gauss: float = Field(1.0, ge=0, description="weight of the term that binarises scores")
        kl: float = Field(0.1, ge=0, description="weight of the term that holds the mean score")
        kl_reduction: Literal["sum", "mean"] = Field(
            "sum", description="over the images of a step; published: sum, so it grows with them"
        )
        diversity: float = Field(2.0, ge=0, description="weight of the term between images")
        target: Literal["grid", "published"] = Field(
            "grid", description="mean score to hold: the visible share, or the published 0.25"
        )
        depth: int = Field(5, ge=1, description="blocks of the mask network")
        lr: float = Field(
            0.5, gt=0, description="mask network's learning rate / the model's; published: 1"
        )
        lr_schedule: Rate = Field("constant", description=RATE)
        weight_decay: float = Field(
            15.0,
            ge=0,
            description="of the mask network's optimiser; published: 0.05, with which scores "
            "saturate early and hardly turn with lambda",
        )

    def setup(self, context: Context, data: DataView) -> None:
        """Build the mask network and its own optimiser."""
        shape, depth = context.model.shape, self.settings.depth
        stream = context.generator("init", device="cpu")
        self.net = context.model.build(lambda: MaskingNet(shape, depth), stream)
        self.net.to(context.device)
        self.private = PrivateAdamW(self.net, self.settings.weight_decay)

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Step (a): hide the patches of lowest keep-probability."""
        return Mask.from_scores(-self.keep(batch, context), context.grid)

    def keep(self, batch: Batch, context: Context) -> Tensor:
        """Keep-probability of every patch."""
        found: Tensor = self.net(context.model.embed(batch.images))
        return found

    def factor(self, context: Context) -> float:
        """Lambda now."""
        return self.fixed

    def losses(
        self, keep: Tensor, patch_loss: Tensor, grid: Grid
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """R and the weighted G, K and D of one whole batch (of all processes).

        Args:
            keep: Keep-probabilities, (images, patches).
            patch_loss: Losses of the soft pass, (images, patches).
            grid: Gives the target share unless the published one is asked for.
        """
        s = self.settings
        target = PUBLISHED_TARGET if s.target == "published" else grid.visible / grid.patches
        kl = divergence(keep, target)
        kl = kl.sum() if s.kl_reduction == "sum" else kl.mean()
        return (
            reconstruction(keep, patch_loss),
            s.gauss * gaussian(keep),
            s.kl * kl,
            s.diversity * diversity(keep),
        )

    def after_step(
        self, batch: Batch, outcome: Outcome, context: Context
    ) -> Mapping[str, Tensor | float]:
        """Step (b): one update of the mask network; the model is only differentiated through."""
        keep = self.net(context.model.embed(batch.images))
        patch_loss = context.model.soft_patch_loss(batch.images, keep)
        keep, patch_loss = context.gather(keep), context.gather(patch_loss)
        parts = self.losses(keep, patch_loss, context.grid)
        factor = self.factor(context)
        total = factor * parts[0] + parts[1] + parts[2] + parts[3]
        learning_rate = self.settings.lr * rate(self.settings.lr_schedule, context)
        self.private.step(total, learning_rate, context)
        names = ("soft_loss", "gauss", "kl", "diversity")
        logged = {f"clmae/{n}": p.detach() for n, p in zip(names, parts, strict=True)}
        return {**logged, "clmae/lambda": factor, "clmae/keep": keep.detach().mean()}

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """Scoring, then scoring with gradients and the soft pass with activation gradients."""
        embed = linear_flops(grid.patches, shape.patch_values, shape.width)
        net = blocks_forward(self.settings.depth, grid.patches + 1, shape.width, wanted=1)
        net += linear_flops(1, shape.width, grid.patches)
        encoder, decoder = soft_pass_flops(shape)
        return {"mask generator": 4 * net + 2 * embed, "encoder": encoder, "decoder": decoder}
