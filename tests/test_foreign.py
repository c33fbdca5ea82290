"""Checkpoints of others: a mapped encoder gives the numbers of the model it came from."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from maskbench.errors import UsageError
from maskbench.mask import take
from maskbench.probes.foreign import Opened, open_backbone
from maskbench.results import Store

WIDTH, HEADS, DEPTH, PATCH, SIDE = 48, 4, 3, 4, 16
STORE = Store(Path("nowhere"))
State = Mapping[str, Any]


def vit(side: int = SIDE, **more: Any) -> Any:
    """A vision transformer of timm's with random weights, none of them trivial."""
    sizes: dict[str, Any] = {"embed_dim": WIDTH, "num_heads": HEADS, "depth": DEPTH}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: Any = VisionTransformer(
            side, PATCH, num_classes=more.pop("num_classes", 0), norm_layer=norm, **sizes, **more
        )
        for value in made.parameters():
            torch.nn.init.normal_(value, std=0.3)
    return made.eval()


def norm(width: int, **more: Any) -> Any:
    return torch.nn.LayerNorm(width, eps=1e-6, **more)


def images(side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 3, side, side), generator=generator, dtype=torch.uint8)


def decoder() -> dict[str, Tensor]:
    names = ("decoder_embed.weight", "decoder_blocks.0.norm1.bias", "decoder_pos_embed")
    return {name: torch.ones(2) for name in (*names, "mask_token")}


def masker() -> dict[str, Tensor]:
    """A masking network beside it: a transformer of more blocks, on the encoder's tokens."""
    blocks = {k: v for k, v in vit().state_dict().items() if not k.startswith(("patch", "norm"))}
    more = {k.replace("blocks.", f"blocks.{n}"): v for n in (1, 2) for k, v in blocks.items()}
    return {
        f"masking_net.{k}": v
        for k, v in {**blocks, **more, "mlp_head.0.bias": torch.ones(2)}.items()
    }


def before(prefix: str, state: State) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "published": lambda s: {"model": s},
    "bare": dict,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "pretraining": lambda s: {
        "model": {**s, **decoder()},
        "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.ones(3)}}},
        "epoch": 799,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(model="mae_vit_base_patch16", lr=1e-3, betas=(0.9, 0.95)),
    },
    "clmae": lambda s: {"model": {**s, **decoder(), **masker()}},
    "parallel": lambda s: {"model": before("module.", {**s, **decoder(), **masker()})},
    "within": lambda s: {"model": before("module.mae.", s) | before("module.", masker())},
    "model.": lambda s: before("model.", {**s, **decoder()}),
    "encoder.": lambda s: before("encoder.", s) | {"norm.weight": torch.ones(7)},
    "backbone.": lambda s: before("backbone.", s) | {"head.weight": torch.ones(7, 7)},
}


def saved(folder: Path, content: Any, name: str = "theirs.pth") -> str:
    torch.save(content, folder / name)
    return f"mae:{folder / name}#heads={HEADS}"


def opened(text: str, side: int | None = None) -> Opened:
    return open_backbone(text, STORE, torch.device("cpu"), side)


