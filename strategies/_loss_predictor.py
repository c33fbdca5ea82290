r"""A second decoder that predicts which patches are hard, and its moving-average teacher.

Shared by ``hpm`` (which lets the teacher choose masks) and ``aux`` (which does not); source: Wang
et al., Hard Patches Mining, arXiv 2304.05919. The equations stand in ``hpm``.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskbench.strategy import (
    Batch,
    Context,
    DataView,
    Field,
    Grid,
    MaskStrategy,
    ModelShape,
    ModelView,
    Outcome,
    blocks_forward,
    linear_flops,
    take,
)

from ._teacher import TeacherSettings, follow, whole_image_flops


class LossDecoder(nn.Module):
    """Latents of visible patches to one predicted loss per patch; as large as the pixel decoder.

    Args:
        shape: The autoencoder's sizes.
    """

    positions: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        width = shape.decoder_width
        self.embed = nn.Linear(shape.width, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = ModelView.blocks(shape.decoder_depth, width, shape.decoder_heads, eps=1e-6)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, shape.patch_values)

    def place(self, shape: ModelShape) -> "LossDecoder":
        """Add the fixed positions (they are no weights)."""
        table = ModelView.positions(shape.side, shape.decoder_width)
        self.register_buffer("positions", table.to(self.mask_token.device), persistent=False)
        return self

    def forward(self, latent: Tensor, visible: Tensor | None, hidden: Tensor | None) -> Tensor:
        """Predicted losses, float32.

        Args:
            latent: (images, tokens + 1, width), CLS first.
            visible: Positions of the tokens, (images, tokens); None if they are all patches.
            hidden: Positions to predict, (images, hidden); None: those of the tokens.

        Returns:
            (images, hidden) or (images, tokens).
        """
        table = self.positions.expand(len(latent), -1, -1)
        where = table[:, 1:] if visible is None else take(table[:, 1:], visible)
        tokens = self.embed(latent) + torch.cat([table[:, :1], where], dim=1)
        first = 1
        if hidden is not None:
            guesses = self.mask_token + take(table[:, 1:], hidden)
            first = tokens.shape[1]
            tokens = torch.cat([tokens, guesses.to(tokens.dtype)], dim=1)
        encoded = ModelView.outputs(self.blocks, tokens, slice(first, None))
        values: Tensor = self.head(self.norm(encoded))
        return values.float().mean(-1)


def pair_loss(predicted: Tensor, loss: Tensor) -> Tensor:
    """Mean cross entropy of "which of two patches is harder", over an image's pairs that differ.

    Args:
        predicted: (images, patches); a constant added to a row changes nothing.
        loss: True losses, (images, patches).

    Returns:
        Scalar, the mean over images; log 2 when all predictions are equal. (Published: every pair
        is counted twice, with the same value both times, and the mean is over the pairs of the
        whole batch. That is the same unless two losses of an image are equal, and does not depend
        on how a batch is cut.)
    """
    harder = loss.unsqueeze(2) > loss.unsqueeze(1)
    cross_entropy = functional.softplus(predicted.unsqueeze(1) - predicted.unsqueeze(2))
    return ((cross_entropy * harder).sum((1, 2)) / harder.sum((1, 2)).clamp(min=1)).mean()


def regression_loss(predicted: Tensor, loss: Tensor) -> Tensor:
    """Squared error to the loss standardised per image (the absolute variant)."""
    deviation, mean = torch.std_mean(loss, dim=1, keepdim=True, correction=0)
    return (predicted - (loss - mean) / (deviation + 1e-6)).square().mean()


class LossPrediction(MaskStrategy):
    """The auxiliary loss and the teacher, without a say in the masks."""

    class Settings(TeacherSettings):
        """Knobs of the loss predictor."""

        loss: Literal["relative", "absolute"] = Field(
            "relative", description="learn which of two patches is harder, or how hard each is"
        )
        weight: float = Field(1.0, ge=0, description="of the auxiliary loss")

    def setup(self, context: Context, data: DataView) -> None:
        """Build the loss decoder, and the teacher's copies of it and of the encoder."""
        shape = context.model.shape
        nets = []
        for _ in range(2):
            stream = context.generator("init", device="cpu")
            net = context.model.build(lambda: LossDecoder(shape), stream).place(shape)
            nets.append(net.to(context.device))
        self.decoder, self.teacher_decoder = nets
        self.teacher_decoder.requires_grad_(requires_grad=False)
        self.teacher = context.model.copy_encoder()

    def joint_parameters(self) -> list[nn.Parameter]:
        """The loss decoder is trained by the main optimiser, with the encoder."""
        return list(self.decoder.parameters())

    def extra_loss(self, batch: Batch, outcome: Outcome, context: Context) -> Tensor:
        """Predict the loss of each hidden patch from the visible ones; trains the encoder too."""
        mask = outcome.mask
        predicted = self.decoder(outcome.latent, mask.visible_positions, mask.hidden_positions)
        measure = pair_loss if self.settings.loss == "relative" else regression_loss
        loss: Tensor = self.settings.weight * measure(predicted, outcome.patch_loss.detach())
        return loss

    @torch.no_grad()
    def predicted_difficulty(self, images: Tensor) -> Tensor:
        """The teacher's prediction for every patch of whole images, (images, patches)."""
        latent = self.teacher.encode(self.teacher.embed(images))
        predicted: Tensor = self.teacher_decoder(latent, None, None)
        return predicted

    def move_teacher(self, context: Context) -> float:
        """Let the teacher follow; gives the decay."""
        decay = float(self.settings.decay_at(context))
        context.model.pull(self.teacher, decay)
        follow(self.teacher_decoder, self.decoder, decay)
        return decay

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """The loss decoder's step, and the teacher's look at the whole image."""
        width, tokens = shape.decoder_width, shape.patches + 1
        student = linear_flops(grid.visible + 1, shape.width, width)
        student += blocks_forward(shape.decoder_depth, tokens, width, grid.hidden)
        student += linear_flops(grid.hidden, width, shape.patch_values)
        teacher = linear_flops(tokens, shape.width, width)
        teacher += blocks_forward(shape.decoder_depth, tokens, width, shape.patches)
        teacher += linear_flops(shape.patches, width, shape.patch_values)
        return {"decoder": 3 * student, "teacher": teacher + whole_image_flops(shape)}
