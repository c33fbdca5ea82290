"""A run's saved masks, read back without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from maskbench.errors import StoreError
from maskbench.results import MASKS
from maskbench.trust import MAX_BYTES, inside, parse, plain

NAMES = ("bits", "steps", "positions", "shown")
MAX_MOMENTS, MAX_IMAGES, MAX_SIDE, MAX_PATCHES = 100, 100_000, 1024, 50_000_000


@dataclass(frozen=True)
class Tape:
    """Masks of the same images at several moments of training.

    Args:
        hidden: (moments, images, rows, columns), True where a patch is hidden.
        steps: Training step of every moment.
        positions: Positions of the images in the training split.
        shown: The first few images, (images, side, side, 3), 0 to 255.
    """

    hidden: NDArray[np.bool_]
    steps: NDArray[np.int64]
    positions: NDArray[np.int64]
    shown: NDArray[np.uint8]


def read_masks(folder: Path) -> Tape:
    """The masks a run saved.

    Raises:
        StoreError: The file is missing or damaged, or not of the shapes that runs save.
    """
    path = folder / MASKS
    try:
        with safe_open(inside(folder, MASKS, MAX_BYTES), framework="numpy") as file:
            grid = parse(file.metadata()["grid"])
            rows, columns = int(grid["rows"]), int(grid["columns"])
            _check({name: file.get_slice(name).get_shape() for name in NAMES}, rows, columns)
            arrays: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in NAMES}
        bits = np.unpackbits(arrays["bits"], axis=2, count=rows * columns).astype(np.bool_)
        return Tape(
            hidden=bits.reshape(*bits.shape[:2], rows, columns),
            steps=arrays["steps"].astype(np.int64, casting="safe"),
            positions=arrays["positions"].astype(np.int64, casting="safe"),
            shown=arrays["shown"].astype(np.uint8, casting="safe"),
        )
    except Exception as error:
        why = plain(str(error) or type(error).__name__)[:200]
        raise StoreError(f"no readable masks at {path}: {why}.") from error


def _check(shapes: Mapping[str, Sequence[int]], rows: int, columns: int) -> None:
    """Refuse arrays that do not fit together or are too large to draw; before they are read."""
    (moments, images, width), shown = shapes["bits"], shapes["shown"]
    if not 0 < rows == columns <= MAX_SIDE or width != -(-rows * columns // 8):
        raise ValueError(f"a grid of {rows} x {columns} in {width} bytes")
    if not 0 < moments <= MAX_MOMENTS or not 0 < images <= MAX_IMAGES:
        raise ValueError(f"{moments} moments of {images} images")
    if list(shapes["steps"]) != [moments] or list(shapes["positions"]) != [images]:
        raise ValueError("moments and images do not fit together")
    if moments * images * rows * columns > MAX_PATCHES:
        raise ValueError(f"more than {MAX_PATCHES:,} patches")
    count, height, side, channels = shown
    if not 0 < count <= images or channels != 3 or not 0 < height == side <= MAX_SIDE:
        raise ValueError(f"images of shape {shown}")
