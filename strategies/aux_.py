"""HPM's auxiliary loss and teacher for any strategy: ``random+aux`` is HPM's required control.

Source: Wang et al., Hard Patches Mining, arXiv 2304.05919 (the control
that its masks need). Hides nothing itself: everything but the masks is as in ``hpm``,
with the same compute. What ``hpm`` gains over ``random`` is due to its masks only as far as it also
gains over ``random+aux``.

The teacher looks at every whole image, as in ``hpm``; here its prediction is compared with the true
losses (``aux/agreement``: share of pairs of hidden patches in the right order; 0.5 is chance).
"""

from collections.abc import Mapping

from torch import Tensor

from maskbench.strategy import Batch, Context, Outcome

from ._loss_predictor import LossPrediction


class Aux(LossPrediction):
    """The loss predictor without a say in the masks."""

    family = "guided"
    source = "Wang et al., arXiv 2304.05919 (control)"
    summary = "adds HPM's loss predictor and teacher to another strategy's masks: random+aux"
    modifier = True

    def after_step(
        self, batch: Batch, outcome: Outcome, context: Context
    ) -> Mapping[str, Tensor | float]:
        """Let the teacher look, then follow."""
        predicted = self.predicted_difficulty(batch.images)
        predicted = predicted.gather(1, outcome.mask.hidden_positions)
        loss = outcome.patch_loss.detach()
        harder = loss.unsqueeze(2) > loss.unsqueeze(1)
        agrees = predicted.unsqueeze(2) > predicted.unsqueeze(1)
        right, pairs = context.total(harder & agrees), context.total(harder)
        agreement = (0.5 + right) / (1 + pairs)  # no pairs: chance
        return {"aux/decay": self.move_teacher(context), "aux/agreement": agreement}
