"""Model sizes and their closed-form FLOPs (2 per multiply-add); plain integers, no torch.

Counted are matrix products and attention; norms, activations, softmax and the optimiser are not
(the convention of the FLOP counters people compare with). A training step is forward plus
backward: a linear layer's backward costs twice its forward (gradients of weights and of
activations), attention's too (both operands are activations).
"""

from dataclasses import dataclass

PIXELS = 3


@dataclass(frozen=True)
class ModelShape:
    """A masked autoencoder's sizes; pixels and channels are counts.

    Args:
        image: Side of the square input, pixels.
        patch: Side of a patch, pixels.
        width: Encoder embedding dimension (D).
        depth: Encoder blocks.
        heads: Encoder attention heads.
        decoder_width: Decoder embedding dimension (d).
        decoder_depth: Decoder blocks.
        decoder_heads: Decoder attention heads.
    """

    image: int
    patch: int
    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int

    @property
    def side(self) -> int:
        """Patches along one side."""
        return self.image // self.patch

    @property
    def patches(self) -> int:
        """Patches per image (L)."""
        return self.side**2

    @property
    def patch_values(self) -> int:
        """Numbers in one patch: patch x patch x 3."""
        return self.patch**2 * PIXELS


@dataclass(frozen=True)
class Preset:
    """A named size with the recipe it is meant for.

    Args:
        shape: The sizes.
        batch: Images per step.
        base_lr: Learning rate per 256 images of the batch.
        use: One line that says what it is for.
    """

    shape: ModelShape
    batch: int
    base_lr: float
    use: str


PRESETS: dict[str, Preset] = {
    "nano": Preset(ModelShape(32, 4, 96, 4, 3, 64, 1, 2), 16, 3.2e-2, "the quick start, 32 px"),
    "micro": Preset(ModelShape(32, 4, 128, 6, 4, 64, 2, 2), 64, 4e-3, "32 px on a CPU"),
    "tiny": Preset(ModelShape(32, 4, 192, 12, 3, 128, 4, 4), 256, 1e-3, "32 px on a GPU"),
    "vit_small": Preset(ModelShape(224, 16, 384, 12, 6, 512, 8, 16), 1024, 1.5e-4, "224 px"),
    "vit_base": Preset(ModelShape(224, 16, 768, 12, 12, 512, 8, 16), 1024, 1.5e-4, "224 px"),
    "vit_large": Preset(ModelShape(224, 16, 1024, 24, 16, 512, 8, 16), 1024, 1.5e-4, "224 px"),
    "vit_huge": Preset(ModelShape(224, 14, 1280, 32, 16, 512, 8, 16), 1024, 1.5e-4, "224 px"),
}


def linear_flops(tokens: int, inputs: int, outputs: int) -> int:
    """Forward FLOPs of a linear layer applied to ``tokens`` vectors."""
    return 2 * tokens * inputs * outputs


def conv_flops(cells: int, inputs: int, outputs: int, kernel: int) -> int:
    """Forward FLOPs of a convolution with a square kernel that gives ``cells`` positions."""
    return linear_flops(cells, inputs * kernel**2, outputs)


def block_flops(tokens: int, width: int, wanted: int | None = None) -> tuple[int, int]:
    """Forward FLOPs of one transformer block (MLP ratio 4): its linear layers, its attention.

    Args:
        tokens: That are attended to.
        width: Their dimension.
        wanted: Tokens whose outputs are computed (default: all of them).
    """
    wanted = tokens if wanted is None else wanted
    return (4 * tokens + 20 * wanted) * width**2, 4 * tokens * wanted * width


def blocks_forward(depth: int, tokens: int, width: int, wanted: int | None = None) -> int:
    """Forward FLOPs of ``depth`` blocks; ``wanted``: tokens whose outputs of the last are read."""
    return (depth - 1) * sum(block_flops(tokens, width)) + sum(block_flops(tokens, width, wanted))


def blocks_input_gradient(depth: int, tokens: int, width: int) -> int:
    """Backward FLOPs of ``depth`` frozen blocks: gradients of activations only."""
    linear, attention = block_flops(tokens, width)
    return depth * (linear + 2 * attention)


def step_flops(shape: ModelShape, visible: int) -> dict[str, int]:
    """FLOPs per image of one plain masked-autoencoder training step, by part.

    Args:
        shape: The model.
        visible: Visible patches per image: only these are embedded, only the others predicted.
    """
    hidden, width = shape.patches - visible, shape.decoder_width
    encoder = 3 * blocks_forward(shape.depth, visible + 1, shape.width)
    embed = 2 * linear_flops(visible, shape.patch_values, shape.width)
    decoder = 3 * (
        linear_flops(visible + 1, shape.width, width)
        + blocks_forward(shape.decoder_depth, shape.patches + 1, width, hidden)
        + linear_flops(hidden, width, shape.patch_values)
    )
    return {"encoder": encoder + embed, "decoder": decoder}


def soft_pass_flops(shape: ModelShape) -> tuple[int, int]:
    """Encoder and decoder FLOPs per image of ``soft_patch_loss`` and its gradient by the weights.

    All patches enter both; backward reaches activations only, down to the patch embeddings.
    """
    tokens = shape.patches + 1
    encoder = linear_flops(shape.patches, shape.patch_values, shape.width)
    encoder += blocks_forward(shape.depth, tokens, shape.width)
    encoder += blocks_input_gradient(shape.depth, tokens, shape.width)
    decoder = blocks_forward(shape.decoder_depth, tokens, shape.decoder_width)
    decoder += blocks_input_gradient(shape.decoder_depth, tokens, shape.decoder_width)
    decoder += 2 * linear_flops(tokens, shape.width, shape.decoder_width)
    decoder += 2 * linear_flops(shape.patches, shape.decoder_width, shape.patch_values)
    return encoder, decoder
