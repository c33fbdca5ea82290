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
from maskbench.shown import shown_side
from maskbench.trust import MAX_BYTES, inside, parse, plain

NAMES, MORE = ("bits", "steps", "positions", "shown"), ("again", "keep", "losses", "rebuilt")
MAX_MOMENTS, MAX_IMAGES, MAX_SIDE, MAX_PATCHES = 100, 100_000, 1024, 50_000_000


@dataclass(frozen=True)
class Tape:
    """Masks of the same images at several moments of training.

    Args:
        hidden: (moments, images, rows, columns), True where a patch is hidden.
        steps: Training step of every moment.
        positions: Positions of the images in the training split.
        shown: The first few images, (images, side, side, 3), 0 to 255.
        again: A second draw of the masks, like ``hidden``; None in older files.
        keep: Keep-probabilities, (moments, images, patches); None where there are none.
        losses: Of each image under its own and under random masks, (moments, 2, images); None in
            older files.
        rebuilt: What the model of every moment made of the first few images under its masks,
            (moments, images, side, side, 3), 0 to 255: hidden patches painted, with the mean and
            deviation of the true ones, visible ones true; None in older files.
    """

    hidden: NDArray[np.bool_]
    steps: NDArray[np.int64]
    positions: NDArray[np.int64]
    shown: NDArray[np.uint8]
    again: NDArray[np.bool_] | None = None
    keep: NDArray[np.float16] | None = None
    losses: NDArray[np.float32] | None = None
    rebuilt: NDArray[np.uint8] | None = None


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
            names = [*NAMES, *(name for name in MORE if name in file.keys())]  # noqa: SIM118 no mapping
            shapes = {name: file.get_slice(name).get_shape() for name in names}
            _check(shapes, rows, columns)
            arrays: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in names}
        again, keep, losses, rebuilt = (arrays.get(name) for name in MORE)
        return Tape(
            hidden=_unpacked(arrays["bits"], rows, columns),
            steps=arrays["steps"].astype(np.int64, casting="safe"),
            positions=arrays["positions"].astype(np.int64, casting="safe"),
            shown=arrays["shown"].astype(np.uint8, casting="safe"),
            again=None if again is None else _unpacked(again, rows, columns),
            keep=None if keep is None else keep.astype(np.float16, casting="safe"),
            losses=None if losses is None else losses.astype(np.float32, casting="safe"),
            rebuilt=None if rebuilt is None else rebuilt.astype(np.uint8, casting="safe"),
        )
    except Exception as error:
        why = plain(str(error) or type(error).__name__)[:200]
        raise StoreError(f"no readable masks at {path}: {why}.") from error


def _unpacked(bits: NDArray[Any], rows: int, columns: int) -> NDArray[np.bool_]:
    flat = np.unpackbits(bits, axis=2, count=rows * columns).astype(np.bool_)
    return flat.reshape(*flat.shape[:2], rows, columns)


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
    pixels = shown_side(side, rows)
    more = {
        "again": [moments, images, width],
        "keep": [moments, images, rows * columns],
        "losses": [moments, 2, images],
        "rebuilt": [moments, count, pixels, pixels, 3],
    }
    if "rebuilt" in shapes and pixels % rows:
        raise ValueError(f"{pixels} px are not {rows} rows of patches")
    if any(list(shapes[name]) != more[name] for name in MORE if name in shapes):
        raise ValueError("what belongs to the masks does not fit them")
