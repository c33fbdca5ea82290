r"""CL-MAE: a masking network that turns from partner to adversary of the autoencoder.

Source: Madan et al., CL-MAE: Curriculum-Learned Masked Autoencoders, arXiv 2308.16572, and its
public code. Written from the equations; where paper and code could differ the code is followed.

A small transformer reads all patch embeddings and gives a keep-probability :math:`m_{bi}` per
patch (large = visible). Two updates per step, on the same batch:

(a) The autoencoder minimises its loss under the hard mask: the ``visible`` patches of highest
    :math:`m` stay. No gradient reaches the network here.
(b) The network alone minimises

    .. math:: \lambda(t)\,R + G + K + D

    * :math:`R = \sum (1-m_{bi})\,\ell_{bi} / \sum (1-m_{bi})`, with :math:`\ell` the per-patch loss
      of a *soft* pass (every patch enters, scaled by its :math:`m`; no mask token);
    * :math:`G = \lambda_g \,\mathrm{mean}\,[\sigma\sqrt{2\pi}\,
      e^{-(m_{bi}-1/2)^2 / 2\sigma^2}]`, which drives the scores to 0 or 1;
    * :math:`K = \lambda_k \sum_b \mathrm{KL}(\bar m_b \,\|\, \tau)` of two-point distributions,
      which holds the mean score at the target :math:`\tau`;
    * :math:`D = \lambda_d\,\mathrm{mean}_{b<b'} e^{-0.1 \lVert m_b - m_{b'} \rVert_2}`, which keeps
      masks of different images apart.

:math:`\lambda` falls from +1 (hide what is easy: partner) through 0 to -1 (hide what is hard:
adversary).

What differs from the published code, on purpose: two optimisers instead of one shared (there, on
older torch, momentum and weight decay of one network moved the other); the diversity term is one
matrix operation instead of a double loop; scoring in (a) stores no activations; lambda moves every
step and passes through 0 (there: every epoch, jumping over 0); and two settings differ by default:
the target is the visible share (``target=published`` for the constant 0.25, the same at 75 %
hidden), and the network's learning rate stays up after the warm-up, so that something is left of it
when lambda turns negative (``lr_schedule=model`` for the published decay). Known leak, kept:
the blocks are pre-norm, and LayerNorm(m x) = LayerNorm(x) for any m well above sqrt(eps), so a
"soft-hidden" patch is hardly hidden and R mostly ranks patches by their loss.
"""

import copy
import math
from collections.abc import Mapping
from typing import Literal

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
    blocks_input_gradient,
    linear_flops,
)

HEADS = 4
SIGMA = 0.12
DISTANCE_SCALE = 0.1
PUBLISHED_TARGET = 0.25


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
        encoded = self.blocks(torch.cat([cls.to(tokens.dtype), tokens], dim=1))
        logits: Tensor = self.mlp_head(encoded[:, 0])
        return logits.float().sigmoid()


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


