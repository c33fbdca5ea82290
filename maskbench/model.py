"""One masked autoencoder (He et al., arXiv 2111.06377), on timm's ViT blocks.

The encoder *receives* a mask: it never decides what is hidden. It embeds visible patches only;
the decoder predicts normalised pixels of hidden patches only, and the loss is theirs alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maskbench.blocks import blocks, outputs
from maskbench.linear import Linear, linear
from maskbench.mask import Mask, take
from maskbench.shape import ModelShape
from maskbench.weights import initialise


@dataclass(frozen=True)
class Outcome:
    """What a forward pass under a mask gave; attached to the graph.

    Args:
        loss: Scalar, mean over all hidden patches of the batch.
        patch_loss: (images, hidden): mean squared error of each hidden patch, by position.
        latent: (images, visible + 1, width): encoder output after the final norm, CLS first.
        prediction: (images, hidden, patch values): normalised pixels (row, column, channel).
        mask: The mask it was computed under.
    """

    loss: Tensor
    patch_loss: Tensor
    latent: Tensor
    prediction: Tensor
    mask: Mask

    @classmethod
    def of(cls, found: Iterable[Tensor], mask: Mask) -> "Outcome":
        """What ``MaskedAutoencoder.rebuild`` found under a mask."""
        loss, patch_loss, latent, prediction = found
        return cls(loss, patch_loss, latent, prediction, mask)


def sincos_positions(side: int, width: int) -> Tensor:
    """Fixed two-dimensional sine-cosine positions, (1, side * side + 1, width), zeros for CLS.

    The first half of the channels encodes the column, the second the row; in each, sines come
    before cosines and the wavelengths run from 2 pi to 20,000 pi (the order of MAE's tables).
    """
    omega = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [where.reshape(-1, 1).to(torch.float64) * omega for where in (column, row)]
    table = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return torch.cat([torch.zeros(1, width), table.to(torch.float32)]).unsqueeze(0)


class Encoder(nn.Module):
    """A plain ViT encoder without head, under the names of timm's ``VisionTransformer``.

    Weights are on the meta device until somebody fills them.
    """

    pos_embed: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        with torch.device("meta"):
            self.patch_embed = PatchEmbed(shape.image, shape.patch, 3, shape.width)
            self.cls_token = nn.Parameter(torch.empty(1, 1, shape.width))
            self.blocks = blocks(shape.depth, shape.width, shape.heads, 1e-6)
            self.norm = nn.LayerNorm(shape.width, eps=1e-6)
        self.register_buffer("pos_embed", sincos_positions(shape.side, shape.width))

    def embed(self, images: Tensor) -> Tensor:
        """Patch embeddings plus positions of all patches: (images, patches, width)."""
        tokens: Tensor = self.patch_embed(images)
        return tokens + self.pos_embed[:, 1:]

    def embed_pixels(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """``embed`` of some patches only, up to rounding.

        Args:
            pixels: Of these patches, (images, n, patch values): row, column, channel.
            positions: Theirs, (images, n).

        Returns:
            (images, n, width).
        """
        by_pixel = self.patch_embed.proj.weight.permute(0, 2, 3, 1).flatten(1)
        tokens = linear(pixels, by_pixel, self.patch_embed.proj.bias)
        return tokens + take(self.pos_embed[:, 1:].expand(len(pixels), -1, -1), positions)

    def encode(self, tokens: Tensor) -> Tensor:
        """Encoder on any subset of embedded patches: (B, n, width) to (B, n + 1, width)."""
        encoded: Tensor = self.norm(self.blocks(self._with_cls(tokens)))
        return encoded

    def layers(self, images: Tensor) -> list[Tensor]:
        """Tokens after each block, through the final norm; nothing is hidden.

        Args:
            images: (images, 3, side, side).

        Returns:
            ``depth`` tensors (images, 1 + patches, width), CLS first.
        """
        tokens, found = self._with_cls(self.embed(images)), []
        for block in self.blocks:
            tokens = block(tokens)
            found.append(self.norm(tokens))
        return found

    def attention(self, images: Tensor, query: str = "cls") -> Tensor:
        """Softmax attention that patches receive in the last block, (images, heads, patches).

        Args:
            images: (images, 3, side, side); nothing is hidden.
            query: ``"cls"``: from CLS; ``"patches"``: the mean over all patches.

        Raises:
            ValueError: Another query.
        """
        if query not in ("cls", "patches"):
            raise ValueError(f"query must be 'cls' or 'patches', not {query!r}")
        last: Any = self.blocks[-1]
        tokens = last.norm1(self.blocks[:-1](self._with_cls(self.embed(images))))
        count, heads = len(tokens), self.shape.heads
        qk = last.attn.qkv(tokens)[..., : 2 * self.shape.width]
        q, k = qk.view(count, -1, 2, heads, self.shape.width // heads).permute(2, 0, 3, 1, 4)
        q = q[:, :, :1] if query == "cls" else q[:, :, 1:]
        logits: Tensor = q @ k.transpose(-2, -1) * (self.shape.width // heads) ** -0.5
        return logits.float().softmax(-1).mean(2)[..., 1:]

    def encoder_state(self) -> Mapping[str, Tensor]:
        """The encoder alone, under the names of timm's ``VisionTransformer``."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith(("decoder_", "mask_token"))
        }

    def copy_encoder(self) -> "Encoder":
        """A frozen copy of the encoder alone."""
        copy = Encoder(self.shape).to_empty(device=self.cls_token.device)
        copy.load_state_dict(self.encoder_state())
        return copy.requires_grad_(requires_grad=False)

    def _with_cls(self, tokens: Tensor) -> Tensor:
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        return torch.cat([cls, tokens], dim=1)


