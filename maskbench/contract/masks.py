"""Clauses on masks: legal, keyed, and opaque."""

import torch
from torch import Tensor

from maskbench.contract.clause import Broken
from maskbench.contract.compare import kind
from maskbench.contract.jobs import PATCH, tiny
from maskbench.contract.subject import STEPS, Subject, copied, mask_of, neutral
from maskbench.job import Job
from maskbench.mask import Mask
from maskbench.seeds import generator
from maskbench.strategy import Batch

SIDES = (4, 3, 5, 7)


def count(subject: Subject) -> None:
    """Masks hide exactly as many patches as asked."""
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for side in SIDES:
            patches, shape = side**2, tiny(side)
            batch = neutral(shape, 8, device)
            for hidden in (3 * patches // 4, 1, patches // 2 + 1, patches - 1):
                job = subject.job(shape=shape, hidden=hidden, device=device)
                for images, step in ((1, 0), (8, 0), (8, STEPS - 1)):
                    _legal(job, step, copied(first_of(batch, images)))


def _legal(job: Job, step: int, batch: Batch) -> None:
    """Refuse anything but a legal mask; like the loop's check, but safe to fail on a GPU."""
    context = job.context(step)
    grid, images = context.grid, len(batch)
    with torch.no_grad(), job.blame("mask"):
        mask: object = job.strategy.mask(batch, context)
    where = f"({grid.rows} x {grid.columns} patches, {images} images)"
    if not isinstance(mask, Mask):
        raise Broken("mask to return a Mask", f"a {type(mask).__name__}")
    found, device = mask.hidden, job.device.type
    wanted = (images, grid.patches)
    if found.dtype != torch.bool or tuple(found.shape) != wanted or found.device.type != device:
        raise Broken(
            f"Mask.hidden to be bool of shape {wanted} on {device}",
            f"{kind(found)} on {found.device.type}",
        )
    counts = found.sum(1)
    wrong = counts[counts != grid.hidden].tolist()
    if wrong:
        raise Broken(
            f"a mask that hides exactly {grid.hidden} of {grid.patches} patches {where}",
            f"{wrong[0]} of {grid.patches} hidden in {len(wrong)} of {images} images",
        )
    if mask.grid != grid:
        raise Broken(f"Mask.grid to be context.grid, {grid}", str(mask.grid))


def first_of(batch: Batch, images: int) -> Batch:
    """The first images of a batch."""
    return Batch(batch.images[:images], batch.positions[:images], batch.boxes[:images], batch.first)


def keys(subject: Subject) -> None:
    """Masks follow the seed and the step."""
    probe = subject.probe
    first = mask_of(subject.job(), 3, probe).hidden
    again = mask_of(subject.job(), 3, probe).hidden
    if not torch.equal(first, again):
        raise Broken("the same masks for the same seed and step", _changed(first, again))
    other = mask_of(subject.job(seed=1), 3, probe).hidden
    if torch.equal(first, other):
        raise Broken(
            "other masks for another seed (context.uniform and .generator follow it)",
            f"seeds 0 and 1 give all {len(first)} images the same masks",
        )
    early = mask_of(subject.job(), 0, probe).hidden
    if torch.equal(early, subject.ended.masks):
        raise Broken(
            "other masks at the end of a short training than at its start",
            f"steps 0 and {STEPS - 1} give all {len(first)} images the same masks",
        )


def place(subject: Subject) -> None:
    """Masks do not depend on how a batch is split."""
    job, probe = subject.job(), subject.probe
    whole = mask_of(job, 3, probe).hidden
    half = len(probe) // 2
    second = Batch(probe.images[half:], probe.positions[half:], probe.boxes[half:], first=half)
    apart = (mask_of(job, 3, second).hidden != whole[half:]).any(1)
    if int(apart.sum()) > half // 4:  # products of other sizes may round to another order
        raise Broken(
            "the second half of a batch alone to get the masks it gets in the whole batch (noise "
            "from context.uniform, which follows an image's place)",
            f"{int(apart.sum())} of {half} images have another mask",
        )


def _changed(one: Tensor, other: Tensor) -> str:
    return f"{int((one != other).any(1).sum())} of {len(one)} images have another mask"


def hidden_pixels(subject: Subject) -> None:
    """Hidden pixels cannot influence the encoder."""
    job, batch = subject.ended.job, subject.probe
    mask = mask_of(job, STEPS - 1, batch)
    cells = mask.hidden.view(len(batch), 1, mask.grid.rows, mask.grid.columns)
    opaque = cells.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    noise = torch.randn(batch.images.shape, generator=generator(0, "noise"))
    with torch.no_grad():
        latent, blind, inverted = (
            job.model(images, mask).latent
            for images in (
                batch.images,
                torch.where(opaque, noise, batch.images),
                torch.where(opaque, batch.images, noise),
            )
        )
    if not torch.equal(latent, blind):
        size = float((latent - blind).abs().max())
        raise Broken("the same latents when hidden pixels are replaced", f"a change of {size:.2g}")
    if torch.equal(latent, inverted):
        raise Broken("other latents when visible pixels are replaced", "the same")
