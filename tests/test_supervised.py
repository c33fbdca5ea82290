"""The control that has seen the labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskbench.data import Split, augment
from maskbench.errors import DivergedError
from maskbench.events import Silent
from maskbench.probes.supervised import supervised
from maskbench.shape import ModelShape
from maskbench.spec import RunSettings

SHAPE = ModelShape(8, 4, 24, 2, 2, 16, 1, 2)


def settings(**changes: object) -> RunSettings:
    given = {
        "strategy": "random",
        "strategy_settings": {},
        "strategy_digest": "",
        "budget": "1ep",
        "data": "toy",
        "data_fingerprint": "",
        "limit": None,
        "max_bad": 0.01,
        "hidden": 3,
        "model": "nano",
        "batch": 16,
        "base_lr": 3e-2,
        "seed": 0,
        "device": "cpu",
        "precision": "fp32",
        "compile": False,
        "draws": 1,
        **changes,
    }
    return RunSettings.model_validate(given)


def bright(count: int = 64) -> Split:
    """Dark and bright images."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = rng.integers(0, 100, (count, 8, 8, 3)) + 100 * labels[:, None, None, None]
    return Split(images.astype(np.uint8), labels, [f"{i}" for i in range(count)])


def test_it_learns_the_labels_and_is_the_same_again() -> None:
    split = bright()
    trained = supervised(SHAPE, split, settings(), 600, Silent())
    again = supervised(SHAPE, split, settings(), 600, Silent())
    other = supervised(SHAPE, split, settings(seed=1), 600, Silent())
    weights = trained.blocks[0].mlp.fc1.weight  # type: ignore[union-attr]
    assert torch.equal(weights, again.blocks[0].mlp.fc1.weight)  # type: ignore[arg-type, union-attr]
    assert not torch.equal(weights, other.blocks[0].mlp.fc1.weight)  # type: ignore[arg-type, union-attr]
    images = augment.normalise(torch.from_numpy(split.images).permute(0, 3, 1, 2))
    with torch.no_grad():
        means = trained.encode(trained.embed(images))[:, 1:].mean(1)
    centre = [means[torch.from_numpy(split.labels == label)].mean(0) for label in (0, 1)]
    within = means[torch.from_numpy(split.labels == 0)].std(0).norm()
    assert (centre[0] - centre[1]).norm() > 3 * within


def test_images_count_to_the_last() -> None:
    told: list[int] = []

    class Listener(Silent):
        def advance(self, done: int, **values: float) -> None:
            told.append(done)

    supervised(SHAPE, bright(), settings(), 100, Listener())
    assert told[-1] == 100


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(DivergedError, match="supervised control"):
        supervised(SHAPE, bright(), settings(base_lr=1e38), 100, Silent())


def test_labels_matter() -> None:
    split = bright()
    assert split.labels is not None
    turned = replace(split, labels=np.random.default_rng(1).permutation(split.labels))
    one, other = (supervised(SHAPE, s, settings(), 100, Silent()) for s in (split, turned))
    assert not torch.equal(one.cls_token, other.cls_token)
