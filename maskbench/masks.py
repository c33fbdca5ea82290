"""Masks of the same images at several moments of training: packed bits, for all analyses."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from maskbench.data import augment
from maskbench.data.source import Split
from maskbench.job import Job
from maskbench.mask import Mask
from maskbench.optim import autocast
from maskbench.strategy import Batch, Context

MOMENTS = 9
IMAGES = 256
SHOWN = 12
RANDOM_DRAWS = 4


def probe_images(split: Split) -> NDArray[np.int64]:
    """The fixed set: the first 256 images by hash of their id, the same for every run."""
    keys = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in split.ids]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__)[:IMAGES], dtype=np.int64)


class MaskTape:
    """Records a strategy's masks of the fixed images at nine evenly spaced moments.

    Args:
        job: The run.
        split: The training split (centre crops, not augmented).
    """

    def __init__(self, job: Job, split: Split) -> None:
        self._job = job
        self._positions = probe_images(split)
        self._pixels = np.ascontiguousarray(split.images[np.sort(self._positions)])
        self._pixels = self._pixels[np.argsort(np.argsort(self._positions))]
        self._looked = -1
        self._shares: list[float] = []
        self._steps: list[int] = []
        self._bits: list[NDArray[np.uint8]] = []
        self._gaps: list[dict[str, float]] = []

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
            self._shares.append(round(share, 4))
            self._steps.append(step)
            mask, batch, context = self.look(step)
            self._bits.append(np.packbits(mask.hidden.cpu().numpy(), axis=1))
            self._gaps.append(self.gap(mask, batch, context))

    @torch.no_grad()
    def look(self, step: int) -> tuple[Mask, Batch, Context]:
        """Masks of the fixed images now; disturbs no training stream."""
        job = self._job
        images = augment.centre(torch.from_numpy(self._pixels), job.model.shape.image)
        positions = torch.from_numpy(self._positions).to(job.device)
        boxes = augment.centre_boxes(len(images), self._pixels.shape[1], job.model.shape.image)
        batch = Batch(augment.normalise(images.to(job.device)), positions, boxes.to(job.device))
        context = job.context(step, purpose="look")
        with autocast(job.device, job.precision):
            return job.mask(batch, context), batch, context

    @torch.no_grad()
    def gap(self, mask: Mask, batch: Batch, context: Context) -> dict[str, float]:
        """Difficulty gap: loss under the masks over loss under random masks, minus one.

        Same model, same images, same number of hidden patches; the random loss of an image is the
        mean over four masks. Below 0 the masks are easier than random ones, above 0 harder.

        Returns:
            ``gap``, and ``error``: its standard error over images.
        """
        losses = []
        with autocast(self._job.device, self._job.precision):
            for draw in range(RANDOM_DRAWS + 1):
                noise = context.uniform(f"gap/{draw}", batch)
                given = Mask.from_scores(noise, context.grid) if draw else mask
                losses.append(context.model.patch_loss(batch.images, given).double().mean(1))
        random = torch.stack(losses[1:]).mean(0)
        gap = (losses[0].mean() / random.mean() - 1).item()
        spread = (losses[0] - (1 + gap) * random).std() / len(random) ** 0.5
        return {"gap": gap, "error": (spread / random.mean()).item()}

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {
            "looked": self._looked,
            "shares": list(self._shares),
            "steps": list(self._steps),
            "bits": [torch.from_numpy(bits) for bits in self._bits],
            "gaps": [dict(gap) for gap in self._gaps],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another tape was."""
        self._looked, self._shares = state["looked"], list(state["shares"])
        self._steps, self._gaps = list(state["steps"]), list(state["gaps"])
        self._bits = [bits.numpy() for bits in state["bits"]]

    def save(self, path: Path) -> dict[str, Any]:
        """Write ``bits``, ``steps``, ``positions`` and the first images; describe them."""
        side = self._job.model.shape.image
        offset = (self._pixels.shape[1] - side) // 2
        shown = self._pixels[:SHOWN, offset : offset + side, offset : offset + side]
        facts = {
            "rows": self._job.grid.rows,
            "columns": self._job.grid.columns,
            "hidden": self._job.grid.hidden,
        }
        tensors: dict[str, NDArray[Any]] = {
            "bits": np.stack(self._bits),
            "steps": np.array(self._steps, dtype=np.int64),
            "positions": self._positions,
            "shown": np.ascontiguousarray(shown),
        }
        save_file(tensors, path, metadata={"grid": json.dumps(facts)})
        return {
            "file": path.name,
            "images": len(self._positions),
            "moments": self._shares,
            "steps": self._steps,
            "difficulty": self._gaps,
            **facts,
        }