def same_numbers(found: Opened, source: Any, final: Any, side: int = SIDE) -> None:
    """Every layer is the source's: embeddings, positions, CLS, each block, and its final norm."""
    mean, deviation = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    shown = (images(side) / 255 - mean) / deviation
    backbone = found.backbone
    assert torch.allclose(backbone.prepare(images(side)), shown, atol=1e-5)
    with torch.no_grad():
        theirs, expected = source._pos_embed(source.patch_embed(shown)), []
        for block in source.blocks:
            theirs = block(theirs)
            expected.append(final(theirs))
        layers, tokens = backbone.layers(shown), backbone.tokens(shown)
    assert len(layers) == backbone.depth == len(expected)
    assert tokens.shape == (3, 1 + backbone.patches, backbone.width)
    for mine, due in zip(layers, expected, strict=True):
        assert (mine - due).abs().max() < 1e-5
    assert (tokens - expected[-1]).abs().max() < 1e-5
    assert not any(value.requires_grad for value in backbone.encoder.parameters())
    assert all(value.requires_grad for value in backbone.copied().encoder.parameters())
    assert sum(map(len, backbone.groups())) == len(list(backbone.encoder.parameters()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_layout_gives_the_numbers_of_its_model(tmp_path: Path, layout: str) -> None:
    source = vit()
    found = opened(saved(tmp_path, LAYOUTS[layout](source.state_dict())))
    same_numbers(found, source, source.norm)
    backbone, match = found.backbone, found.match
    assert (backbone.side, backbone.width, backbone.depth) == (SIDE, WIDTH, DEPTH)
    assert backbone.name == "mae:theirs.pth"
    assert backbone.prior == "checkpoint theirs.pth, trained outside this benchmark"
    assert match
    assert match.fits
    assert set(match.loaded) == set(source.state_dict())
    groups = dict(match.unexpected or {})
    assert ("decoder" in groups) == (layout in ("pretraining", "clmae", "parallel", "model."))
    assert ("masking_net" in groups) == (layout in ("clmae", "parallel", "within"))
    if layout == "pretraining":
        assert found.notes == ("theirs.pth: not used: decoder (4)",)
    if layout in ("clmae", "within"):
        assert f"masking_net ({len(masker())})" in found.notes[0]


def test_safetensors_and_half_precision(tmp_path: Path) -> None:
    source = vit()
    save_file(source.state_dict(), tmp_path / "theirs.safetensors")
    text = f"mae:{tmp_path / 'theirs.safetensors'}#heads={HEADS}"
    same_numbers(opened(text), source, source.norm)
    half = source.half()
    found = opened(saved(tmp_path, {"model": half.state_dict()}))
    same_numbers(found, half.float(), half.norm)


def test_fine_tuned_with_mean_pooling(tmp_path: Path) -> None:
    source = vit(global_pool="avg", num_classes=10)
    found = opened(saved(tmp_path, {"model": source.state_dict()}))
    same_numbers(found, source, source.fc_norm)
    assert "no norm but an fc_norm" in found.notes[0]
    assert "not used: head (2)" in found.notes[1]


@pytest.mark.parametrize("side", [8, 20, 32])
def test_positions_are_interpolated_as_timm_does(tmp_path: Path, side: int) -> None:
    source = vit()
    found = opened(saved(tmp_path, {"model": source.state_dict()}), side)
    grid = side // PATCH
    larger = vit(side)
    table = resample_abs_pos_embed(source.pos_embed, [grid, grid])
    larger.load_state_dict({**source.state_dict(), "pos_embed": table.detach()})
    same_numbers(found, larger, larger.norm, side)
    assert found.backbone.patches == grid**2
    told = f"from 4 x 4 patches (16 px) to {grid} x {grid} ({side} px)"
    assert found.notes == (f"theirs.pth: positions interpolated {told}",)


def test_a_side_that_patches_do_not_fill(tmp_path: Path) -> None:
    text = saved(tmp_path, vit().state_dict())
    for side in (18, 2_048):
        with pytest.raises(UsageError, match="a multiple of its patch side, 4 px"):
            opened(text, side)
    for side in (0, -4, 4_000_000):
        with pytest.raises(UsageError, match="from 8 to 4,096"):
            opened(text, side)


def test_of_larger_images_the_centre_is_shown_and_smaller_ones_are_enlarged(
    tmp_path: Path,
) -> None:
    backbone = opened(saved(tmp_path, vit().state_dict())).backbone
    assert backbone.prepare(images(8)).shape == (3, 3, SIDE, SIDE)
    large = images(40)
    shown = backbone.prepare(large)
    assert torch.equal(shown, backbone.prepare(large[..., 12:28, 12:28]))
    assert shown.shape == (3, 3, SIDE, SIDE)


def test_heads_are_known_by_width_or_told(tmp_path: Path) -> None:
    text = saved(tmp_path, vit().state_dict()).partition("#")[0]
    with pytest.raises(UsageError, match=r"48 wide.*give mae:FILE#heads=N. Known: 192: 3"):
        opened(text)
    for odd in ("#heads=7", "#heads=0", "#heads=x", "#head=4", "#", "#heads=" + "9" * 5000):
        with pytest.raises(UsageError, match="heads"):
            opened(text + odd)
    assert opened(f"{text}#heads=4,prefix=").backbone.width == WIDTH
    source = VisionTransformer(8, 4, embed_dim=192, num_heads=3, depth=1, num_classes=0)
    torch.save(source.state_dict(), tmp_path / "tiny.pth")
    encoder: Any = opened(f"mae:{tmp_path / 'tiny.pth'}").backbone.encoder
    assert encoder.shape.heads == 3


def test_of_several_encoders_one_is_chosen(tmp_path: Path) -> None:
    source = vit()
    both = before("student.", vit(8).state_dict()) | before("teacher.", source.state_dict())
    text = saved(tmp_path, both)
    with pytest.raises(UsageError, match=r"holds 2 encoders, under 'student.', 'teacher.'"):
        opened(text)
    found = opened(text + ",prefix=teacher.")
    same_numbers(found, source, source.norm)
    assert found.match
    assert set(found.match.unexpected or ()) == {"student"}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: s.pop("cls_token"), "1 tensors are missing: cls_token"),
        (lambda s: s.pop("pos_embed"), "1 tensors are missing: pos_embed"),
        (lambda s: [s.pop("norm.weight"), s.pop("norm.bias")], "2 tensors are missing: norm"),
        (lambda s: [s.pop(k) for k in [*s] if ".1." in k], "12 tensors are missing: blocks.1."),
        (lambda s: s.pop("blocks.2.attn.qkv.bias"), "missing: blocks.2.attn.qkv.bias"),
        (lambda s: s.update({"norm.bias": torch.ones(7)}), r"norm.bias is float32 \(7\), not flo"),
        (lambda s: s.update({"norm.bias": "x"}), "norm.bias is a str, not floats"),
        (lambda s: s.update({"norm.bias": torch.ones(48).long()}), r"norm.bias is int64 \(48\)"),
        (lambda s: s.update({"norm.bias": torch.ones(48) + 0j}), r"norm.bias is complex64"),
        (lambda s: s["norm.bias"].fill_(np.nan), "1 are not finite: norm.bias"),
        (lambda s: s["norm.bias"].fill_(np.inf), "1 are not finite: norm.bias"),
        (lambda s: s.update(pos_embed=torch.ones(48)), r"pos_embed is float32 \(48\)"),
        (lambda s: s.update(pos_embed=torch.ones(1, 16, 48)), "positions for 16 tokens"),
        (lambda s: s.update(pos_embed=torch.ones(1, 1, 48)), "positions for 1 tokens"),
        (lambda s: s.update(pos_embed=torch.ones(1, 17, 1)), "1 wide"),
        (lambda s: s.update(pos_embed=torch.ones(1, 17, 0)), "do not fit: pos_embed"),
        (lambda s: s.update(pos_embed=torch.ones(1).expand(1, 10**8 + 1, 48)), "not all stored"),
        (lambda s: s.update({"norm.bias": torch.ones(1).expand(48)}), "not all stored"),
        (lambda s: s.update({"norm.bias": torch.ones(48).to_sparse()}), "not all stored|sparse"),
        (lambda s: s.update({"patch_embed.proj.weight": torch.ones(48, 3)}), "do not fit: patch"),
        (
            lambda s: s.update({"blocks.999.norm1.bias": torch.ones(48)}),
            "11963 tensors are missing",
        ),
        (lambda s: s.clear(), "holds 0 named entries"),
        (
            lambda s: [s.clear(), s.update({"\x1b[31m" + "x" * 999: 1})],
            "18 tensors are missing",
        ),
        (lambda s: s.update({f"a{i}": 1 for i in range(20_001)}), "has 1 to 20,000"),
    ],
)
def test_what_does_not_fit_is_listed(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], says: str
) -> None:
    state = vit().state_dict()
    spoil(state)
    with pytest.raises(UsageError, match=says) as caught:
        opened(saved(tmp_path, {"model": dict(state)}))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1500


