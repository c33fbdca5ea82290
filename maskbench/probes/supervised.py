"""The control that has seen the labels: the same encoder, trained on them from the same start."""

import torch
from torch import Tensor, nn

from maskbench import seeds
from maskbench.data.feed import Feed
from maskbench.data.source import Split
from maskbench.errors import DivergedError
from maskbench.events import Progress
from maskbench.model import Encoder, MaskedAutoencoder
from maskbench.optim import Schedule, adamw, autocast
from maskbench.shape import ModelShape
from maskbench.spec import RunSettings
from maskbench.weights import initialise

LOOKS = 100
"""Times that somebody who watches is told how far it is."""


def supervised(
    shape: ModelShape, split: Split, settings: RunSettings, images: int, progress: Progress
) -> Encoder:
    """An encoder trained by cross-entropy on the patch mean, every patch visible.

    Everything else is the run's: initial weights, batches and their order, crops, optimiser,
    schedule, and how many images are seen. It costs more per image than a masked autoencoder does.

    Args:
        shape: The encoder's sizes.
        split: Training images with labels.
        settings: Of the run it is a control for.
        images: How many images that run saw.
        progress: Told how far it is.

    Raises:
        DivergedError: The loss is not finite.
    """
    assert split.labels is not None
    device, batch = torch.device(settings.device), settings.batch
    steps = -(-images // batch)
    model = MaskedAutoencoder(shape, seeds.generator(settings.seed, "init")).copy_encoder()
    model = model.to(device).requires_grad_(requires_grad=True).train()
    head = nn.Linear(shape.width, int(split.labels.max()) + 1)
    initialise(head, seeds.generator(settings.seed, "supervised head"))
    head.to(device)
    feed = Feed(split, batch, seed=settings.seed, side=shape.image, device=device)
    schedule = Schedule.of(settings.base_lr, batch, settings.warmup, steps)
    optimizer = adamw(model, head.parameters(), settings.weight_decay)
    labels = torch.from_numpy(split.labels.copy()).to(device)

    def order(epoch: int) -> Tensor:
        """A random order, another one in every epoch."""
        return torch.randperm(len(split), generator=seeds.generator(settings.seed, "order", epoch))

    progress.start("training the supervised control", images, "images")
    try:
        for step in range(steps):
            shown = feed.batch(step, order, images=min(batch, images - step * batch))
            with autocast(device, settings.precision):
                tokens = model.encode(model.embed(shown.images))
                answers = head(tokens[:, 1:].mean(1))
            loss = nn.functional.cross_entropy(answers.float(), labels[shown.positions])
            loss.backward()  # type: ignore[no-untyped-call]
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate((step + 0.5) / steps)
            optimizer.step()
            optimizer.zero_grad()
            if step % max(steps // LOOKS, 1) == 0 or step == steps - 1:
                _look(float(loss.detach()), step)
                progress.advance(min((step + 1) * batch, images), loss=float(loss.detach()))
    finally:
        progress.finish()
    return model.requires_grad_(requires_grad=False)


def _look(loss: float, step: int) -> None:
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise DivergedError(
            f"the supervised control's loss is {loss} at step {step:,}: it cannot be had with this "
            "run's learning rate."
        )
