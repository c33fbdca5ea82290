"""One small training loop for every probe that is trained: rate, batches, progress, NaN."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from maskbench import seeds
from maskbench.errors import DivergedError, UsageError
from maskbench.events import Progress
from maskbench.optim import Schedule

SMALLEST_BATCH = 4


@dataclass(frozen=True)
class Course:
    """How long and how fast a probe is trained.

    Args:
        images: Images of an epoch; all are seen in each.
        epochs: Passes over them.
        batch: Images per step at most; an epoch is cut into equal parts, so that no step is left
            out or sees a single image, and one step sees all where there are fewer (the
            ``drop_last`` of MAE's loaders leaves an epoch without steps there).
        peak: Highest learning rate; a group of parameters may scale it by ``lr_scale``.
        warmup: Epochs of linear warm-up from zero, at most half of all; then half a cosine to
            zero, step by step (mae/util/lr_sched.py with a lowest rate of zero).
        seed: Orders the images.

    Raises:
        UsageError: Fewer than one epoch, or than four images per batch (batch norm needs some).
    """

    images: int
    epochs: int
    batch: int
    peak: float
    warmup: float
    seed: int

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < SMALLEST_BATCH or self.warmup < 0:
            raise UsageError(
                f"a probe cannot be trained for {self.epochs} epochs in batches of {self.batch} "
                f"with {self.warmup} epochs of warm-up; take at least one epoch, "
                f"{SMALLEST_BATCH} images per batch and no negative warm-up"
            )

    @property
    def pieces(self) -> int:
        """Steps of an epoch, at least one."""
        return max(1, math.ceil(self.images / self.batch))

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.epochs * self.pieces

    def rate(self, step: int) -> float:
        """Learning rate of a step, zero at the first one and after the last."""
        schedule = Schedule(self.peak, min(self.warmup / self.epochs, 0.5))
        return schedule.rate(step / self.steps)

    def order(self, epoch: int) -> list[Tensor]:
        """The places of an epoch's images, step by step."""
        shuffled = torch.randperm(
            self.images, generator=seeds.generator(self.seed, "probe-order", epoch)
        )
        return list(shuffled.tensor_split(self.pieces))


def descend(
    course: Course,
    optimizer: torch.optim.Optimizer,
    losses: Callable[[Tensor, int, int], Tensor],
    *,
    label: str,
    progress: Progress,
    after: Callable[[], object] | None = None,
) -> list[Tensor]:
    """Train, and never look at anything but the loss.

    Args:
        course: How long and how fast.
        optimizer: Of the parameters to train.
        losses: From places, epoch and step to a batch's mean loss, () or one for each of several
            independent problems (problems,).
        label: For messages and the bar.
        progress: Told of every step.
        after: Called after every epoch.

    Returns:
        The mean loss of every epoch, on the CPU; not finite for a problem that diverged.

    Raises:
        DivergedError: No loss is finite any more.
    """
    found: list[Tensor] = []
    step = 0
    progress.start(label, course.steps, "steps")
    try:
        for epoch in range(course.epochs):
            parts = []
            for places in course.order(epoch):
                rate = course.rate(step)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group.get("lr_scale", 1.0)
                with torch.enable_grad():
                    optimizer.zero_grad()
                    loss = losses(places, epoch, step)
                    torch.autograd.backward(loss.sum())
                optimizer.step()
                parts.append(loss.detach() * (len(places) / course.images))
                step += 1
                progress.advance(step)
            found.append(torch.stack(parts).sum(0).cpu())
            if not found[-1].isfinite().any():
                raise DivergedError(
                    f"{label}: the training loss is not finite in epoch {epoch + 1} of "
                    f"{course.epochs}, at a peak learning rate of {course.peak:g}; lower the "
                    "probe's learning rate or probe an earlier checkpoint"
                )
            if after:
                after()
    finally:
        progress.finish()
    return found
