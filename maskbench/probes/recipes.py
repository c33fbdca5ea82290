"""Optimisers of published recipes, from timm; the only probe file that knows it."""

from typing import Any

import torch
from timm.optim import Lars, create_optimizer_v2
from torch import nn


def layerwise_adamw(
    model: nn.Module, *, weight_decay: float, layer_decay: float
) -> torch.optim.Optimizer:
    """AdamW, betas (0.9, 0.999), whose groups carry ``lr_scale``: MAE's fine-tuning.

    A group at depth i of ``depth + 1`` has ``layer_decay ** (depth + 1 - i)``: 0 for the embedding,
    i for the i-th block, ``depth + 1`` for what follows. Biases, norms and tokens do not decay.

    Args:
        model: Has timm's ``group_matcher`` and ``no_weight_decay``.
        weight_decay: Decay of matrices.
        layer_decay: Ratio of the rates of neighbouring depths.
    """
    options: dict[str, Any] = {"layer_decay": layer_decay, "betas": (0.9, 0.999)}
    options |= {"lr": 0.0, "weight_decay": weight_decay}
    optimizer: torch.optim.Optimizer = create_optimizer_v2(model, "adamw", **options)
    return optimizer


def lars(model: nn.Module, *, momentum: float, weight_decay: float) -> torch.optim.Optimizer:
    """LARS as in MAE (mae/util/lars.py): vectors are neither scaled nor decayed.

    timm's class scales no group without weight decay unless it is told to, and would be plain SGD
    under MAE's weight decay of zero. Its trust coefficient is 0.001, as MAE's.

    Args:
        model: What to train.
        momentum: Of SGD.
        weight_decay: Of matrices.
    """
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay, "always_adapt": True},
        {"params": vectors, "weight_decay": 0.0, "always_adapt": False},
    ]
    options: dict[str, Any] = {"lr": 0.0, "momentum": momentum, "trust_coeff": 0.001}
    optimizer: torch.optim.Optimizer = Lars(groups, **options)
    return optimizer
