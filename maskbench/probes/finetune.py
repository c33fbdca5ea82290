"""Fine-tuning: how far a pre-trained encoder gets when all of it is trained on labels.

MAE's recipe (mae/FINETUNE.md, mae/main_finetune.py): AdamW with layer-wise decay, drop path, random
resized crop and flip, random erasing, mixup or cutmix, label smoothing; the mean of patch tokens
through a norm of its own (the pre-trained final norm is left out) and a linear head that starts
near zero. RandAugment is left out: it wants images one by one. Everything is in float32.

It is scored once, after the last epoch, and never chooses an epoch by the test images. Published
gaps between masking strategies are within a point here: do not make it the headline.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from maskbench import seeds
from maskbench.data import Images
from maskbench.events import Progress, Silent
from maskbench.probes.backbone import Backbone
from maskbench.probes.descent import Course, descend
from maskbench.probes.labelled import (
    Counts,
    Labelled,
    augmented,
    central,
    labelled,
    row,
    score,
    short,
)
from maskbench.probes.mixing import erase, mix, soft_targets
from maskbench.probes.recipes import layerwise_adamw
from maskbench.probes.suite import Row
from maskbench.weights import build


@dataclass(frozen=True)
class FinetuneSettings:
    """MAE's for ViT-B but for epochs, warm-up and batch, which suit a CPU; see ``published``.

    Args:
        epochs: Passes over the images.
        warmup: Epochs of linear warm-up, at most half of all.
        batch: Images per step at most.
        base_lr: The rate is this times batch / 256.
        weight_decay: Of matrices.
        layer_decay: Ratio of the rates of neighbouring depths.
        drop_path: Chance that the last block's branches are left out; rises linearly from 0.
        mixup: Parameter of its Beta distribution; 0 for off.
        cutmix: Likewise.
        erase: Chance of random erasing.
        smoothing: Label smoothing.
        train_images: Most train images (not below 16 per class); None for all.
        test_images: Most test images, likewise.
    """

    epochs: int = 20
    warmup: float = 1
    batch: int = 128
    base_lr: float = 5e-4
    weight_decay: float = 0.05
    layer_decay: float = 0.65
    drop_path: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    erase: float = 0.25
    smoothing: float = 0.1
    train_images: int | None = None
    test_images: int | None = 10_000

    @classmethod
    def published(cls, width: int) -> "FinetuneSettings":
        """The whole recipe for a width: up to ViT-B (768), ViT-L (1024), ViT-H (1280)."""
        base = cls(epochs=100, warmup=5, batch=1024)
        if width <= 768:
            return base
        path = 0.2 if width <= 1024 else 0.3
        return replace(base, epochs=50, base_lr=1e-3, layer_decay=0.75, drop_path=path)


def finetune(
    backbone: Backbone,
    images: Images,
    *,
    seed: int,
    settings: FinetuneSettings | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Fine-tune a copy, and score it once.

    Args:
        backbone: Where to start; its weights stay as they are.
        images: Train and test images with labels.
        seed: Of the head, order, crops, erasing, mixing and drop path.
        settings: The recipe.
        progress: Who watches.

    Returns:
        One row, ``finetune``.

    Raises:
        DataError: The data has no labels or no test split.
        DivergedError: The loss, or an answer, is not finite.
        UsageError: Settings that cannot be.
    """
    settings, progress = settings or FinetuneSettings(), progress or Silent()
    train, test = labelled(images, settings.train_images, settings.test_images)
    classes, own = len(images.classes), seeds.key(seed, "finetune")
    peak = settings.base_lr * settings.batch / 256
    course = Course(len(train), settings.epochs, settings.batch, peak, settings.warmup, own)
    model = Classifier(backbone.copied(), classes, seeds.generator(own, "head"))
    losses = _train(model, train, course, settings, progress)
    scored = score(_answers(model, test, progress), test.labels)
    rates = f"blr{short(settings.base_lr)}/ld{settings.layer_decay:g}"
    counts = Counts(len(train), len(test), classes)
    known = {**asdict(settings), "lr": peak, "steps": course.steps}
    known |= {"first_loss": float(losses[0]), "loss": float(losses[-1])}
    name = f"{rates}/{settings.epochs}ep"
    return [row("finetune", "patchmean", name, counts, **scored, settings=known)]


