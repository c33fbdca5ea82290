"""AttMask: hides what a teacher attends to most (high, hint) or least (low).

Source: Kakogeorgiou et al., What to Hide from Your Students: Attention-Guided Masked Image
Modeling, arXiv 2203.12719. Published for distillation (iBOT, DINO), whose teacher
exists anyway; here, **ported to the autoencoder**, it is a moving average of the encoder that looks
at the whole image, at the price of one more forward pass.

The attention of a patch is the mean over heads of the teacher's last-layer attention from CLS to
it. ``high`` hides the most attended patches. ``hint`` does too, but reveals a few, drawn at random
from the most attended; as many others, next in order, are hidden instead, so that the count stays
exact. ``low`` hides the least attended. Ties are decided at random.

What differs from the published code: the number hidden is fixed (there: a ratio per batch, drawn
twice, so that hints were unrelated to the mask), every image is masked, and the guided share grows
from nothing over the first tenth of the budget, because an autoencoder's CLS has no loss of its own
and its early attention means little (``query=patches`` takes the mean over all patches instead).
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

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
)

from ._ranks import ranks
from ._teacher import TeacherSettings, attention_flops


class AttMask(MaskStrategy):
    """Masks from a teacher's attention; see the module's text."""

    family = "guided"
    source = "Kakogeorgiou et al., arXiv 2203.12719 (ported from distillation: ours)"
    summary = "hides what a moving-average teacher attends to most, or least"

    class Settings(TeacherSettings):
        """AttMask's knobs."""

        mode: Literal["high", "hint", "low"] = Field(
            "hint",
            description="hide the most attended; reveal a few of them; or the least attended",
        )
        pool: float = Field(
            0.1, gt=0, le=1, description="hint: most attended patches, share of all"
        )
        reveal: float = Field(
            0.3, ge=0, le=1, description="hint: share of the pool that is revealed"
        )
        guided: float = Field(
            1.0, ge=0, le=1, description="share of the hidden patches that attention decides"
        )
        ramp: float = Field(
            0.1, ge=0, le=1, description="share of the budget over which `guided` grows from 0"
        )
        query: Literal["cls", "patches"] = Field("cls", description="whose attention")

    def setup(self, context: Context, data: DataView) -> None:
        """Copy the encoder."""
        self.teacher = context.model.copy_encoder()

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Hide by rank of attention."""
        attention = self.teacher.attention(batch.images, self.settings.query).mean(1)
        noise = context.uniform("mask", batch)
        return Mask.from_scores(self.scores(ranks(attention, noise), noise, context), context.grid)

    def scores(self, rank: Tensor, noise: Tensor, context: Context) -> Tensor:
        """Hide-scores: 2 + noise for what attention decides to hide, noise for the rest.

        Args:
            rank: 0 (least attended) to patches - 1, (images, patches).
            noise: Uniform, (images, patches).
            context: Where the run stands.
        """
        s, grid = self.settings, context.grid
        grown = min(context.progress / s.ramp, 1.0) if s.ramp else 1.0
        decided, hints = round(s.guided * grown * grid.hidden), 0
        pool = max(round(s.pool * grid.patches), 1)
        if s.mode == "hint":
            hints = min(round(s.reveal * s.guided * pool * grown), grid.visible)
        chosen = rank < decided if s.mode == "low" else rank >= grid.patches - decided - hints
        in_pool = rank >= grid.patches - pool
        revealed = ranks(noise + 2 * ~in_pool, noise) < hints
        scores: Tensor = noise + 2 * chosen - 4 * revealed
        return scores

    def after_step(
        self, batch: Batch, outcome: Outcome, context: Context
    ) -> Mapping[str, Tensor | float]:
        """Let the teacher follow."""
        decay = self.settings.decay_at(context)
        context.model.pull(self.teacher, decay)
        return {"attmask/decay": decay}

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """The teacher's look at the whole image."""
        return {"teacher": attention_flops(shape, self.settings.query)}
