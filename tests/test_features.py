"""Features: patch means and CLS through the trained norm, kept on disk; and raw pixels."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_probes import clusters, toy_rows
from timm.models import VisionTransformer
from torch import nn

from maskbench import seeds
from maskbench.data import augment
from maskbench.errors import DataError, DivergedError
from maskbench.events import Silent
from maskbench.model import Encoder, MaskedAutoencoder
from maskbench.probes import features
from maskbench.probes.backbone import of_encoder
from maskbench.probes.cache import Cache, digest
from maskbench.probes.features import describe, pixels
from maskbench.probes.knn import knn
from maskbench.shape import PRESETS


def nano() -> MaskedAutoencoder:
    return MaskedAutoencoder(PRESETS["nano"].shape, seeds.generator(0, "init"))


def pictures(count: int, side: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_features_equal_timm(monkeypatch: pytest.MonkeyPatch) -> None:
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
        expected = timm.eval().forward_features(augment.normalise(batch))
    monkeypatch.setattr(features, "CHUNK", 3)
    found = describe(of_encoder(model.train(), "nano"), images)
    assert model.training
    assert found.cls.dtype == found.patchmeans.dtype == np.float32
    assert found.patchmeans.shape == (4, 7, 96)
    cls, means = expected[:, 0].numpy(), expected[:, 1:].mean(1).numpy()
    np.testing.assert_allclose(found.feature("patchmean"), means, atol=1e-5)
    np.testing.assert_allclose(found.feature("cls"), cls, atol=1e-5)
    both = np.concatenate([cls, means], axis=1)
    np.testing.assert_allclose(found.feature("cls+patchmean"), both, atol=1e-5)
    with torch.no_grad():
        earlier: Any = timm.forward_intermediates(
            augment.normalise(batch), indices=[1], norm=True, intermediates_only=True
        )
    np.testing.assert_allclose(
        found.patchmeans[1], earlier[0].flatten(2).mean(2).numpy(), atol=1e-5
    )
    last = describe(of_encoder(model, "nano"), images, every_layer=False)
    assert last.patchmeans.shape == (1, 7, 96)
    np.testing.assert_allclose(last.feature("patchmean"), means, atol=1e-5)


def test_features_see_the_final_norm_and_not_the_decoder() -> None:
    model, images = nano(), pictures(3, 32)
    backbone = of_encoder(model, "nano")
    base = describe(backbone, images).feature("patchmean")
    for name, parameter in model.named_parameters():
        if name.startswith(("decoder_", "mask_token")):
            nn.init.constant_(parameter, 3.0)
    assert (describe(backbone, images).feature("patchmean") == base).all()
    nn.init.constant_(model.norm.weight, 2.0)
    np.testing.assert_allclose(describe(backbone, images).feature("patchmean"), 2 * base, atol=1e-5)


def test_features_are_computed_once_and_again_if_anything_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = nano(), pictures(5, 32)
    backbone, cache = of_encoder(model, "nano"), Cache(tmp_path / "features")
    first = cache.features(backbone, images, "these", Silent())
    assert isinstance(first.patchmeans, np.memmap)
    assert (first.patchmeans == describe(backbone, images).patchmeans).all()
    cls = np.array(first.cls)
    computed: list[int] = []

    def counting(*given: Any, **rest: Any) -> Any:
        computed.append(1)
        return describe(*given, **rest)

    monkeypatch.setattr("maskbench.probes.cache.describe", counting)
    cache.features(of_encoder(model.copy_encoder(), "a copy"), images, "these", Silent())
    assert len(computed) == 1  # a copy without the decoder is another state
    encoder = of_encoder(model.copy_encoder(), "a copy")
    cache.features(encoder, images, "these", Silent())
    assert len(computed) == 1
    cache.features(encoder, images, "others", Silent())
    assert len(computed) == 2
    for file in tmp_path.rglob("cls.npy"):
        file.write_bytes(file.read_bytes()[:-4])
    cache.features(encoder, images, "these", Silent())
    assert len(computed) == 3
    nn.init.constant_(encoder.encoder.norm.weight, 2.0)  # type: ignore[union-attr, arg-type]
    changed = cache.features(encoder, images, "these", Silent())
    np.testing.assert_allclose(changed.cls, 2 * cls, atol=1e-5)
    nn.init.constant_(encoder.encoder.norm.weight, float("nan"))  # type: ignore[union-attr, arg-type]
    kept = sorted(tmp_path.rglob("*"))
    with pytest.raises(DivergedError):
        cache.features(encoder, images, "these", Silent())
    assert sorted(tmp_path.rglob("*")) == kept  # nothing half-written


def test_features_that_are_not_finite_are_refused() -> None:
    model = nano()
    nn.init.constant_(model.norm.weight, float("nan"))
    with pytest.raises(DivergedError, match="3 of 3 images"):
        describe(of_encoder(model, "nano"), pictures(3, 32))
    train, labels = clusters(20, 2.0)
    train[7, 0] = np.inf
    with pytest.raises(DivergedError, match="1 of 80 images"):
        toy_rows(train, train, (labels, labels))
    with pytest.raises(DivergedError):
        knn(train, labels, train, 4)


def test_heads_are_part_of_an_encoder_though_no_weight_tells_them() -> None:
    shape = PRESETS["nano"].shape
    one = MaskedAutoencoder(shape, seeds.generator(0, "init")).copy_encoder()
    other = Encoder(replace(shape, heads=6)).to_empty(device="cpu")
    other.load_state_dict(one.state_dict())
    assert digest(of_encoder(one, "x")) != digest(of_encoder(other, "x"))


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_damaged_files_of_features_are_made_anew(tmp_path: Path, damage: bytes) -> None:
    backbone, cache = of_encoder(nano(), "nano"), Cache(tmp_path / "features")
    cls = np.array(cache.features(backbone, pictures(3, 32), "these", Silent()).cls)
    for file in tmp_path.rglob("cls.npy"):
        file.write_bytes(damage)
    assert (cache.features(backbone, pictures(3, 32), "these", Silent()).cls == cls).all()


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