class DropPath(nn.Module):
    """Leaves a branch out for some images (arXiv 1603.09382); the others make up for it.

    Args:
        rate: Chance of being left out.
        generator: One for every step: timm's module draws from torch's global stream.
    """

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.keep, self.generator = 1 - rate, generator

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the same shape."""
        if not self.training or self.keep == 1:
            return x
        kept = x.new_empty((len(x),) + (1,) * (x.ndim - 1))
        return x * (kept.bernoulli_(self.keep, generator=self.generator) / self.keep)


class Classifier(nn.Module):
    """An encoder without its final norm, the mean of patch tokens, a norm and a linear layer.

    Args:
        backbone: Its encoder is changed and trained; hand in a copy.
        classes: Answers.
        generator: Draws the head, N(0, 2e-5^2) cut off.
    """

    def __init__(self, backbone: Backbone, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        encoder: Any = backbone.encoder
        encoder.norm = nn.Identity()
        self.backbone, self.encoder = backbone, encoder
        self.fc_norm = nn.LayerNorm(backbone.width, eps=1e-6)
        self.head = build(lambda: nn.Linear(backbone.width, classes), generator)
        nn.init.trunc_normal_(self.head.weight, std=2e-5, generator=generator)
        self.to(backbone.device)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images, (B, 3, side, side), to logits, (B, classes)."""
        tokens = self.backbone.tokens(images)[:, 1:]
        logits: Tensor = self.head(self.fc_norm(tokens.mean(1)))
        return logits

    def group_matcher(self, coarse: bool = False) -> Any:
        """Name to depth, as timm's layer decay asks for it."""
        depths = {
            f"encoder.{name}": depth
            for depth, group in enumerate(self.backbone.groups())
            for name, _ in group
        }
        return lambda name: depths.get(name, self.backbone.depth + 1)

    def no_weight_decay(self) -> set[str]:
        """Names of tokens and positions."""
        return {f"encoder.{name}" for name in ("cls_token", "dist_token", "reg_token", "pos_embed")}

    def drop_paths(self, last: float, generator: torch.Generator) -> None:
        """Give every block's branches their rate, 0 for the first block to ``last``."""
        rates = np.linspace(0, last, self.backbone.depth)
        for block, rate in zip(self.encoder.blocks, rates, strict=True):
            for name in ("drop_path", "drop_path1", "drop_path2"):
                if hasattr(block, name):
                    setattr(block, name, DropPath(float(rate), generator))


def _train(
    model: Classifier,
    train: Labelled,
    course: Course,
    settings: FinetuneSettings,
    progress: Progress,
) -> list[Tensor]:
    device, seed = model.backbone.device, course.seed
    paths = torch.Generator(device=device)
    model.drop_paths(settings.drop_path, paths)
    model.train()

    def losses(places: Tensor, epoch: int, step: int) -> Tensor:
        paths.manual_seed(seeds.key(seed, "drop-path", step))
        inputs = augmented(model.backbone, train, places, seed=seed, epoch=epoch)
        here = places.to(device)
        inputs = erase(inputs, settings.erase, seed=seed, epoch=epoch, step=step, places=here)
        classes = model.head.out_features
        targets = soft_targets(train.targets(places, device), classes, settings.smoothing)
        random = np.random.default_rng(seeds.key(seed, "mix", step) % 2**63)
        inputs, targets = mix(
            inputs, targets, mixup=settings.mixup, cutmix=settings.cutmix, random=random
        )
        return cross_entropy(model(inputs), targets)

    optimizer = layerwise_adamw(
        model, weight_decay=settings.weight_decay, layer_decay=settings.layer_decay
    )
    return descend(course, optimizer, losses, label="fine-tuning", progress=progress)


@torch.no_grad()
def _answers(model: Classifier, test: Labelled, progress: Progress) -> Tensor:
    """Logits of all test images, not augmented, (images, classes)."""
    found, done = [], 0
    model.eval()
    progress.start("scoring", len(test), "images")
    for places in test.chunks():
        found.append(model(central(model.backbone, test, places)))
        done += len(places)
        progress.advance(done)
    progress.finish()
    return torch.cat(found)
