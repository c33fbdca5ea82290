"""Features on disk: computed once per encoder and images, memory-mapped, whole or not there."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskbench import trust
from maskbench.errors import StoreError
from maskbench.events import Progress
from maskbench.files import unwritten
from maskbench.probes.backbone import Backbone
from maskbench.probes.features import Described, describe
from maskbench.results import write_json

FOLDER = "features"
FACTS = "features.json"
SCHEMA = 1
LAYERS_BYTES = 2**31
"""Patch means of all blocks are kept up to this size; beyond it, the last one's alone."""


class Cache:
    """Features of one encoder.

    Args:
        folder: Where they are kept; None to keep them in memory alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def features(
        self,
        backbone: Backbone,
        images: Any,
        mark: str,
        progress: Progress,
        *,
        every_layer: bool = True,
    ) -> Described:
        """Features of images, from disk if they are there.

        Args:
            backbone: The encoder.
            images: Uint8, (images, side, side, 3).
            mark: What tells these images from all others, such as a fingerprint.
            progress: Told how many images are done.
            every_layer: Whether patch means of all blocks are wanted.

        Raises:
            DivergedError: A feature is not finite; nothing is kept.
            StoreError: They cannot be written.
        """
        size = 4 * len(images) * backbone.width * backbone.depth
        every = every_layer and size <= LAYERS_BYTES
        if self._folder is None:
            return describe(backbone, images, every_layer=every, progress=progress)
        facts = {
            "schema": SCHEMA,
            "encoder": digest(backbone),
            "images": mark,
            "side": backbone.side,
            "count": len(images),
            "layers": backbone.depth if every else 1,
            "width": backbone.width,
        }
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
        target = self._folder / name
        found = _read(target, facts)
        if found is None:
            try:
                _write(target, facts, backbone, images, progress)
            except OSError as error:
                raise StoreError(unwritten(target, error)) from error
            found = _read(target, facts)
            if found is None:
                raise StoreError(f"{target} was written and cannot be read; mend the disk.")
        return found


def digest(backbone: Backbone) -> str:
    """SHA-256 of an encoder's weights, in hex."""
    found = hashlib.sha256(repr(getattr(backbone.encoder, "shape", "")).encode())
    for name, value in sorted(backbone.encoder.state_dict().items()):
        found.update(f"{name} {tuple(value.shape)} ".encode())
        found.update(value.detach().cpu().float().contiguous().numpy().data)
    return found.hexdigest()


def _shapes(facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    count, width = facts["count"], facts["width"]
    return {"cls": (count, width), "patchmeans": (facts["layers"], count, width)}


def _read(folder: Path, facts: Mapping[str, Any]) -> Described | None:
    """What is there, if it is whole and what was asked for."""
    try:
        if trust.parse(trust.read_text(folder, FACTS)) != facts:
            return None
        arrays = {
            name: np.lib.format.open_memmap(trust.inside(folder, f"{name}.npy"), mode="r")
            for name in _shapes(facts)
        }
    except (OSError, ValueError, EOFError, StoreError):
        return None
    for name, shape in _shapes(facts).items():
        if arrays[name].shape != shape or arrays[name].dtype != np.float32:
            return None
    return Described(**arrays)


def _write(
    folder: Path, facts: Mapping[str, Any], backbone: Backbone, images: Any, progress: Progress
) -> None:
    """In a folder of another name, which takes its own when it is whole."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    draft.mkdir(parents=True)
    try:

        def make(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
            """A file to write in."""
            assert shape == _shapes(facts)[name]
            path = draft / f"{name}.npy"
            return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)

        every = facts["layers"] == backbone.depth
        found = describe(backbone, images, every_layer=every, make=make, progress=progress)
        for array in (found.cls, found.patchmeans):
            array.flush()  # type: ignore[attr-defined]
        write_json(draft / FACTS, facts)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another process was faster
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
