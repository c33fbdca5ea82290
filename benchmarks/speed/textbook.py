"""A plain masked autoencoder as one would write it from the paper: the reference of the timings.

He et al., arXiv 2111.06377, sections 3 and appendix A: shuffle, keep, encode, un-shuffle with mask
tokens, decode, predict every patch, and average the error over the hidden ones. Plain torch, no
thought of speed; it takes the weights of ``maskbench.model.MaskedAutoencoder`` by their names.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskbench.model import sincos_positions
from maskbench.shape import ModelShape


class Attention(nn.Module):
    """Multi-head self-attention, written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(images, tokens, width) to the same."""
        images, count, width = tokens.shape
        qkv = self.qkv(tokens).reshape(images, count, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1)
        found: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(images, count, width))
        return found


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(images, tokens, width) to the same."""
        tokens = tokens + self.attn(self.norm1(tokens))
        inner: Any = self.mlp
        found: Tensor = tokens + inner.fc2(functional.gelu(inner.fc1(self.norm2(tokens))))
        return found


class Textbook(nn.Module):
    """The whole autoencoder.

    Args:
        shape: The sizes.
        ratio: Share of the patches that is hidden.
    """

    pos_embed: Tensor
    decoder_pos_embed: Tensor

    def __init__(self, shape: ModelShape, ratio: float) -> None:
        super().__init__()
        width, narrow = shape.width, shape.decoder_width
        self.shape, self.ratio = shape, ratio
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, shape.patch, shape.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.Sequential(*(Block(width, shape.heads) for _ in range(shape.depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_embed = nn.Linear(width, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder_blocks = nn.Sequential(
            *(Block(narrow, shape.decoder_heads) for _ in range(shape.decoder_depth))
        )
        self.decoder_norm = nn.LayerNorm(narrow, eps=1e-6)
        self.decoder_pred = nn.Linear(narrow, shape.patch_values)
        self.register_buffer("pos_embed", sincos_positions(shape.side, width))
        self.register_buffer("decoder_pos_embed", sincos_positions(shape.side, narrow))

    def forward(self, images: Tensor, noise: Tensor) -> SimpleNamespace:
        """Hide the patches of the highest noise, and rebuild them.

        Args:
            images: Normalised, (images, 3, side, side).
            noise: (images, patches).

        Returns:
            With ``loss``, a scalar.
        """
        inner: Any = self.patch_embed
        places = self.pos_embed
        tokens = inner.proj(images).flatten(2).transpose(1, 2) + places[:, 1:]
        count, patches, width = tokens.shape
        kept = patches - round(patches * self.ratio)
        shuffle = noise.argsort(1)
        restore = shuffle.argsort(1)
        visible = tokens.gather(1, shuffle[:, :kept, None].repeat(1, 1, width))
        cls = (self.cls_token + places[:, :1]).expand(count, -1, -1)
        latent = self.norm(self.blocks(torch.cat([cls, visible], 1)))
        known = self.decoder_embed(latent)
        guesses = self.mask_token.repeat(count, patches - kept, 1)
        mixed = torch.cat([known[:, 1:], guesses], 1)
        mixed = mixed.gather(1, restore[..., None].repeat(1, 1, mixed.shape[-1]))
        mixed = torch.cat([known[:, :1], mixed], 1) + self.decoder_pos_embed
        wanted = self._pixels(images)
        guessed = self.decoder_pred(self.decoder_norm(self.decoder_blocks(mixed)))[:, 1:]
        error = ((guessed - wanted) ** 2).mean(-1)
        hidden = torch.ones_like(noise)
        hidden[:, :kept] = 0
        hidden = hidden.gather(1, restore)
        return SimpleNamespace(loss=(error * hidden).sum() / hidden.sum())

    def _pixels(self, images: Tensor) -> Tensor:
        side, patch = self.shape.side, self.shape.patch
        cells = images.reshape(len(images), 3, side, patch, side, patch)
        pixels = cells.permute(0, 2, 4, 3, 5, 1).reshape(len(images), side**2, -1)
        mean, variance = pixels.mean(-1, keepdim=True), pixels.var(-1, keepdim=True)
        return (pixels - mean) / (variance + 1e-6) ** 0.5
