"""Image folders made on the spot, for the tests of folders."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32


def noise(seed: int, height: int = SIDE, width: int = SIDE) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def put(path: Path, seed: int = 0, height: int = SIDE, width: int = SIDE) -> Path:
    """A noise image; the format follows the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed, height, width)).save(path)
    return path


def dataset(root: Path, per_class: int = 3, test: str = "test") -> Path:
    """Classes cat and dog; every image has a seed of its own: 100 * split + 10 * class + index."""
    for s, split in enumerate(("train", test)):
        for c, name in enumerate(("cat", "dog")):
            for i in range(per_class):
                put(root / split / name / f"{i}.png", 100 * s + 10 * c + i)
    return root


def flat(root: Path, count: int) -> Path:
    for i in range(count):
        put(root / f"{i:03}.png", i)
    return root
