"""Linear layers; on an AMD CPU with AVX-512, in float32, as oneDNN's convolutions of 1 x 1.

There torch multiplies matrices with Intel's MKL, which is slower than oneDNN; torch has that as
well, but asks it only for convolutions in float32. Outputs and gradients by inputs take 0.73 to 1
times as long (docs/notes.md), gradients by weights gain in some shapes only, and stay products
elsewhere. The numbers are equal up to rounding.
torch's own switch, ``torch.backends.mkldnn.flags(enabled=False)``, turns it off.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskbench.machine import made_by

WORTH = 2**27
"""Multiply-adds of a layer that gains: below, calls take as long as is won."""

TALL = 4
"""With so many times more rows than inputs, and fewer outputs, weights' gradients gain, too."""


class Linear(nn.Linear):
    """``torch.nn.Linear``, computed by ``linear``."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """(..., inputs) to (..., outputs)."""
        return linear(input, self.weight, self.bias)

    @staticmethod
    def within(net: nn.Module) -> None:
        """Let every linear layer of a net be one of these; parameters and their names stay."""
        for layer in net.modules():
            if type(layer) is nn.Linear:
                layer.__class__ = Linear


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What ``functional.linear`` gives, up to rounding, by whichever library is faster here.

    Args:
        x: (..., inputs).
        weight: (outputs, inputs).
        bias: (outputs,), or none.

    Returns:
        (..., outputs).
    """
    if not _pays(x, weight):
        return functional.linear(x, weight, bias)
    image = _image(x.flatten(0, -2).contiguous())
    found: Tensor = _Convolved.apply(image, weight, bias)
    return _rows(found).contiguous().view(*x.shape[:-1], -1)


def _pays(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim > 1
        and x.numel() * len(weight) >= WORTH
        and torch.get_num_threads() > 1  # with one, torch has a slower kernel of its own
        and bool(torch.backends.mkldnn.enabled)
        and _mkl_is_slow()
    )


@cache
def _mkl_is_slow() -> bool:
    libraries: Any = torch.backends
    known = libraries.mkl.is_available() and libraries.mkldnn.is_available()
    wide = libraries.cpu.get_cpu_capability().startswith("AVX512")
    return known and wide and made_by() == "AuthenticAMD"


class _Convolved(torch.autograd.Function):
    """The rows of a product are the pixels of one image: (1, inputs, n, 1) to (1, outputs, n, 1).

    It knows no ``vmap`` and no forward-mode derivatives.
    """

    @staticmethod
    def forward(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution."""
        return functional.conv2d(image, weight[:, :, None, None], bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """What is needed for gradients."""
        image, weight, _ = inputs
        ctx.save_for_backward(image, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """By inputs, weights and bias, as far as they are asked for."""
        image, weight = ctx.saved_tensors
        gradient = _rows(gradients[0]).contiguous()
        by_image, by_weight, by_bias = ctx.needs_input_grad
        outputs, inputs = weight.shape
        convolved = by_weight and len(gradient) > TALL * inputs > TALL * outputs
        once, none, wanted = [1, 1], [0, 0], [by_image, convolved, False]
        found, moves, _ = torch.ops.aten.convolution_backward(
            _image(gradient), image, weight[:, :, None, None],
            None, once, none, once, False, none, 1, wanted,
        )  # fmt: skip
        if by_weight:
            moves = moves[:, :, 0, 0] if convolved else gradient.t() @ _rows(image)
        return found, moves, gradient.sum(0) if by_bias else None


def _image(rows: Tensor) -> Tensor:
    return rows[None, :, None].permute(0, 3, 1, 2)


def _rows(image: Tensor) -> Tensor:
    return image.permute(0, 2, 3, 1)[0, :, 0]
