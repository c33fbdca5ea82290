"""Features of all training images that a strategy may ask for, and what they know from outside.

``pixels-pca`` and ``hog`` look at the pixels alone. ``checkpoint:RUN`` and ``timm:NAME`` bring an
encoder that was trained before, whose cost and origin go to the record.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from maskbench import seeds
from maskbench.context import Features
from maskbench.data.source import Split
from maskbench.errors import StoreError, UsageError, unknown
from maskbench.events import Progress
from maskbench.probes.backbone import of_encoder
from maskbench.probes.features import centre_crop, describe, pixels
from maskbench.probes.foreign import run_encoder
from maskbench.probes.library import network, resized
from maskbench.results import read_record
from maskbench.shape import blocks_forward, linear_flops
from maskbench.spec import preset

KINDS = ("pixels-pca", "hog", "checkpoint:RUN", "timm:NAME", "timm:NAME@WEIGHTS_FILE")
COMPONENTS = 32
FIT_IMAGES = 20_000
OVERSAMPLES, ITERATIONS = 10, 4
CHUNK = 2_000
CELLS, DIRECTIONS = 4, 9

Floats = NDArray[np.float32]


def features(
    kind: str,
    split: Split,
    *,
    side: int,
    device: torch.device,
    progress: Progress,
    find_run: Callable[[str], Path],
) -> Features:
    """A description of every training image.

    Args:
        kind: One of ``KINDS``.
        split: The training images.
        side: The model's input side, pixels: features see the same central part of an image.
        device: Where encoders run.
        progress: Told how many images are done.
        find_run: A run's folder or name to its folder.

    Raises:
        UsageError: No such kind, run, model or weights, or images too small for the encoder.
        DivergedError: An encoder gives numbers that are not finite.
    """
    name, _, rest = kind.partition(":")
    if name == "checkpoint" and rest:
        return _checkpoint(find_run(rest), split, device, progress)
    if name == "timm" and rest:
        return _timm(rest, split, side, device, progress)
    if kind == "pixels-pca":
        return _pixels(split, side, progress)
    if kind == "hog":
        return _hog(split, side, progress)
    raise UsageError(f"{unknown('kind of features', kind, KINDS)} See 'docs/strategies.md'.")


def _over(
    split: Split, label: str, progress: Progress, chunk: int, one: Callable[[Any], Floats]
) -> Floats:
    """A function of some images, (B, side, side, 3) to (B, features), over all of them."""
    progress.start(label, len(split), "images")
    parts = []
    try:
        for start in range(0, len(split), chunk):
            parts.append(one(split.images[start : start + chunk]))
            progress.advance(min(start + chunk, len(split)))
    finally:
        progress.finish()
    return np.concatenate(parts)


def _pixels(split: Split, side: int, progress: Progress) -> Features:
    """Main components of the central crop at 32 px or less."""
    from sklearn.decomposition import PCA

    key = seeds.key("pixels-pca") % 2**32  # of the data alone: every seed gets the same features
    rows = np.random.default_rng(key).permutation(len(split))[:FIT_IMAGES]
    fitted = pixels(split.images[np.sort(rows)], side)
    count = min(COMPONENTS, *fitted.shape)
    recipe: Any = {"svd_solver": "randomized", "iterated_power": ITERATIONS}
    model = PCA(count, n_oversamples=OVERSAMPLES, random_state=key, **recipe)
    model.fit(fitted)

    def project(images: Any) -> Floats:
        return np.asarray(model.transform(pixels(images, side)), dtype=np.float32)

    values = _over(split, "pixels and their main components", progress, CHUNK, project)
    images, length = fitted.shape
    wide = count + OVERSAMPLES
    flops = linear_flops(images, length, wide) * (2 * ITERATIONS + 2)
    flops += linear_flops(len(split), length, count)
    return Features(torch.from_numpy(values), "", {"feature extraction": flops})


def _hog(split: Split, side: int, progress: Progress) -> Features:
    """Histograms of gradient directions of the grey central crop, 4 x 4 cells, 324 numbers."""
    from skimage.feature import hog

    cell = max(side // CELLS, 1)
    grey = np.array([0.2125, 0.7154, 0.0721], np.float32) / 255

    def describe(images: Any) -> Floats:
        found = [
            hog(
                image @ grey,
                orientations=DIRECTIONS,
                pixels_per_cell=(cell, cell),
                cells_per_block=(2, 2),
            )
            for image in centre_crop(images, side).astype(np.float32)
        ]
        return np.stack(found).astype(np.float32)

    values = _over(split, "histograms of gradients", progress, CHUNK // 10, describe)
    return Features(torch.from_numpy(values), "", {})  # no matrix product: counted as nothing


def _checkpoint(folder: Path, split: Split, device: torch.device, progress: Progress) -> Features:
    """Patch means of a finished run's encoder."""
    try:
        record = read_record(folder)
    except StoreError as error:
        raise UsageError(f"features checkpoint:{folder}: {error}") from error
    if record["status"] != "finished":
        raise UsageError(
            f"features checkpoint:{folder}: that run is {record['status']}, not finished, and has "
            "no encoder to use. Choose a finished one ('maskbench ls' lists them)."
        )
    shape = preset(record["model"]["preset"]).shape
    if split.side < shape.image:
        raise UsageError(
            f"features checkpoint:{folder}: that encoder reads {shape.image} px, these images have "
            f"{split.side} px. Choose a run of a smaller model preset."
        )
    try:
        encoder = of_encoder(run_encoder(folder, shape, device), record["id"])
    except StoreError as error:
        raise UsageError(f"features checkpoint:{folder}: {error}") from error
    found = describe(encoder, split.images, every_layer=False, progress=progress)
    forward = linear_flops(shape.patches, shape.patch_values, shape.width)
    forward += blocks_forward(shape.depth, shape.patches + 1, shape.width)
    older = record["strategy"].get("prior")
    prior = (
        f"the encoder of run {record['id']} ({record['strategy']['name']}, "
        f"{record['budget']['text']} of {record['data']['name']})"
    )
    flops = {
        "feature extraction": forward * len(split),
        "prior pretraining": int(
            record["ledger"]["flops_total"] + record["ledger"].get("flops_prior", 0)
        ),
    }
    prior = f"{prior}, which had used {older}" if older else prior
    return Features(torch.from_numpy(found.feature("patchmean")), prior, flops)


def _timm(text: str, split: Split, side: int, device: torch.device, progress: Progress) -> Features:
    """Pooled features of a network of the timm library."""
    name, _, file = text.partition("@")
    model, wants = network(name, file)
    model.to(device)
    size, mean, deviation = int(wants["input_size"][-1]), wants["mean"], wants["std"]

    @torch.no_grad()
    def describe(images: Any) -> Floats:
        cut = torch.from_numpy(np.ascontiguousarray(centre_crop(images, side)))
        shown = resized(cut.to(device).permute(0, 3, 1, 2).float() / 255, size, mean, deviation)
        return np.asarray(model(shown).float().cpu().numpy())

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        describe(split.images[:1])
    values = _over(split, f"features of {name}", progress, 64, describe)
    prior = f"timm {name}, weights trained outside this benchmark"
    flops = {"feature extraction": counter.get_total_flops() * len(split)}
    return Features(torch.from_numpy(values), prior, flops)
