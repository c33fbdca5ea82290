r"""AdaMAE: learns where to look; samples the *visible* patches, rewarded by reconstruction error.

Source: Bandara et al., AdaMAE, arXiv 2211.09120, and its public code; published for
video, here for images. One attention block and a linear layer on the (detached) patch embeddings
give a categorical distribution :math:`p_b` over patches. The ``visible`` patches are drawn from it
without replacement (the highest of :math:`\log p_{bi}` plus Gumbel noise). Added to the loss is

.. math:: -w\, \mathrm{mean}_{b,\,i \in H_b}\ \log p_{bi}\ \ell_{bi}, \qquad w = 10^{-4}

with :math:`H_b` the hidden patches and :math:`\ell` their losses, detached: a patch that was hard
when hidden becomes more likely to be *visible*. (HPM and adversaries do the opposite; both report
gains.) Known bias, kept: the draws are without replacement, the log-probability treats them as
with.

What differs from the published code: embeddings are detached, so that the sampler cannot change
the patch embedding; the draw is one operation for the batch (there: a Python loop over images).
"""

from collections.abc import Mapping

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
)

HEADS = 8


class Sampler(nn.Module):
    """One transformer block and a linear layer: log-probabilities over patches.

    Args:
        width: Of the embeddings.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        heads = next(heads for heads in (HEADS, 4, 2, 1) if width % heads == 0)
        self.blocks = ModelView.blocks(1, width, heads, eps=1e-6)
        self.head = nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(images, patches, width) to float32 (images, patches)."""
        logits: Tensor = self.head(self.blocks(tokens))
        return logits.squeeze(-1).float().log_softmax(1)


class AdaMAE(MaskStrategy):
    """Adaptive sampling of visible patches; see the module's text."""

    family = "guided"
    source = "Bandara et al., arXiv 2211.09120 (video; here for images)"
    summary = "samples the visible patches; what was hard when hidden is shown more often"

    class Settings(StrategySettings):
        """AdaMAE's knobs."""

        weight: float = Field(1e-4, ge=0, description="of the sampling loss")

    def setup(self, context: Context, data: DataView) -> None:
        """Build the sampler."""
        width = context.model.shape.width
        stream = context.generator("init", device="cpu")
        self.net = context.model.build(lambda: Sampler(width), stream).to(context.device)

    def joint_parameters(self) -> list[nn.Parameter]:
        """The sampler is trained by the main optimiser."""
        return list(self.net.parameters())

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Draw the visible patches without replacement."""
        log_p = self.net(context.model.embed(batch.images))
        return Mask.from_scores(-(log_p + context.gumbel("mask", batch)), context.grid)

    def extra_loss(self, batch: Batch, outcome: Outcome, context: Context) -> Tensor:
        """Raise the probability of patches that were hard to rebuild."""
        log_p = self.net(context.model.embed(batch.images))
        hidden = log_p.gather(1, outcome.mask.hidden_positions)
        loss: Tensor = -self.settings.weight * (hidden * outcome.patch_loss.detach()).mean()
        return loss

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """Two forward passes of the sampler and one backward (none reaches the embeddings)."""
        net = blocks_forward(1, grid.patches, shape.width) + linear_flops(
            grid.patches, shape.width, 1
        )
        embed = linear_flops(grid.patches, shape.patch_values, shape.width)
        return {"mask generator": 4 * net + 2 * embed}
