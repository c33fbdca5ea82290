"""Scores to ranks, and noise that decides between equals."""

import torch
from torch import Tensor


def ranks(scores: Tensor, noise: Tensor) -> Tensor:
    """Rank of every patch in its image: 0 is the lowest score; equals are ordered by noise.

    Args:
        scores: (images, patches).
        noise: (images, patches).

    Returns:
        Long, (images, patches).
    """
    shuffled = noise.argsort(dim=1)
    order = shuffled.gather(1, scores.gather(1, shuffled).argsort(dim=1, stable=True))
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter(1, order, places)
