"""A run's saved masks, read back without torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from maskbench.errors import StoreError


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


def read_masks(path: Path) -> Tape:
    """The masks a run saved.

    Raises:
        StoreError: The file is missing or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            arrays: dict[str, NDArray[Any]] = {
                name: file.get_tensor(name) for name in ("bits", "steps", "positions", "shown")
            }
            grid = json.loads(file.metadata()["grid"])
        rows, columns = int(grid["rows"]), int(grid["columns"])
        bits = np.unpackbits(arrays["bits"], axis=2, count=rows * columns).astype(np.bool_)
        tape = Tape(
            hidden=bits.reshape(*bits.shape[:2], rows, columns),
            steps=arrays["steps"],
            positions=arrays["positions"],
            shown=arrays["shown"],
        )
        _check(tape)
    except Exception as error:
        raise StoreError(f"no readable masks at {path}: {error}.") from error
    return tape


def _check(tape: Tape) -> None:
    """Refuse arrays that do not fit together."""
    moments, images = tape.hidden.shape[:2]
    if not moments or len(tape.steps) != moments or len(tape.positions) != images:
        raise ValueError("moments and images do not fit together")
    if tape.shown.ndim != 4 or not 0 < len(tape.shown) <= images or tape.shown.shape[3] != 3:
        raise ValueError(f"images of shape {tape.shown.shape}")
