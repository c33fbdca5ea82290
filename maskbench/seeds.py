"""Keyed randomness: a stream for every (seed, purpose, step, rank), and none that is global.

Two kinds. ``generator`` gives a ``torch.Generator`` for one purpose at one step. ``uniform`` is
counter-based: a value depends on the key, the row and the column only, so that an image's
augmentation is a pure function of (seed, epoch, image index) whatever batch it falls into.
"""

import hashlib

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def key(*parts: int | str) -> int:
    """A signed 64-bit key from any parts (BLAKE2b of their text)."""
    text = "|".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def generator(
    seed: int, purpose: str, step: int = 0, rank: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator for one purpose at one step.

    Args:
        seed: The run's seed.
        purpose: What the numbers are for, such as ``"mask"`` or ``"init"``.
        step: Optimiser step, epoch, or any counter of the purpose.
        rank: Process of a distributed run.
        device: Where the numbers are drawn.
    """
    return torch.Generator(device=device).manual_seed(key(seed, purpose, step, rank))


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's own is arithmetic)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), on wrapping int64."""
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def uniform(stream: int, rows: Tensor, columns: int) -> Tensor:
    """Uniform numbers in [0, 1) that depend on the stream, the row and the column alone.

    Args:
        stream: A key made by ``key``.
        rows: Integers, shape (images,): for instance positions in the data set.
        columns: Numbers per row.

    Returns:
        Float32, shape (images, columns), on the device of ``rows``.
    """
    base = _mix(rows.to(torch.int64) * _GAMMA + stream)
    counter = torch.arange(1, columns + 1, device=rows.device) * _GAMMA
    bits = _shift(_mix(base[:, None] + counter), 40)
    return bits.to(torch.float32) * 2.0**-24
