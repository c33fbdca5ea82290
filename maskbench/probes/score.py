"""Encoders and raw pixels of one data set, through all probes."""

from collections.abc import Mapping

import numpy as np
import torch

from maskbench.data import Images, augment
from maskbench.events import Progress
from maskbench.model import MaskedAutoencoder
from maskbench.probes import features
from maskbench.probes.suite import POOL_LIMIT, Row, probe_pool, run_suite


def score(
    encoders: Mapping[str, MaskedAutoencoder],
    images: Images,
    device: torch.device,
    *,
    draws: int,
    progress: Progress,
    pixels: bool = True,
) -> list[Row]:
    """Rows of every encoder and of raw pixels; none where the data has no classes.

    At most 10,000 images of each split are used, the same for every run.

    Args:
        encoders: Feature name to encoder, on ``device``; all of one shape.
        images: The data set.
        device: Where features are computed.
        draws: Few-shot subsets per shot.
        progress: Who watches.
        pixels: Whether raw pixels are probed too.
    """
    train, test = images.train, images.test
    if test is None or train.labels is None or test.labels is None:
        progress.message("no classes, so no probes")
        return []
    pool = probe_pool(train.ids, train.labels, POOL_LIMIT)
    scored = probe_pool(test.ids, test.labels, POOL_LIMIT)
    parts = [np.ascontiguousarray(s.images[rows]) for s, rows in ((train, pool), (test, scored))]
    found = {}
    for name, encoder in encoders.items():
        progress.message(f"features: {name}")
        first, second = (
            features.patch_mean(encoder, part, augment.normalise, device) for part in parts
        )
        found[name] = (first, second)
    if pixels:
        side = next(iter(encoders.values())).shape.image
        found["pixels"] = (features.pixels(parts[0], side), features.pixels(parts[1], side))
    return run_suite(
        found,
        (train.labels[pool], test.labels[scored]),
        [train.ids[int(i)] for i in pool],
        images.classes,
        dataset=images.name,
        draws=draws,
        progress=progress,
    )
