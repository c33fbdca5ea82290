"""Masks of the same images at several moments of training: packed bits, for all analyses."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from maskbench.analysis import drift
from maskbench.context import ModelView
from maskbench.data import augment
from maskbench.data.source import Split
from maskbench.job import Job
from maskbench.mask import Grid, Mask
from maskbench.optim import autocast
from maskbench.rebuilding import rebuilt
from maskbench.shown import SHOWN
from maskbench.strategy import Batch, Context

MOMENTS = 9
IMAGES = 256
RANDOM_DRAWS = 4

Bits = NDArray[np.bool_]
Kind = TypeVar("Kind", np.uint8, np.bool_)
Save = Callable[[int, dict[str, Any]], None]


def probe_images(split: Split, images: int = IMAGES) -> NDArray[np.int64]:
    """The fixed set: the first images by hash of their id, the same for every run."""
    keys = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in split.ids]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__)[:images], dtype=np.int64)


def pixels(split: Split, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Stored images at these positions, read in the order of the file."""
    found = np.ascontiguousarray(split.images[np.sort(positions)])
    return found[np.argsort(np.argsort(positions))]


@dataclass(frozen=True)
class Seen:
    """What a strategy does to the fixed images at one moment.

    Args:
        hidden: (images, patches), True where a patch is hidden.
        again: A second, independent draw for the same images.
        keep: Keep-probabilities behind the masks, (images, patches); None where there are none.
        losses: Loss of each image under its mask, and the mean under random masks of as many
            hidden patches: (2, images).
        rebuilt: What the model as it is makes of the first few images under these masks, uint8,
            (shown, side, side, 3); None where an older run did not keep it.
    """

    hidden: Bits
    again: Bits
    keep: NDArray[np.float16] | None
    losses: NDArray[np.float64]
    rebuilt: NDArray[np.uint8] | None = None


def joined(parts: list[Seen]) -> Seen:
    """What was seen of one batch after the other; pictures are those of the first."""
    keep = [part.keep for part in parts if part.keep is not None]
    return Seen(
        np.concatenate([part.hidden for part in parts]),
        np.concatenate([part.again for part in parts]),
        np.concatenate(keep) if keep else None,
        np.concatenate([part.losses for part in parts], axis=1),
        parts[0].rebuilt,
    )


def batch_of(
    job: Job, stored: NDArray[np.uint8], positions: NDArray[np.int64], first: int
) -> Batch:
    """Centre crops of stored images, not augmented, on the job's device."""
    side = job.model.shape.image
    images = augment.centre(torch.from_numpy(stored), side).to(job.device)
    boxes = augment.centre_boxes(len(images), stored.shape[1], side).to(job.device)
    return Batch(
        augment.normalise(images), torch.from_numpy(positions).to(job.device), boxes, first
    )


@torch.no_grad()
def see(job: Job, batch: Batch, context: Context) -> Seen:
    """Masks of a batch, a second draw of them, what they cost the model as it is, what it paints.

    Same model, same images, same number of hidden patches; the random loss of an image is the mean
    over four masks. Draws from streams of its own, so that it disturbs no training.
    """
    with autocast(job.device, job.precision):
        mask = job.mask(batch, context)
        again = job.mask(batch, replace(context, purpose=f"{context.purpose}/again"))
        keep = job.keep(batch, context)
        own, pictures = _passed(job, batch, mask)
        losses = torch.stack([own, random_losses(batch, context)])
    soft = None if keep is None else keep.half().cpu().numpy()
    return Seen(_bits(mask), _bits(again), soft, losses.cpu().numpy(), pictures)


def _passed(job: Job, batch: Batch, mask: Mask) -> tuple[Tensor, NDArray[np.uint8]]:
    """Loss of each image, and pictures of the first few, from one pass."""
    outcome = job.model(batch.images, mask)
    own = outcome.patch_loss.double().mean(1)
    return own, rebuilt(job.model, batch.images, outcome)


def random_losses(batch: Batch, context: Context) -> Tensor:
    """Mean loss of each image over four uniformly random masks, (images,)."""
    losses = []
    for draw in range(1, RANDOM_DRAWS + 1):
        mask = Mask.from_scores(context.uniform(f"gap/{draw}", batch), context.grid)
        losses.append(context.model.patch_loss(batch.images, mask).double().mean(1))
    return torch.stack(losses).mean(0)


def _bits(mask: Mask) -> Bits:
    return mask.hidden.cpu().numpy()


