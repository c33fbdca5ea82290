"""Tiny jobs on noise: what the contract, and the tests, train within milliseconds."""

import copy
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from maskbench import registry, seeds
from maskbench.budget import Budget, Plan
from maskbench.context import Features
from maskbench.data.source import Split
from maskbench.job import Job
from maskbench.mask import Grid
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule
from maskbench.shape import ModelShape
from maskbench.strategy import MaskStrategy

PATCH = 4


def tiny(side: int) -> ModelShape:
    """The smallest model that has every part.

    Args:
        side: Patches along one side of the image.
    """
    return ModelShape(side * PATCH, PATCH, 24, 2, 4, 16, 1, 4)


SMALL = tiny(4)


def noise_split(count: int, side: int = 16, seed: int = 0) -> Split:
    """Smooth random images without classes.

    Args:
        count: Images.
        side: Pixels along one side; a multiple of 4.
        seed: Of numpy's generator.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, side // 4, side // 4, 3), dtype=np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)
    return Split(images, None, [f"train/{i}" for i in range(count)])


@cache
def untrained(shape: ModelShape, seed: int) -> MaskedAutoencoder:
    """A model to copy: that is several times faster than to draw its weights again."""
    return MaskedAutoencoder(shape, seeds.generator(seed, "init"))


def pixel_features(split: Split) -> Callable[[str], Features]:
    """Every kind of feature, stood in for by pixels averaged over patches: (images, values)."""

    def features(kind: str) -> Features:
        """The same for all kinds."""
        pixels = torch.from_numpy(np.asarray(split.images)).float().permute(0, 3, 1, 2) / 255
        return Features(avg_pool2d(pixels, PATCH).flatten(1), "", {})

    return features


def make_job(
    strategy: MaskStrategy | str = "random",
    *,
    budget: str = "6step",
    seed: int = 0,
    images: int = 40,
    batch: int = 8,
    hidden: int = 12,
    shape: ModelShape = SMALL,
    device: str = "cpu",
    precision: str = "fp32",
) -> Job:
    """A job on noise, ready to train.

    Args:
        strategy: A name, or a strategy that is not set up yet.
        budget: As on the command line.
        seed: The run's seed.
        images: Size of the training set.
        batch: Images per step.
        hidden: Hidden patches per image.
        shape: The model.
        device: Where it runs.
        precision: ``fp32`` or ``bf16``.

    Raises:
        MaskbenchError: The name is unknown, or the strategy's setup failed.
    """
    contestant = registry.load(strategy)() if isinstance(strategy, str) else strategy
    split = noise_split(images, shape.image)
    plan = Plan.of(Budget.parse(budget), images, batch)
    model = copy.deepcopy(untrained(shape, seed)).to(device)
    return Job.of(
        model,
        contestant.to(device),
        split,
        plan=plan,
        schedule=Schedule.of(8e-3, batch, 0.05, plan.steps),
        grid=Grid(shape.side, shape.side, hidden),
        weight_decay=0.05,
        seed=seed,
        device=torch.device(device),
        precision=precision,
        features=pixel_features(split),
    )
