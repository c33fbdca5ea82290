"""Images: where they come from, how they are packed, ordered and augmented."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskbench.data.kinds import KINDS, check_kind
from maskbench.data.source import Images, Split
from maskbench.errors import UsageError
from maskbench.events import Progress

SCENES_TRAIN, SCENES_TEST = 5000, 1000

__all__ = ["KINDS", "Images", "Split", "check_kind", "open_data"]


def open_data(text: str, side: int, cache: Path, max_bad: float, progress: Progress) -> Images:
    """Open what ``--data`` names.

    Args:
        text: ``scenes``, ``folder:PATH`` or ``hf:NAME|PATH``.
        side: The model's input side, pixels.
        cache: Where packed data sets live.
        max_bad: Largest share of unusable files that is tolerated.
        progress: Told about packing.

    Raises:
        UsageError: Unknown kind, or images smaller than the model's input.
        DataError: The data cannot be used.
    """
    check_kind(text)
    if text == "scenes":
        return built_in(side)
    kind, _, rest = text.partition(":")
    if kind == "hf":
        from maskbench.data.hub import open_hub

        return open_hub(rest, side, cache, max_bad, progress)
    from maskbench.data.folder import open_folder

    path = Path(rest).expanduser()
    return open_folder(path, side, cache, max_bad=max_bad, progress=progress)


def built_in(side: int) -> Images:
    """The built-in scenes.

    Raises:
        UsageError: The model wants larger images than there are.
    """
    from maskbench.data.scenes import CLASSES, generate

    splits = {}
    for name, count in (("train", SCENES_TRAIN), ("test", SCENES_TEST)):
        drawn = generate(count, name)
        ids = [f"{name}/{number:05d}" for number in range(count)]
        splits[name] = Split(drawn.images, drawn.labels, ids, drawn.objects, drawn.contours)
    found = splits["train"].side
    if side > found:
        raise UsageError(
            f"--data scenes has {found} px images, smaller than the {side} px the model takes: "
            "choose --model nano, micro or tiny, or --data folder:PATH with larger images."
        )
    mark = fingerprint([array for s in splits.values() for array in (s.images, s.labels)])
    notes = {"layout": "generated", "stored_side": found}
    return Images("scenes", CLASSES, splits["train"], splits["test"], mark, notes)


def fingerprint(arrays: Sequence[NDArray[np.generic] | None]) -> str:
    """SHA-256 of arrays' bytes, in hex."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def limited(images: Images, limit: int | None) -> Images:
    """The data set with at most ``limit`` training images, balanced over classes by id hash.

    Raises:
        UsageError: Fewer than one image per class would remain.
    """
    train = images.train
    if limit is None or limit >= len(train):
        return images
    if limit < max(len(images.classes), 1):
        raise UsageError(
            f"--limit {limit} is below one image per class; choose {len(images.classes)} to "
            f"{len(train):,}."
        )
    keys = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in train.ids]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    if train.labels is not None:
        labels = train.labels[order]
        rank = np.zeros(len(order), dtype=np.int64)
        for label in range(len(images.classes)):
            rank[labels == label] = np.arange((labels == label).sum())
        order = order[np.argsort(rank, kind="stable")]
    keep = np.sort(order[:limit])
    return replace(images, train=train.take(keep))
