"""What fine-tuning does to a batch after cropping: random erasing, then mixup or cutmix.

timm's ``RandomErasing`` and ``Mixup`` draw from the global streams of Python and numpy; here the
draws are keyed, the rest is theirs (a test compares them).
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from maskbench import seeds

TRIES = 10
AREA = (0.02, 1 / 3)
ASPECT = 0.3


def erase(
    images: Tensor, share: float, *, seed: int, epoch: int, step: int, places: Tensor
) -> Tensor:
    """Random erasing (arXiv 1708.04896, mode "pixel" of timm): a rectangle of noise.

    Args:
        images: Normalised, (B, 3, H, W).
        share: Chance that an image gets one.
        seed: With epoch and place, says where; with step, what noise.
        epoch: Of the batch.
        step: Of the training.
        places: The images' places in the training set, (B,), on their device.

    Returns:
        (B, 3, H, W).
    """
    if not share:
        return images
    high, wide = images.shape[-2:]
    u = seeds.uniform(seeds.key(seed, "erase", epoch), places, 2 * TRIES + 3)
    area = high * wide * (AREA[0] + (AREA[1] - AREA[0]) * u[:, :TRIES])
    aspect = torch.exp(math.log(ASPECT) * (1 - 2 * u[:, TRIES : 2 * TRIES]))
    height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (height < high) & (width < wide)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    height, width = height.gather(1, first), width.gather(1, first)
    top, left = (u[:, -3:-2] * (high - height + 1)).floor(), (u[:, -2:-1] * (wide - width + 1))
    row, column = (torch.arange(n, device=images.device) for n in (high, wide))
    rows = (row >= top) & (row < top + height)
    columns = (column >= left.floor()) & (column < left.floor() + width)
    hit = ((u[:, -1] < share) & fits.any(1)).view(-1, 1, 1)
    gone = (hit & rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
    generator = seeds.generator(seed, "erase-noise", step, device=images.device)
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return torch.where(gone, noise, images)


def mix(
    images: Tensor, targets: Tensor, *, mixup: float, cutmix: float, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Every image with its mirror place in the batch: timm's ``Mixup`` in mode "batch".

    One of the two with equal chance where both are on; mixup blends (arXiv 1710.09412), cutmix
    pastes a rectangle (arXiv 1905.04899).

    Args:
        images: (B, 3, H, W); not changed.
        targets: Shares of the classes, (B, classes).
        mixup: The Beta distribution's parameter; 0 for off.
        cutmix: Likewise.
        random: Draws kind, weight and place of the rectangle.

    Returns:
        Images and targets, mixed.
    """
    if not (mixup or cutmix):
        return images, targets
    paste = cutmix > 0 and (not mixup or random.random() < 0.5)
    keep = random.beta(cutmix, cutmix) if paste else random.beta(mixup, mixup)
    partner = images.flip(0)
    if paste:
        high, wide = images.shape[-2:]
        (top, end), (left, right) = (
            _span(random, side, math.sqrt(1 - keep)) for side in (high, wide)
        )
        images = images.clone()
        images[..., top:end, left:right] = partner[..., top:end, left:right]
        keep = 1 - (end - top) * (right - left) / (high * wide)
    else:
        images = torch.lerp(partner, images, keep)
    return images, torch.lerp(targets.flip(0), targets, keep)


def _span(random: np.random.Generator, side: int, share: float) -> tuple[int, int]:
    """First and end of a stretch around a random centre, cut off at the border."""
    length, centre = int(side * share), int(random.integers(side))
    return max(0, centre - length // 2), min(side, centre + (length + 1) // 2)


def soft_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """One-hot rows of which a share is spread over all classes, (B, classes), float32."""
    return one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes
