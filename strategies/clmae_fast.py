r"""clmae-fast: CL-MAE's curriculum without a second pass through the autoencoder.

Source: ours (the curriculum is that of Madan et al., arXiv 2308.16572; the network, its loss and
the sampling are not published anywhere else). Hides what is easy to rebuild first, what is hard
last, like ``clmae``, at a fraction of its cost.

A narrow net reads the detached patch embeddings :math:`x_{bi}` (positions included): a linear layer
down to :math:`D / s`, one transformer block, and a linear head per token. It predicts how hard each
patch is, from what the autoencoder's own step measures anyway:

.. math:: \min_\theta \ \mathrm{mean}_{b,\,i \in H_b}
    \big(f_\theta(x_b)_i - z_{bi}\big)^2, \qquad
    z_{bi} = (\ell_{bi} - \mu_b) / \sigma_b

with :math:`\ell_{bi}` the loss of hidden patch :math:`i`, :math:`H_b` the hidden patches of image
:math:`b` and :math:`\mu_b, \sigma_b` their mean and deviation. Then, with :math:`\hat z_b` the
predictions of all patches standardised per image,

.. math:: s_{bi} = \alpha\,\lambda(t)\,\hat z_{bi} + g_{bi}, \qquad g_{bi} \sim \mathrm{Gumbel}

and the ``visible`` patches of highest :math:`s` stay: a sample without replacement in which a patch
that is one deviation harder is :math:`e^{\alpha\lambda}` times as likely to be drawn next.
:math:`\lambda` falls from +1 (hard patches stay: partner) through 0 (uniformly random) to -1 (hard
patches are hidden: adversary); :math:`\alpha` is ``strength``. No regulariser is needed: the
count is exact, the noise keeps masks apart, and the net is never rewarded for anything but telling
the truth about difficulty.
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
    blocks_forward,
    linear_flops,
)

from ._curriculum import CurriculumSettings
from ._private import RATE, PrivateAdamW, Rate, rate

HEADS = 4


class DifficultyNet(nn.Module):
    """Predicts the standardised loss of every patch from the embeddings of all.

    Args:
        width: Of the embeddings.
        narrow: Of the net.
    """

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, narrow)
        self.blocks = ModelView.blocks(1, narrow, HEADS, eps=1e-6)
        self.norm = nn.LayerNorm(narrow, eps=1e-6)
        self.head = nn.Linear(narrow, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(images, patches, width) to float32 (images, patches)."""
        predicted: Tensor = self.head(self.norm(self.blocks(self.down(tokens))))
        return predicted.squeeze(-1).float()


def standardise(values: Tensor) -> Tensor:
    """Zero mean and unit deviation in every row; constant rows give zeros."""
    centred = values - values.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()


def narrow_width(width: int, shrink: int) -> int:
    """The net's width: the encoder's divided, but a multiple of the heads and at least 16."""
    return max(width // shrink // HEADS * HEADS, 16)


class CLMAEFast(MaskStrategy):
    """Curriculum masking by predicted difficulty; see the module's text for the equations."""

    family = "learned curriculum"
    source = "ours, after Madan et al., arXiv 2308.16572"
    summary = "samples patches by predicted difficulty: first hides what is easy, then what is hard"

    class Settings(CurriculumSettings):
        """Knobs of the curriculum and of the difficulty net."""

        strength: float = Field(2.0, gt=0, description="how far difficulty outweighs chance")
        shrink: int = Field(4, ge=1, description="encoder width / the net's width")
        lr: float = Field(1.0, gt=0, description="the net's learning rate / the model's")
        lr_schedule: Rate = Field("constant", description=RATE)
        weight_decay: float = Field(0.05, ge=0, description="of the net's optimiser")

    def setup(self, context: Context, data: DataView) -> None:
        """Build the net and its own optimiser."""
        width = context.model.shape.width
        narrow = narrow_width(width, self.settings.shrink)
        stream = context.generator("init", device="cpu")
        self.net = context.model.build(lambda: DifficultyNet(width, narrow), stream)
        self.net.to(context.device)
        self.private = PrivateAdamW(self.net, self.settings.weight_decay)

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Keep the highest of lambda times the predicted difficulty plus Gumbel noise."""
        difficulty = standardise(self.net(context.model.embed(batch.images)))
        factor = self.settings.strength * self.settings.factor(context)
        return Mask.from_scores(
            -(factor * difficulty + context.gumbel("mask", batch)), context.grid
        )

    def after_step(
        self, batch: Batch, outcome: Outcome, context: Context
    ) -> Mapping[str, Tensor | float]:
        """Fit the net to the losses that the step measured."""
        predicted = self.net(context.model.embed(batch.images))
        hidden = outcome.mask.hidden_positions
        target = standardise(outcome.patch_loss.detach())
        error = (predicted.gather(1, hidden) - target).square().mean()
        self.private.step(
            error, self.settings.lr * rate(self.settings.lr_schedule, context), context
        )
        return {
            "clmae-fast/lambda": self.settings.factor(context),
            "clmae-fast/unexplained": error.detach(),
        }

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """Scoring, then scoring with gradients of the net (none reaches the embeddings)."""
        narrow = narrow_width(shape.width, self.settings.shrink)
        down = linear_flops(grid.patches, shape.width, narrow)
        rest = blocks_forward(1, grid.patches, narrow) + linear_flops(grid.patches, narrow, 1)
        embed = linear_flops(grid.patches, shape.patch_values, shape.width)
        return {"mask generator": 3 * down + 4 * rest + 2 * embed}
