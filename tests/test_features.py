"""Features: the mean of patch tokens through the trained norm, and raw pixels."""

from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_probes import clusters, toy_rows
from timm.models import VisionTransformer
from torch import Tensor, nn

from maskbench import seeds
from maskbench.errors import DataError, DivergedError
from maskbench.model import MaskedAutoencoder
from maskbench.probes.features import patch_mean, pixels
from maskbench.probes.knn import knn
from maskbench.shape import PRESETS


def normalise(images: Tensor) -> Tensor:
    return (images.float() / 255 - 0.5) / 0.25


def nano() -> MaskedAutoencoder:
    return MaskedAutoencoder(PRESETS["nano"].shape, seeds.generator(0, "init"))


def pictures(count: int, side: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_patch_mean_equals_timm() -> None:
    model, images = nano(), pictures(7, 36)
    images.flags.writeable = False
    timm = VisionTransformer(
        img_size=32,
        patch_size=4,
        embed_dim=96,
        depth=4,
        num_heads=3,
        num_classes=0,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    timm.load_state_dict(model.encoder_state())
    batch = torch.tensor(images[:, 2:34, 2:34]).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = timm.eval().forward_features(normalise(batch))[:, 1:].mean(1).numpy()
    found = patch_mean(model.train(), images, normalise, chunk=3)
    assert model.training
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_patch_mean_sees_the_final_norm_and_not_the_decoder() -> None:
    model, images = nano(), pictures(3, 32)
    base = patch_mean(model, images, normalise)
    for name, parameter in model.named_parameters():
        if name.startswith(("decoder_", "mask_token")):
            nn.init.constant_(parameter, 3.0)
    assert (patch_mean(model, images, normalise) == base).all()
    nn.init.constant_(model.norm.weight, 2.0)
    np.testing.assert_allclose(patch_mean(model, images, normalise), 2 * base, atol=1e-5)


def test_features_that_are_not_finite_are_refused() -> None:
    model = nano()
    nn.init.constant_(model.norm.weight, float("nan"))
    with pytest.raises(DivergedError, match="3 of 3 images"):
        patch_mean(model, pictures(3, 32), normalise)
    train, labels = clusters(20, 2.0)
    train[7, 0] = np.inf
    with pytest.raises(DivergedError, match="1 of 80 images"):
        toy_rows(train, train, (labels, labels))
    with pytest.raises(DivergedError):
        knn(train, labels, train, 4)


def test_pixels_are_cropped_and_averaged() -> None:
    images = pictures(5, 66)
    found = pixels(images, 64, chunk=2).reshape(5, 32, 32, 3)
    middle = images[:, 1:65, 1:65].reshape(5, 32, 2, 32, 2, 3).mean((2, 4)) / 255
    np.testing.assert_allclose(found, middle, atol=1e-6)
    small = pixels(images, 16)
    np.testing.assert_allclose(small, images[:, 25:41, 25:41].reshape(5, -1) / 255, atol=1e-6)
    assert pixels(np.full_like(images, 255), 50) == pytest.approx(1.0)
    with pytest.raises(DataError, match="66 px are too small"):
        pixels(images, 96)