@dataclass(frozen=True)
class Moment:
    """Where a run stood when it was looked at: all that a strategy is told, without the model.

    Fields as in ``maskbench.context.Context``; ``hidden`` patches per image, and ``share`` of the
    budget.
    """

    share: float
    seed: int
    step: int
    progress: float
    epoch: int
    epochs: int
    hidden: int
    learning_rate: float
    warming_up: bool
    peak_learning_rate: float
    images: int
    flops_left: float

    @classmethod
    def of(cls, share: float, context: Context) -> "Moment":
        """From a look's context."""
        names = set(cls.__dataclass_fields__) - {"share", "hidden"}
        told = {name: getattr(context, name) for name in names}
        return cls(share=share, hidden=context.grid.hidden, **told)

    def context(self, job: Job) -> Context:
        """The context of a look at this moment, with a job's model."""
        told = {
            name: value for name, value in vars(self).items() if name not in ("share", "hidden")
        }
        grid = Grid(job.grid.rows, job.grid.columns, self.hidden)
        model = ModelView(job.model)
        return Context(grid=grid, device=job.device, model=model, purpose="look", **told)


class MaskTape:
    """Records a strategy's masks of the fixed images at nine evenly spaced moments.

    Args:
        job: The run.
        split: The training split (centre crops, not augmented).
        save: Given the state of the model and the strategy at every moment, to mask other images
            with later; None keeps none.
    """

    def __init__(self, job: Job, split: Split, save: Save | None = None) -> None:
        self._job, self._save = job, save
        self._positions = probe_images(split)
        self._pixels = pixels(split, self._positions)
        self._looked = -1
        self._shares: list[float] = []
        self._steps: list[int] = []
        self._seen: list[Seen] = []

    def __call__(self, step: int) -> None:
        """Look at the masks if another ninth moment is reached, off the budget's clock."""
        share = self._job.turn(step).share
        moment = int(share * (MOMENTS - 1) + 1e-9)
        if moment <= self._looked:
            return
        self._looked = moment
        if self._job.device.type == "cuda":
            torch.cuda.synchronize()  # what is queued is training, not looking
        with self._job.clock.on("paused"):
            context = self._job.context(step, purpose="look")
            self._shares.append(round(share, 4))
            self._steps.append(step)
            batch = batch_of(self._job, self._pixels, self._positions, 0)
            self._seen.append(see(self._job, batch, context))
            if self._save:
                self._save(step, self._state(Moment.of(self._shares[-1], context)))

    def _state(self, moment: Moment) -> dict[str, Any]:
        job = self._job
        return {
            "moment": asdict(moment),
            "model": job.model.state_dict(),
            "strategy": job.strategy.state_dict(),
        }

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {
            "looked": self._looked,
            "shares": list(self._shares),
            "steps": list(self._steps),
            "seen": [
                {name: torch.from_numpy(a) for name, a in vars(seen).items() if a is not None}
                for seen in self._seen
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another tape was."""
        self._looked, self._shares = state["looked"], list(state["shares"])
        self._steps = list(state["steps"])
        found = ({name: tensor.numpy() for name, tensor in row.items()} for row in state["seen"])
        self._seen = [Seen(**{"keep": None, **arrays}) for arrays in found]

    def looks(self) -> list[tuple[float, int, Seen]]:
        """Share of the budget, step, and what was seen, of every moment so far."""
        return list(zip(self._shares, self._steps, self._seen, strict=True))

    def save(self, path: Path) -> dict[str, Any]:
        """Write the masks and the first images; describe them."""
        side, grid = self._job.model.shape.image, self._job.grid
        facts = {"rows": grid.rows, "columns": grid.columns, "hidden": grid.hidden}
        tensors = packed(self._seen, self._steps, self._positions)
        save_file(
            {**tensors, "shown": crop(self._pixels[:SHOWN], side)},
            path,
            metadata={"grid": json.dumps(facts)},
        )
        return {
            "file": path.name,
            "images": len(self._positions),
            "moments": self._shares,
            "steps": self._steps,
            "difficulty": [
                dict(zip(("gap", "error"), drift.gap(seen.losses), strict=True))
                for seen in self._seen
            ],
            **facts,
        }


def packed(
    seen: list[Seen], steps: list[int], positions: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """What was seen at all moments, as arrays of a file (``docs/files.md``)."""
    keep = [one.keep for one in seen if one.keep is not None]
    painted = [one.rebuilt for one in seen if one.rebuilt is not None]
    return {
        "bits": np.stack([np.packbits(one.hidden, axis=1) for one in seen]),
        "again": np.stack([np.packbits(one.again, axis=1) for one in seen]),
        "losses": np.stack([one.losses for one in seen]).astype(np.float32),
        "steps": np.array(steps, dtype=np.int64),
        "positions": positions,
        **({"keep": np.stack(keep)} if keep else {}),
        # a run that went on from a checkpoint without them has some moments alone: none is kept
        **({"rebuilt": np.stack(painted)} if len(painted) == len(seen) else {}),
    }


def crop(stored: NDArray[Kind], side: int) -> NDArray[Kind]:
    """The centre squares of stored images (as ``augment.centre``): (images, side, side, ...)."""
    offset = (stored.shape[1] - side) // 2
    return np.ascontiguousarray(stored[:, offset : offset + side, offset : offset + side])
