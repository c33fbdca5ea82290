"""Exponential moving averages of the model: teachers that look at whole images."""

from torch import nn

from maskbench.strategy import (
    Context,
    Field,
    ModelShape,
    StrategySettings,
    blocks_forward,
    linear_flops,
)


class TeacherSettings(StrategySettings):
    """How slowly a teacher follows."""

    decay: float = Field(0.999, ge=0, lt=1, description="the teacher's decay per step at the start")
    last_decay: float = Field(0.9999, ge=0, lt=1, description="and from half of the budget on")

    def decay_at(self, context: Context) -> float:
        """Decay at a step: linear over half of the budget, and no slower than the run is old.

        The bound (1 + step) / (10 + step) keeps the teacher of a short run from being its initial
        weights; it is above 0.999 from step 9,000 on.
        """
        share = min(2 * context.progress, 1.0)
        wanted = self.decay + share * (self.last_decay - self.decay)
        return min(wanted, (1 + context.step) / (10 + context.step))


def follow(teacher: nn.Module, live: nn.Module, decay: float) -> None:
    """``teacher = decay * teacher + (1 - decay) * live``, parameter by parameter."""
    for slow, fast in zip(teacher.parameters(), live.parameters(), strict=True):
        slow.data.lerp_(fast.data, 1 - decay)


def whole_image_flops(shape: ModelShape) -> int:
    """FLOPs per image of one forward pass of the encoder with nothing hidden."""
    embed = linear_flops(shape.patches, shape.patch_values, shape.width)
    return embed + blocks_forward(shape.depth, shape.patches + 1, shape.width)


def attention_flops(shape: ModelShape, query: str) -> int:
    """FLOPs per image of one look at the last block's attention, nothing hidden."""
    tokens, width = shape.patches + 1, shape.width
    queries = 1 if query == "cls" else shape.patches
    embed = linear_flops(shape.patches, shape.patch_values, width)
    blocks = blocks_forward(shape.depth - 1, tokens, width)
    return embed + blocks + linear_flops(tokens, width, 3 * width) + 2 * queries * tokens * width
