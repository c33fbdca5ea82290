"""Augmentation of whole batches, with its own parameters for every image.

Random resized crop (area 0.2 to 1, aspect 3/4 to 4/3, bicubic with antialiasing) and horizontal
flip: MAE's recipe (arXiv 2111.06377, appendix A.1). The parameters are a pure function of
(seed, epoch, image index). The crop is written as two small matrix products per image, one per
axis, which handles a whole batch at once on any device (torchvision's v2 transforms draw one crop
for all images of a batch).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from maskbench import seeds

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
TRIES = 10
SCALE = (0.2, 1.0)
LOG_ASPECT = 0.28768207245178085  # log(4/3)


def normalise(images: Tensor) -> Tensor:
    """Uint8 or float 0..255, (B, 3, H, W), to zero-mean floats (ImageNet's constants)."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1) * 255
    deviation = torch.tensor(DEVIATION, device=images.device).view(3, 1, 1) * 255
    return (images.to(torch.float32) - mean) / deviation


def denormalise(images: Tensor) -> Tensor:
    """Back from ``normalise`` to 0..255, float32: stored numbers to about 1e-5."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1) * 255
    deviation = torch.tensor(DEVIATION, device=images.device).view(3, 1, 1) * 255
    return images.to(torch.float32) * deviation + mean


@dataclass(frozen=True)
class Crops:
    """A crop per image, in pixels of the stored image; all (images,).

    Args:
        top: First row.
        left: First column.
        height: Rows.
        width: Columns.
        flip: Whether the crop is mirrored.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor


def boxes(crops: Crops, side: int) -> Tensor:
    """Top, left, bottom, right of crops as shares of the image, (images, 4), float32.

    Left is larger than right where the crop is mirrored.
    """
    left, right = crops.left, crops.left + crops.width
    near, far = torch.where(crops.flip, right, left), torch.where(crops.flip, left, right)
    return torch.stack([crops.top, near, crops.top + crops.height, far], dim=1) / side


def draw_crops(
    seed: int,
    epochs: Tensor,
    positions: Tensor,
    side: int,
    images: int,
    *,
    scale: tuple[float, float] = SCALE,
) -> Crops:
    """Crops of torchvision's RandomResizedCrop distribution, keyed per image.

    Ten candidate sizes are drawn and the first that fits is used, else the whole image.

    Args:
        seed: The run's seed.
        epochs: Long, (images of the batch,): the epoch each image belongs to.
        positions: Long, (images of the batch,): positions in the training set.
        side: Pixels along one side of a stored image.
        images: Size of the training set.
        scale: Smallest and largest area of a crop, as shares of the image.
    """
    u = seeds.uniform(seeds.key(seed, "augment"), epochs * images + positions, 2 * TRIES + 3)
    area = side * side * (scale[0] + (scale[1] - scale[0]) * u[:, :TRIES])
    aspect = torch.exp(LOG_ASPECT * (2 * u[:, TRIES : 2 * TRIES] - 1))
    width = (area * aspect).sqrt().round()
    height = (area / aspect).sqrt().round()
    fits = (width <= side) & (height <= side) & (width > 0) & (height > 0)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    some = fits.any(1)
    width = torch.where(some, width.gather(1, first).squeeze(1), float(side))
    height = torch.where(some, height.gather(1, first).squeeze(1), float(side))
    top = (u[:, -3] * (side - height + 1)).floor()
    left = (u[:, -2] * (side - width + 1)).floor()
    return Crops(top, left, height, width, u[:, -1] < 0.5)


def _axis(start: Tensor, length: Tensor, side: int, out: int, flip: Tensor) -> Tensor:
    """Bicubic antialiased resampling of an axis as a matrix, one per row: (rows, out, side)."""
    scale = (length / out).unsqueeze(1)
    support = scale.clamp(min=1.0)
    target = torch.arange(out, device=start.device) + 0.5
    target = torch.where(flip.unsqueeze(1), out - target, target)
    source = torch.arange(side, device=start.device) - start.unsqueeze(1)
    x = ((source + 0.5) / support).unsqueeze(1) - (target * (scale / support)).unsqueeze(2)
    weight = _cubic(x.abs_())
    weight *= ((source >= 0) & (source < length.unsqueeze(1))).unsqueeze(1)
    return weight.div_(weight.sum(-1, keepdim=True))


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel (a = -1/2) at distances, which are overwritten; each piece is 0 where it ends.

    Up to 1: 1 + x^2 (3x - 5) / 2; from 1 to 2: -(x - 1) (x - 2)^2 / 2.
    """
    near = x.clamp(max=1.0)
    weight = near.square().mul_(near.mul_(1.5).sub_(2.5)).add_(1.0)
    far = x.clamp_(1.0, 2.0).sub_(2.0)
    return weight.addcmul_(far.square(), far.add_(1.0), value=-0.5)


def crop_resize(images: Tensor, crops: Crops, out: int) -> Tensor:
    """Cut, resize and mirror every image its own way.

    Args:
        images: Uint8, (B, H, W, 3), square.
        crops: One crop per image.
        out: Side of the result in pixels.

    Returns:
        Floats 0..255 (not rounded), (B, 3, out, out).
    """
    count, side = images.shape[:2]
    rows, columns = _axis(
        torch.cat([crops.top, crops.left]),
        torch.cat([crops.height, crops.width]),
        side,
        out,
        torch.cat([torch.zeros_like(crops.flip), crops.flip]),
    ).chunk(2)
    tall = torch.bmm(rows, images.reshape(count, side, -1).to(torch.float32))
    tall = tall.view(count, out, side, 3).permute(0, 3, 1, 2).reshape(count, 3 * out, side)
    return torch.bmm(tall, columns.transpose(1, 2)).view(count, 3, out, out).clamp_(0, 255)


def centre_boxes(images: int, side: int, out: int) -> Tensor:
    """Boxes of central crops of out of side pixels, (images, 4)."""
    offset = (side - out) // 2
    box = torch.tensor([offset, offset, offset + out, offset + out], dtype=torch.float32)
    return (box / side).expand(images, -1)


def centre(images: Tensor, out: int) -> Tensor:
    """The central out x out pixels, (B, H, W, 3) to (B, 3, out, out); no resampling."""
    offset = (images.shape[1] - out) // 2
    cut = images[:, offset : offset + out, offset : offset + out]
    return cut.permute(0, 3, 1, 2)
