"""The masked autoencoder: what is hidden stays hidden, and the recorded numbers come out."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from maskbench import seeds, weights
from maskbench.blocks import blocks, outputs
from maskbench.mask import Grid, Mask, take
from maskbench.model import MaskedAutoencoder, sincos_positions
from maskbench.optim import autocast
from maskbench.shape import PRESETS, ModelShape, blocks_forward, step_flops

GRID = Grid(4, 4, 12)
REFERENCE = ModelShape(32, 4, 48, 3, 4, 32, 2, 4)


def model() -> MaskedAutoencoder:
    return MaskedAutoencoder(SMALL, seeds.generator(0, "init"))


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def random_mask(count: int = 3, seed: int = 2) -> Mask:
    scores = torch.rand(count, 16, generator=torch.Generator().manual_seed(seed))
    return Mask.from_scores(scores, GRID)


def pixels_of(hidden: torch.Tensor) -> torch.Tensor:
    """(B, 16) patches to (B, 1, 16, 16) pixels."""
    return hidden.view(-1, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)


def test_hidden_pixels_cannot_change_the_latents_but_visible_ones_do() -> None:
    net, x, mask = model(), images(), random_mask()
    hidden = pixels_of(mask.hidden)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    latent = net(x, mask).latent
    assert torch.equal(latent, net(torch.where(hidden, noise, x), mask).latent)
    assert not torch.allclose(latent, net(torch.where(hidden, x, noise), mask).latent)


def test_loss_is_of_hidden_patches_only() -> None:
    """Moving one hidden patch's pixels moves its own loss and no other's."""
    net, x, mask = model(), images(), random_mask()
    position = int(mask.hidden_positions[0, 5])
    row, column = divmod(position, 4)
    changed = x.clone()
    changed[0, :, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] = torch.randn(
        3, 4, 4, generator=torch.Generator().manual_seed(4)
    )
    moved = (net(x, mask).patch_loss - net(changed, mask).patch_loss).abs() > 1e-7
    assert moved.nonzero().tolist() == [[0, 5]]


def test_every_image_shape_and_mean() -> None:
    outcome = model()(images(), random_mask())
    assert outcome.latent.shape == (3, 5, 24)
    assert outcome.prediction.shape == (3, 12, 48)
    assert torch.allclose(outcome.loss, outcome.patch_loss.mean())


def test_batch_of_one_equals_its_row() -> None:
    net, x, mask = model(), images(), random_mask()
    alone = net(x[1:2], Mask(mask.hidden[1:2], GRID))
    assert torch.allclose(alone.patch_loss[0], net(x, mask).patch_loss[1], atol=1e-5)


def test_initial_weights_follow_the_seed_and_leave_global_state_alone() -> None:
    before = torch.random.get_rng_state()
    one, same = model().state_dict(), model().state_dict()
    other = MaskedAutoencoder(SMALL, seeds.generator(1, "init")).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])
    assert all(bool(torch.isfinite(value).all()) for value in one.values())


def test_positions_equal_lightlys() -> None:
    from lightly.models.utils import get_2d_sine_cosine_positional_embedding

    theirs = get_2d_sine_cosine_positional_embedding(48, 7, cls_token=True)
    assert np.allclose(sincos_positions(7, 48)[0].numpy(), theirs, atol=1e-6)


def test_patchify_order_is_row_column_channel() -> None:
    x = torch.arange(2 * 3 * 16 * 16.0).view(2, 3, 16, 16)
    patches = model().patchify(x)
    assert patches.shape == (2, 16, 48)
    assert patches[1, 6].tolist() == x[1, :, 4:8, 8:12].permute(1, 2, 0).reshape(-1).tolist()


def test_encoder_loads_into_timm() -> None:
    net, x = model(), images()
    twin = VisionTransformer(
        img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=4, num_classes=0,
        global_pool="token", norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    twin.load_state_dict(net.encoder_state())
    with torch.no_grad():
        assert torch.allclose(twin.forward_features(x), net.encode(net.embed(x)), atol=1e-5)


def test_some_patches_are_embedded_as_all_are() -> None:
    """By their pixels, with their own positions, in any order."""
    net, x = model(), images()
    torch.nn.init.normal_(net.patch_embed.proj.bias)
    where = torch.stack(
        [torch.randperm(16, generator=torch.Generator().manual_seed(i))[:5] for i in range(3)]
    )
    found = net.embed_pixels(take(net.patchify(x), where), where)
    assert torch.allclose(found, take(net.embed(x), where), atol=1e-5)


@pytest.mark.parametrize(("precision", "fused"), [("fp32", 6), ("bf16", 0)])
def test_attention_is_written_out_in_bfloat16_on_a_cpu(
    precision: str, fused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nowhere else; what comes out is the same up to the precision."""
    calls = []
    known = torch.nn.functional.scaled_dot_product_attention

    def counting(*given: torch.Tensor, **options: object) -> torch.Tensor:
        calls.append(given)
        return known(*given, **options)  # type: ignore[arg-type]

    model = MaskedAutoencoder(ModelShape(32, 4, 48, 4, 2, 32, 2, 2), seeds.generator(0, "init"))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = Mask.from_scores(
        torch.rand(4, 64, generator=torch.Generator().manual_seed(1)), Grid(8, 8, 48)
    )
    plain = model(images, mask)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    with autocast(torch.device("cpu"), precision):
        other = model(images, mask)
    assert len(calls) == fused
    assert torch.allclose(other.patch_loss, plain.patch_loss, rtol=0.03)
    for module in model.modules():
        assert "fused_attn" not in vars(module)