class CLMAE(MaskStrategy):
    """Learned curriculum masking; see the module's text for the equations."""

    family = "learned curriculum"
    source = "Madan et al., arXiv 2308.16572"
    summary = "a mask network that first hides what is easy to rebuild, then what is hard"

    class Settings(StrategySettings):
        """CL-MAE's knobs; defaults as published unless said otherwise."""

        schedule: Literal["linear", "cosine", "step", "constant"] = Field(
            "linear", description="how lambda goes from first to last over the budget"
        )
        first: float = Field(1.0, ge=-1, le=1, description="lambda at the start (+1 partner)")
        last: float = Field(-1.0, ge=-1, le=1, description="lambda at the end (-1 adversary)")
        gauss: float = Field(1.0, ge=0, description="weight of the term that binarises scores")
        kl: float = Field(0.1, ge=0, description="weight of the term that holds the mean score")
        kl_reduction: Literal["sum", "mean"] = Field(
            "sum", description="over the batch; published: sum, so it grows with the batch"
        )
        diversity: float = Field(2.0, ge=0, description="weight of the term between images")
        target: Literal["grid", "published"] = Field(
            "grid", description="mean score to hold: the visible share, or the published 0.25"
        )
        depth: int = Field(5, ge=1, description="blocks of the mask network")
        lr: float = Field(1.0, gt=0, description="mask network's learning rate / the model's")
        lr_schedule: Literal["constant", "model"] = Field(
            "constant",
            description="constant after the warm-up, or decayed with the model's (published)",
        )
        weight_decay: float = Field(0.05, ge=0, description="of the mask network's optimiser")

    def setup(self, context: Context, data: DataView) -> None:
        """Build the mask network and its own optimiser."""
        shape, depth = context.model.shape, self.settings.depth
        stream = context.generator("init", device="cpu")
        self.net = context.model.build(lambda: MaskingNet(shape, depth), stream)
        self.net.to(context.device)
        decayed = [p for p in self.net.parameters() if p.ndim == 2]
        plain = [p for p in self.net.parameters() if p.ndim != 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.settings.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.95),
            fused=True,
        )

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Step (a): hide the patches of lowest keep-probability."""
        return Mask.from_scores(-self.net(context.model.embed(batch.images)), context.grid)

    def factor(self, progress: float) -> float:
        """Lambda at a share of the budget: +1 at 0 and -1 at 1 with the published end points."""
        first, last = self.settings.first, self.settings.last
        share = {
            "linear": progress,
            "cosine": (1 - math.cos(math.pi * progress)) / 2,
            "step": float(progress >= 0.5),
            "constant": 0.0,
        }[self.settings.schedule]
        return float(first + (last - first) * share)

    def losses(
        self, keep: Tensor, patch_loss: Tensor, grid: Grid
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """R and the weighted G, K and D of one batch.

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
        parts = self.losses(keep, patch_loss, context.grid)
        factor = self.factor(context.progress)
        total = factor * parts[0] + parts[1] + parts[2] + parts[3]
        parameters = list(self.net.parameters())
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(total, parameters), strict=True
        ):
            parameter.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * self._model_lr(context)
        self.optimizer.step()
        names = ("soft_loss", "gauss", "kl", "diversity")
        logged = {f"clmae/{n}": p.detach() for n, p in zip(names, parts, strict=True)}
        return {**logged, "clmae/lambda": factor, "clmae/keep": keep.detach().mean()}

    def _model_lr(self, context: Context) -> float:
        if self.settings.lr_schedule == "model" or context.warming_up:
            return context.learning_rate
        return context.peak_learning_rate

    def get_extra_state(self) -> dict[str, object]:
        """The private optimiser rides along with the module's state."""
        return self.optimizer.state_dict() if hasattr(self, "optimizer") else {}

    def set_extra_state(self, state: dict[str, object]) -> None:
        """Restore the private optimiser (from a copy: torch would share the tensors)."""
        if state:
            self.optimizer.load_state_dict(copy.deepcopy(state))

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """Scoring, then scoring with gradients and the soft pass with activation gradients."""
        tokens = grid.patches + 1
        embed = linear_flops(grid.patches, shape.patch_values, shape.width)
        net = blocks_forward(self.settings.depth, tokens, shape.width)
        net += linear_flops(1, shape.width, grid.patches)
        encoder = blocks_forward(shape.depth, tokens, shape.width)
        encoder += blocks_input_gradient(shape.depth, tokens, shape.width)
        decoder = blocks_forward(shape.decoder_depth, tokens, shape.decoder_width)
        decoder += blocks_input_gradient(shape.decoder_depth, tokens, shape.decoder_width)
        decoder += 2 * linear_flops(tokens, shape.width, shape.decoder_width)
        decoder += 2 * linear_flops(grid.patches, shape.decoder_width, shape.patch_values)
        return {
            "mask generator": 4 * net + 2 * embed,
            "encoder": encoder + embed,
            "decoder": decoder,
        }
