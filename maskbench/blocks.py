"""timm's ViT blocks as the model has them; of the last one, some tokens' outputs can be enough."""

from functools import partial
from typing import Any

import torch
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from maskbench.linear import Linear, linear


class Attending(Attention):  # type: ignore[misc]
    """timm's attention; in bfloat16 on a CPU as products and a softmax, not fused.

    There torch's fused kernel takes half of a step at 32 px, most of it to find gradients.
    """

    @property  # timm keeps it as it was built; a pass decides here
    def fused_attn(self) -> bool:  # pyright: ignore[reportGeneralTypeIssues]
        """Which of timm's two ways a pass takes."""
        return not torch.is_autocast_enabled("cpu")

    @fused_attn.setter
    def fused_attn(self, wanted: bool) -> None:
        """What timm would take everywhere is not asked for."""

    def of(self, x: Tensor, wanted: slice) -> Tensor:
        """Outputs of some tokens, who attend to all: (B, n, width) to (B, wanted, width)."""
        width, weight, bias = x.shape[-1], self.qkv.weight, self.qkv.bias
        queries = linear(x[:, wanted], weight[:width], bias[:width])
        pairs = linear(x, weight[width:], bias[width:])
        q, k, v = (
            each.reshape(len(x), -1, self.num_heads, self.head_dim).transpose(1, 2)
            for each in (queries, *pairs.chunk(2, -1))
        )
        if self.fused_attn:
            found = functional.scaled_dot_product_attention(q, k, v)
        else:
            found = (q * self.scale @ k.transpose(-2, -1)).softmax(-1) @ v
        projected: Tensor = self.proj(found.transpose(1, 2).flatten(2))
        return projected


class PartlyRead(Block):  # type: ignore[misc]
    """timm's block, without dropout or scales; it can leave out what nobody reads."""

    def of(self, x: Tensor, wanted: slice) -> Tensor:
        """Outputs of some tokens, who attend to all: (B, n, width) to (B, wanted, width)."""
        attention: Any = self.attn
        mixed = x[:, wanted] + attention.of(self.norm1(x), wanted)
        found: Tensor = mixed + self.mlp(self.norm2(mixed))
        return found


def blocks(depth: int, width: int, heads: int, eps: float) -> nn.Sequential:
    """``depth`` pre-norm ViT blocks (timm's), MLP ratio 4, with qkv bias."""
    norm: Any = partial(nn.LayerNorm, eps=eps)
    made = partial(PartlyRead, qkv_bias=True, norm_layer=norm, attn_layer=Attending)
    found = nn.Sequential(*(made(width, heads, 4.0) for _ in range(depth)))
    Linear.within(found)
    return found


def outputs(through: nn.Sequential, tokens: Tensor, wanted: slice) -> Tensor:
    """``through(tokens)[:, wanted]`` up to rounding; the last block computes no other outputs.

    Args:
        through: At least one of ``blocks``.
        tokens: (B, n, width).
        wanted: Which tokens' outputs are read.

    Returns:
        (B, wanted, width).
    """
    each: list[Any] = list(through)
    for block in each[:-1]:
        tokens = block(tokens)
    found: Tensor = each[-1].of(tokens, wanted)
    return found