def test_many_strange_names_stay_one_short_line(tmp_path: Path) -> None:
    more = {f"\x1b[31m{i}{'y' * 500}": torch.ones(1) for i in range(300)}
    found = opened(saved(tmp_path, vit().state_dict() | more))
    assert found.notes[0].isprintable()
    assert "and 294 more" in found.notes[0]
    assert len(found.notes[0]) < 600


@pytest.mark.shared
def test_clmaes_recorded_encoder_gives_its_recorded_latent(tmp_path: Path, shared: Path) -> None:
    """Recorded from the published implementation: its names, weights and outputs."""
    recorded = load_file(shared / "reference" / "clmae_reference.safetensors")
    state = {k: v for k, v in recorded.items() if k.startswith("weights.")}
    save_file(state, tmp_path / "theirs.safetensors")
    found = opened(f"mae:{tmp_path / 'theirs.safetensors'}#heads=4")
    assert found.match
    assert set(found.match.unexpected or ()) == {"decoder", "masking_net"}
    encoder: Any = found.backbone.encoder
    with torch.no_grad():
        all_patches = encoder.embed(recorded["input"])
        visible = recorded["mae.ids_restore"].argsort(1)[:, :16]
        latent = encoder.encode(take(all_patches, visible))
    assert (latent - recorded["mae.latent"]).abs().max() < 1e-5
