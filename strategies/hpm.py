r"""HPM, hard patches mining: hides more and more of what a teacher predicts to be hard.

Source: Wang et al., Hard Patches Mining for Masked Image Modeling, arXiv 2304.05919, as in its
public code.

1. A second decoder, as large as the first, predicts a loss :math:`s_{bi}` per patch. It is trained
   together with the autoencoder (the encoder gets its gradient too) by the order of losses,

   .. math:: \mathrm{mean}_b\ \mathrm{mean}_{\,i,j \in H_b:\ \ell_{bi} > \ell_{bj}}
       \log\big(1 + e^{-(s_{bi} - s_{bj})}\big)

   over pairs of hidden patches, the losses :math:`\ell` detached; or, ``loss=absolute``, by the
   squared error to the loss standardised per image.
2. A teacher (moving average of encoder and loss decoder) looks at the *whole* image and gives
   :math:`s`. Of the ``hidden`` patches, the :math:`\lfloor \alpha\,\mathrm{hidden} \rfloor` with
   the highest :math:`s` are hidden for sure, the others are drawn at random, with

   .. math:: \alpha(t) = \alpha_0 + (\alpha_T - \alpha_0)\,t, \qquad \alpha_0 = 0,\ \alpha_T = 0.5

The auxiliary loss trains the encoder whatever the masks are: always run the control ``random+aux``
beside this, and take only what is gained over it for the masks' doing.

What differs from the published code: alpha moves every step, not every epoch; the teacher's decay
goes from 0.999 to 0.9999 over half of the budget (there: 100 epochs, whatever the length) and is
lower in a run's first steps; the teacher's pixel decoder, whose output nobody used, is not run;
masks are drawn for the whole batch at
once. Known weakness, kept: the predictor is trained on hidden patches of masked images and asked
about whole images.
"""

from collections.abc import Mapping

from torch import Tensor

from maskbench.strategy import Batch, Context, Field, Mask, Outcome

from ._loss_predictor import LossPrediction
from ._ranks import ranks


class HPM(LossPrediction):
    """Hard patches mining; see the module's text for the equations."""

    family = "guided"
    source = "Wang et al., arXiv 2304.05919"
    summary = "a teacher predicts which patches are hard; hides an increasing share of those"

    class Settings(LossPrediction.Settings):
        """HPM's knobs; defaults as published."""

        first: float = Field(0.0, ge=0, le=1, description="share of hidden patches guided at first")
        last: float = Field(0.5, ge=0, le=1, description="and at the end")

    def guided(self, context: Context) -> int:
        """How many of the hidden patches are the hardest ones."""
        first, last = self.settings.first, self.settings.last
        return int(context.grid.hidden * (first + (last - first) * context.progress))

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Hide the hardest for sure, then random others."""
        noise = context.uniform("mask", batch)
        rank = ranks(self.predicted_difficulty(batch.images), noise)
        hardest = rank >= context.grid.patches - self.guided(context)
        return Mask.from_scores(noise + 2 * hardest, context.grid)

    def after_step(
        self, batch: Batch, outcome: Outcome, context: Context
    ) -> Mapping[str, Tensor | float]:
        """Let the teacher follow."""
        return {"hpm/decay": self.move_teacher(context), "hpm/guided": self.guided(context)}
