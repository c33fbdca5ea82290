"""Bit-exact comparison of states, and where two of them differ first."""

import copy
import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maskbench.job import Job


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Tensors and plain values of a nested state, by path: ``{"net.weight": ...}``."""
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        return {path: value}
    found: dict[str, Any] = {}
    for key, part in items:
        found |= leaves(part, f"{path}.{key}" if path else str(key))
    return found


def difference(one: Any, other: Any) -> str | None:
    """Where two nested states differ first, in words; None where they are bit-identical."""
    first, second = leaves(one), leaves(other)
    for path in [*first, *(path for path in second if path not in first)]:
        if path not in second:
            return f"{path} is gone"
        if path not in first:
            return f"{path} is new"
        words = _apart(first[path], second[path])
        if words:
            return f"{path} {words}"
    return None


def _apart(one: Any, other: Any) -> str | None:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        if type(one) is type(other) and (one == other or (one != one and other != other)):
            return None
        return f"is {other!r}, not {one!r}"
    if one.dtype != other.dtype or one.shape != other.shape:
        return f"is {kind(other)}, not {kind(one)}"
    if torch.equal(one, other):
        return None
    blank = one.isnan()
    if torch.equal(blank, other.isnan()) and torch.equal(one[~blank], other[~blank]):
        return None
    if one.numel() == 1:
        return f"is {other.item():g}, not {one.item():g}"
    if one.is_floating_point():
        return f"differs by up to {float((one - other).abs().max()):.2g}"
    return f"differs in {int((one != other).sum())} of {one.numel()} places"


def distances(one: Any, other: Any) -> dict[str, float]:
    """How far floating tensors of a nested state are from another's, by path.

    Norm of the difference over norm; infinite where the other is not there, has another shape, or
    is not finite.
    """
    first, second = leaves(one), leaves(other)
    floats = {p: v for p, v in first.items() if isinstance(v, Tensor) and v.is_floating_point()}
    return {path: _distance(value, second.get(path)) for path, value in floats.items()}


def _distance(one: Tensor, other: Any) -> float:
    if not isinstance(other, Tensor) or other.shape != one.shape:
        return math.inf
    size = max(float(one.double().norm()), torch.finfo(torch.float32).tiny)
    found = float((other.double() - one.double()).norm()) / size
    return found if math.isfinite(found) else math.inf


def kind(tensor: Tensor) -> str:
    """A tensor in words: ``float32 of shape (8, 16)``."""
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def digests(state: Any) -> dict[str, str]:
    """A short hash of every leaf of a nested state, by path."""
    return {path: _digest(value) for path, value in leaves(state).items()}


def _digest(value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(flat.numpy().tobytes(), digest_size=8).hexdigest()


def snapshot(job: Job) -> dict[str, Any]:
    """A copy of the model's values and of the strategy's whole state."""
    return copy.deepcopy({"model": job.model.state_dict(), "strategy": job.strategy.state_dict()})


def model_now(job: Job) -> dict[str, Any]:
    """A copy of the model's values, gradients and switches."""
    parameters = dict(job.model.named_parameters())
    return {
        "value of": {name: value.clone() for name, value in job.model.state_dict().items()},
        "gradient of": {n: p.grad.clone() for n, p in parameters.items() if p.grad is not None},
        "requires_grad of": {name: p.requires_grad for name, p in parameters.items()},
        "training mode of": {name: part.training for name, part in job.model.named_modules()},
    }