@pytest.mark.parametrize("preset", ["nano", "micro", "tiny"])
def test_closed_form_flops_agree_with_a_counter(preset: str) -> None:
    """Within 2 % on the math attention backend (the CPU's fused kernel is counted as zero)."""
    shape = PRESETS[preset].shape
    net = MaskedAutoencoder(shape, seeds.generator(0, "init"))
    grid = Grid(shape.side, shape.side, shape.patches * 3 // 4)
    x = torch.randn(2, 3, shape.image, shape.image, generator=torch.Generator().manual_seed(0))
    mask = Mask.from_scores(torch.rand(2, grid.patches), grid)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(x, mask).loss.backward()
    expected = 2 * sum(step_flops(shape, grid.visible).values())
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("wanted", [slice(1), slice(1, None), slice(3, 5)])
def test_some_outputs_of_blocks_are_those_of_all(wanted: slice, precision: str) -> None:
    """The same values and gradients, with fewer products than a whole last block has."""
    net = weights.build(lambda: blocks(2, 32, 2, 1e-6), seeds.generator(0, "init"))
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randn(3, 7, 32, generator=rng)
    for parameter in net.parameters():  # biases are not zero in a trained one
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=rng)
    found, flops = [], []
    for read in (lambda x: net(x)[:, wanted], lambda x: outputs(net, x, wanted)):
        given = tokens.clone().requires_grad_()
        with (
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
            autocast(torch.device("cpu"), precision),
        ):
            out = read(given)
        out.square().mean().backward()
        found.append([out, given.grad, *(p.grad for p in net.parameters())])
        flops.append(counter.get_total_flops())
        net.zero_grad()
    relative, absolute = (1e-4, 1e-6) if precision == "fp32" else (0.05, 0.01)
    for whole, part in zip(*found, strict=True):
        torch.testing.assert_close(part, whole, rtol=relative, atol=absolute)
    many = len(range(7)[wanted])
    assert flops == [3 * blocks_forward(2, 7, 32), 3 * blocks_forward(2, 7, 32, many)]


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, torch.Tensor]:
    return load_file(shared / "reference" / "clmae_reference.safetensors")


def reference_model(recorded: dict[str, torch.Tensor]) -> MaskedAutoencoder:
    net = MaskedAutoencoder(REFERENCE, seeds.generator(0, "init"))
    weights = {
        name.removeprefix("weights."): value
        for name, value in recorded.items()
        if name.startswith("weights.") and "masking_net" not in name
    }
    net.load_state_dict(weights)
    return net


@pytest.mark.shared
def test_recorded_mae_step(recorded: dict[str, torch.Tensor]) -> None:
    """Loss, latents, predictions and gradients of the published implementation, to 1e-4."""
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    net = reference_model(recorded)
    close(net.pos_embed, sincos_positions(8, 48))
    mask = Mask(recorded["mae.mask"].bool(), Grid(8, 8, 48))
    outcome = net(recorded["input"], mask)
    outcome.loss.backward()
    close(outcome.loss, recorded["mae.loss"][0])
    prediction = take(recorded["mae.pred"], mask.hidden_positions)
    close(outcome.prediction, prediction)
    shown = recorded["mae.ids_restore"].argsort(1)[:, :16]
    close(outcome.latent[:, 0], recorded["mae.latent"][:, 0])
    close(outcome.latent[:, 1:], take(recorded["mae.latent"][:, 1:], shown.argsort(1)))
    names = [name for name in recorded if name.startswith("mae.grad.")]
    assert len(names) == 3
    for name in names:
        gradient = net.get_parameter(name.removeprefix("mae.grad.")).grad
        assert gradient is not None
        assert (gradient - recorded[name]).norm() <= 1e-4 * recorded[name].norm()
