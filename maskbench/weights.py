"""Initial weights, drawn from one generator that is handed over."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Fill every linear layer, convolution and norm, and every ``*_token``, from one generator.

    MAE's choice: Xavier uniform weights (a patch embedding counts as a linear layer), zero biases,
    tokens normal with standard deviation 0.02. Draws in the order of registration, on the CPU.

    Raises:
        ValueError: A parameter is none of these; give it a layer, or a name that ends in _token.
    """
    filled: set[int] = set()
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv2d):
            weight = child.weight.data
            nn.init.xavier_uniform_(weight.view(weight.shape[0], -1), generator=generator)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, nn.LayerNorm | nn.GroupNorm):
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)
        else:
            continue
        filled.update(id(parameter) for parameter in child.parameters())
    for name, parameter in module.named_parameters():
        if name.endswith("_token"):
            nn.init.normal_(parameter, std=0.02, generator=generator)
        elif id(parameter) not in filled:
            raise ValueError(f"no rule to initialise parameter {name!r}")


def build(factory: Callable[[], M], generator: torch.Generator) -> M:
    """A module from a factory, initialised from one generator; draws nothing from global streams.

    Args:
        factory: Makes the module (on the meta device, where layers draw no numbers).
        generator: Of the CPU.
    """
    with torch.device("meta"):
        module = factory()
    module.to_empty(device="cpu")
    initialise(module, generator)
    return module
