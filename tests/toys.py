"""Backbones and images small enough to train probes on in a test."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maskbench import seeds
from maskbench.data.scenes import CLASSES, generate
from maskbench.data.source import Images, Split
from maskbench.model import MaskedAutoencoder
from maskbench.probes.backbone import Backbone, of_encoder
from maskbench.shape import ModelShape

SHAPE = ModelShape(32, 4, 48, 2, 4, 32, 1, 4)
TOY_CLASSES = ("ant", "bee", "cat", "dog")
SIDE, PATCH = 16, 4
GRID = SIDE // PATCH
WIDTH = PATCH * PATCH * 3


def backbone(seed: int = 0) -> Backbone:
    """An untrained encoder with two blocks of width 48."""
    model = MaskedAutoencoder(SHAPE, seeds.generator(seed, "init"))
    return of_encoder(model.copy_encoder(), "untrained-tiny")


@cache
def scenes(train: int = 200, test: int = 100) -> Images:
    parts = {}
    for name, count in (("train", train), ("test", test)):
        drawn = generate(count, name)
        parts[name] = Split(drawn.images, drawn.labels, [f"{name}/{i}" for i in range(count)])
    return Images("scenes", CLASSES, parts["train"], parts["test"], "none")


class Patches(nn.Module):
    """Tokens are the pixels of a patch, and CLS is their mean; a weight of one, as a decoy."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def layers(self, images: Tensor) -> list[Tensor]:
        cells = images.reshape(len(images), 3, GRID, PATCH, GRID, PATCH)
        tokens = cells.permute(0, 2, 4, 3, 5, 1).reshape(len(images), GRID**2, WIDTH)
        return [torch.cat([tokens.mean(1, keepdim=True), tokens], 1) * self.scale]


def patches() -> Backbone:
    def every(encoder: Any, images: Tensor) -> list[Tensor]:
        found: list[Tensor] = encoder.layers(images)
        return found

    def prepare(images: Tensor) -> Tensor:
        return images.float() / 64 - 2

    return Backbone(Patches(), "patches", SIDE, GRID**2, WIDTH, 1, prepare, every)


def one_token(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noise with four patches of any class, and one, brighter at its top, of the image's own."""
    rng = np.random.default_rng(seed)
    own = np.arange(count) % len(TOY_CLASSES)
    patterns = np.random.default_rng(9).choice([-40.0, 40.0], (len(TOY_CLASSES), WIDTH))
    patterns[:, :12] = 0
    tokens = rng.normal(128, 12, (count, GRID**2, WIDTH))
    places = rng.permuted(np.tile(np.arange(GRID**2), (count, 1)), axis=1)[:, :5]
    shown = np.concatenate([own[:, None], rng.integers(0, len(TOY_CLASSES), (count, 4))], 1)
    tokens[np.arange(count)[:, None], places] += patterns[shown]
    tokens[np.arange(count), places[:, 0], :12] += 60
    cells = tokens.reshape(count, GRID, GRID, PATCH, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
    return cells.reshape(count, SIDE, SIDE, 3).clip(0, 255).astype(np.uint8), own


@cache
def object_images() -> Images:
    """600 train and 400 test images whose class sits in one patch of sixteen."""
    parts = {}
    for name, count, seed in (("train", 600, 0), ("test", 400, 1)):
        pixels, labels = one_token(count, seed)
        parts[name] = Split(pixels, labels, [f"{name}/{i}" for i in range(count)])
    return Images("toy", TOY_CLASSES, parts["train"], parts["test"], "none")


def relabelled(images: Images, seed: int, *names: str) -> Images:
    """The same with the labels of some splits shuffled."""
    rng = np.random.default_rng(seed)
    changed: dict[str, Any] = {}
    for name in names:
        split: Split = getattr(images, name)
        assert split.labels is not None
        changed[name] = replace(split, labels=rng.permutation(split.labels))
    return replace(images, **changed)


def first(images: Images, count: int) -> Images:
    """The same with the first train images alone."""
    return replace(images, train=images.train.take(np.arange(count)))
