"""Several processes as one: what they share."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch import distributed as dist


def average(tensors: Iterable[Tensor]) -> None:
    """Average tensors over all processes, in place and as one message; nothing to do for one."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    parts = list(tensors)
    if not parts:
        return
    flat = torch.cat([part.reshape(-1) for part in parts])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    sizes = [part.numel() for part in parts]
    for part, mean in zip(parts, torch.split(flat, sizes), strict=True):
        part.copy_(mean.view_as(part))