class MaskedAutoencoder(Encoder):
    """An encoder on visible patches and a light decoder that predicts the hidden ones.

    Args:
        shape: The sizes.
        generator: Draws the initial weights (on the CPU; no global randomness is used).

    ``pieces`` cuts every batch to save memory; the gradients are those of the whole batch.
    """

    pieces = 1

    decoder_pos_embed: Tensor

    def __init__(self, shape: ModelShape, generator: torch.Generator) -> None:
        super().__init__(shape)
        decoder = shape.decoder_width
        with torch.device("meta"):
            self.decoder_embed = Linear(shape.width, decoder)
            self.mask_token = nn.Parameter(torch.empty(1, 1, decoder))
            self.decoder_blocks = blocks(shape.decoder_depth, decoder, shape.decoder_heads, 1e-6)
            self.decoder_norm = nn.LayerNorm(decoder, eps=1e-6)
            self.decoder_pred = Linear(decoder, shape.patch_values)
        self.to_empty(device="cpu")
        initialise(self, generator)
        self.pos_embed.copy_(sincos_positions(shape.side, shape.width))
        self.register_buffer("decoder_pos_embed", sincos_positions(shape.side, decoder))

    def forward(self, images: Tensor, mask: Mask) -> Outcome:
        """Hide, encode, predict and compare.

        Args:
            images: Normalised floats, (images, 3, side, side).
            mask: What is hidden; the same count in every image.
        """
        found = self.rebuild(images, mask.visible_positions, mask.hidden_positions)
        return Outcome.of(found, mask)

    def rebuild(self, images: Tensor, visible: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        """Loss, loss per patch, latent and prediction: an ``Outcome`` by tensors alone.

        Args:
            images: Normalised floats, (images, 3, side, side).
            visible: Positions of visible patches, (images, visible).
            hidden: Positions of the others, (images, hidden).
        """
        patch_loss, latent, prediction = self._cut(self._piece, images, visible, hidden)
        return patch_loss.mean(), patch_loss, latent, prediction

    def _piece(self, images: Tensor, visible: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        pixels = self.patchify(images)
        latent = self.encode(self.embed_pixels(take(pixels, visible), visible))
        prediction = self.decode(latent, visible, hidden)
        return self.patch_loss(prediction, take(pixels, hidden)), latent, prediction

    def _cut(self, passing: Callable[..., tuple[Tensor, ...]], *rows: Tensor) -> tuple[Tensor, ...]:
        """A pass over the batch in pieces; what one keeps for backward is computed again."""
        if self.pieces == 1:
            return passing(*rows)
        again = partial(checkpoint, passing, use_reentrant=False)
        once = again if torch.is_grad_enabled() else passing
        found = [once(*piece) for piece in zip(*(r.chunk(self.pieces) for r in rows), strict=True)]
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))

    def decode(self, latent: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Predictions of the hidden patches, (images, hidden, patch values); no un-shuffling."""
        positions = self.decoder_pos_embed.expand(len(latent), -1, -1)
        known = self.decoder_embed(latent)
        known = known + torch.cat([positions[:, :1], take(positions[:, 1:], visible)], dim=1)
        guesses = self.mask_token + take(positions[:, 1:], hidden)
        tokens = torch.cat([known, guesses.to(known.dtype)], dim=1)
        guessed = outputs(self.decoder_blocks, tokens, slice(known.shape[1], None))
        predicted: Tensor = self.decoder_pred(self.decoder_norm(guessed))
        return predicted

    def soft_patch_loss(self, images: Tensor, keep: Tensor) -> Tensor:
        """Loss of every patch when none is dropped but each is scaled by its keep-weight.

        All patches enter the encoder multiplied by their weight (positions included); the decoder
        sees them all and no mask token (CL-MAE's differentiable pass, arXiv 2308.16572, as coded).

        Args:
            images: (images, 3, side, side).
            keep: Weights in [0, 1], (images, patches); differentiable.

        Returns:
            (images, patches).
        """
        (found,) = self._cut(self._soft, images, keep)
        return found

    def _soft(self, images: Tensor, keep: Tensor) -> tuple[Tensor, ...]:
        with still(self):
            latent = self.encode(self.embed(images) * keep.unsqueeze(-1))
            tokens = self.decoder_blocks(self.decoder_embed(latent) + self.decoder_pos_embed)
            prediction = self.decoder_pred(self.decoder_norm(tokens[:, 1:]))
        return (self.patch_loss(prediction, self.patchify(images)),)

    def patchify(self, images: Tensor) -> Tensor:
        """(B, 3, side, side) to (B, patches, patch values); row, column, channel in a patch."""
        side, patch = self.shape.side, self.shape.patch
        cells = images.reshape(len(images), 3, side, patch, side, patch)
        return cells.permute(0, 2, 4, 3, 5, 1).reshape(len(images), side * side, -1)

    @staticmethod
    def patch_loss(prediction: Tensor, pixels: Tensor) -> Tensor:
        """Mean squared error to each patch's pixels, normalised by their own mean and deviation."""
        mean, deviation = level(pixels)
        return (prediction.float() - (pixels - mean) / deviation).square().mean(-1)


@contextmanager
def still(net: nn.Module) -> Iterator[None]:
    """Within, passes are recorded without the net's own gradients."""
    trained = [each for each in net.parameters() if each.requires_grad]
    for each in trained:
        each.requires_grad = False
    try:
        yield
    finally:
        for each in trained:
            each.requires_grad = True


def level(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation that patches are normalised by: (..., patch values) to two (..., 1)."""
    variance, mean = torch.var_mean(pixels.float(), dim=-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()
