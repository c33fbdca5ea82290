"""Runs and networks of the timm library as backbones; hostile files are refused unopened."""

import argparse
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import cli
from safetensors.torch import load_file, save_file
from test_foreign import images, opened, saved, vit
from test_hostile_weights import pickles
from test_run import paint

from maskbench.data import augment
from maskbench.errors import OK, StoreError, UsageError
from maskbench.model import Encoder
from maskbench.probes.foreign import open_backbone
from maskbench.results import Store
from maskbench.shape import PRESETS

SMALLEST = "test_vit.r160_in1k"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run."""
    data = tmp_path_factory.mktemp("data") / "toy"
    paint(data / "train", 20, 0)
    paint(data / "test", 10, 1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        root = tmp_path_factory.mktemp("store") / "runs"
        words = ["--budget", "2step", "--draws", "1", "--out", str(root)]
        assert (
            cli(monkeypatch, "run", "--strategy", "random", *words, "--data", f"folder:{data}")
            == OK
        )
    (folder,) = Store(root).folders()
    return folder


def test_a_run_gives_its_own_encoder(finished: Path) -> None:
    found = open_backbone(finished.name[:11], Store(finished.parent))
    encoder = Encoder(PRESETS["nano"].shape).to_empty(device="cpu")
    encoder.load_state_dict(load_file(finished / "encoder.safetensors"))
    shown = augment.normalise(images(36)[..., 2:34, 2:34])
    assert torch.equal(found.backbone.prepare(images(36)), shown)
    with torch.no_grad():
        mine, due = found.backbone.layers(shown), encoder.layers(shown)
    assert all(torch.equal(a, b) for a, b in zip(mine, due, strict=True))
    assert found.backbone.name == finished.name
    assert (found.notes, found.backbone.prior) == ((), "")
    assert opened(str(finished)).backbone.name == finished.name
    larger = opened(str(finished), 48)
    assert larger.backbone.tokens(images(48).float()).shape == (3, 145, 96)
    assert "from 8 x 8 patches (32 px) to 12 x 12 (48 px)" in larger.notes[0]


def edit(folder: Path, part: str, **changes: Any) -> None:
    told = json.loads((folder / "record.json").read_text())
    told[part] = {**told[part], **changes} if isinstance(told[part], dict) else changes[part]
    (folder / "record.json").write_text(json.dumps(told))


def spoiled(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    weights = load_file(folder / "encoder.safetensors")
    change(weights)
    save_file(weights, folder / "encoder.safetensors")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: edit(f, "status", status="running"), "is running, not finished"),
        (
            lambda f: edit(f, "model", width=10**12, depth=10**9),
            r"width 1000000000000, depth 10000",
        ),
        (lambda f: edit(f, "model", preset="\x1b[31m" * 99), "unknown model preset"),
        (lambda f: (f / "encoder.safetensors").unlink(), "cannot be used"),
        (lambda f: (f / "encoder.safetensors").write_bytes(b"torn"), "cannot be used"),
        (lambda f: (f / "encoder.safetensors").write_bytes(bytes(10**7)), "at most"),
        (lambda f: spoiled(f, lambda w: w.pop("norm.bias")), "1 tensors are missing: norm.bias"),
        (lambda f: spoiled(f, lambda w: w.update(x=torch.ones(1))), "cannot be used .not used: x"),
        (lambda f: spoiled(f, lambda w: w["norm.bias"].fill_(torch.nan)), "not finite: norm.bias"),
        (
            lambda f: spoiled(f, lambda w: w.update(cls_token=torch.ones(3))),
            "do not fit: cls_token",
        ),
    ],
)
def test_runs_that_cannot_be_used(
    finished: Path, tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    spoil(shutil.copytree(finished, tmp_path / "run"))
    with pytest.raises((StoreError, UsageError), match=says) as caught:
        opened(str(tmp_path / "run"))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 900


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown run 'nobody'"):
        opened("nobody")
    with pytest.raises(UsageError, match="What can be probed: RUN, timm:NAME"):
        opened("clip:file")
    with pytest.raises(UsageError, match=r"no file .*gone.pth"):
        opened(f"mae:{tmp_path}/gone.pth")
    with pytest.raises(UsageError, match="no file"):
        opened(f"mae:{tmp_path}")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="no file"):
        opened(f"mae:{tmp_path}/pipe")


@pytest.mark.parametrize("kind", ["plain", "nested", "new", "old", "array"])
@pytest.mark.parametrize("scheme", ["mae:", f"timm:{SMALLEST}@"])
def test_a_pickle_is_refused_unopened(tmp_path: Path, kind: str, scheme: str) -> None:
    trap, file = tmp_path / "trap", tmp_path / "theirs.pth"
    file.write_bytes(pickles(trap)[kind])
    with pytest.raises(UsageError, match=r"cannot be (read|loaded)"):
        opened(f"{scheme}{file}")
    assert not trap.exists()


class Odd(argparse.Namespace):
    """A namespace of somebody's own."""


def test_of_arguments_only_a_plain_namespace_is_read(tmp_path: Path) -> None:
    state = {"model": vit().state_dict()}
    for odd in (Odd(a=1), argparse.Namespace(out=Path("x")), argparse.Namespace(f=os.system)):
        with pytest.raises(UsageError, match=r"cannot be read as a checkpoint.*nothing is run"):
            opened(saved(tmp_path, {**state, "args": odd}))
    assert opened(saved(tmp_path, {**state, "args": argparse.Namespace(a=1)})).match


def test_files_that_are_torn_or_compressed(tmp_path: Path) -> None:
    text = saved(tmp_path, vit().state_dict())
    file = tmp_path / "theirs.pth"
    whole = file.read_bytes()
    for end in (0, 1, 8, 100, len(whole) // 2, len(whole) - 10):
        file.write_bytes(whole[:end])
        with pytest.raises(UsageError, match="cannot be read as a checkpoint"):
            opened(text)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data/0", bytes(50_000_000))
    with pytest.raises(UsageError, match="compressed archive"):
        opened(text)
    torch.save([1, 2], file)
    with pytest.raises(UsageError, match="0 named entries"):
        opened(text)
    header = b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UsageError, match="cannot be read as a checkpoint"):
        opened(text)


def network(name: str, folder: Path) -> tuple[Any, str]:
    """A network of timm's with made-up weights, and the file that holds them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: Any = timm.create_model(name, pretrained=False)
        for value in made.parameters():
            torch.nn.init.normal_(value, std=0.1)
    save_file(made.state_dict(), folder / "weights.safetensors")
    return made.eval(), f"timm:{name}@{folder / 'weights.safetensors'}"


DEIT, REGISTERS, EVA = (
    "deit_tiny_distilled_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "eva02_tiny_patch14_224",
)


@pytest.mark.parametrize("name", [SMALLEST, "test_vit4.r160_in1k"])
def test_timms_smallest(tmp_path: Path, name: str) -> None:
    source, text = network(name, tmp_path)
    if source.cls_token is None:
        with pytest.raises(UsageError, match=r"is a VisionTransformer; .*and a CLS token"):
            opened(text)
        return
    backbone = opened(text).backbone
    assert backbone.prior == f"timm {name}, weights trained outside this benchmark"
    assert (backbone.name, backbone.side, backbone.patches) == (f"timm:{name}", 160, 100)
    shown = backbone.prepare(images(160))
    mean, deviation = (
        torch.tensor(source.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std")
    )
    assert torch.allclose(shown, (images(160) / 255 - mean) / deviation, atol=1e-5)
    with torch.no_grad():
        due = source.forward_features(shown)
        layers = backbone.layers(shown)
        theirs = source.get_intermediate_layers(shown, n=backbone.depth, norm=True)
    assert (layers[-1] - due).abs().max() < 1e-5
    for mine, patches in zip(layers, theirs, strict=True):
        assert (mine[:, 1:] - patches).abs().max() < 1e-5
    assert not any(value.requires_grad for value in backbone.encoder.parameters())
    copy = backbone.copied()
    copy.tokens(shown[:1]).sum().backward()  # type: ignore[no-untyped-call]
    assert all(value.grad is not None for value in copy.encoder.parameters())
    assert sum(map(len, copy.groups())) == len(list(copy.encoder.parameters()))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "final"), [(DEIT, "norm"), (REGISTERS, "norm"), (EVA, "fc_norm")])
def test_tokens_beyond_cls_and_patches_are_not_shown(tmp_path: Path, name: str, final: str) -> None:
    source, text = network(name, tmp_path)
    side = 112
    backbone = opened(text, side).backbone
    patch = source.patch_embed.patch_size[0]
    assert backbone.patches == (side // patch) ** 2
    source.set_input_size((side, side))
    shown = backbone.prepare(images(side))
    with torch.no_grad():
        due = source.forward_features(shown)
        due = getattr(source, final)(due) if final == "fc_norm" else due
        tokens = backbone.tokens(shown)
    extra = source.num_prefix_tokens
    assert torch.isfinite(tokens).all()
    assert tokens.shape[1] == 1 + backbone.patches
    assert (tokens[:, 0] - due[:, 0]).abs().max() < 1e-5
    assert (tokens[:, 1:] - due[:, extra:]).abs().max() < 1e-5


def test_timm_at_another_side_and_what_it_cannot(tmp_path: Path) -> None:
    source, text = network(SMALLEST, tmp_path)
    assert opened(text, 96).backbone.patches == 36
    for side in (100, 0, 16 * 500):
        with pytest.raises(
            UsageError, match=r"multiple of its patch side|at 0 px: from 8 to 4,096|at 8000 px"
        ):
            opened(text, side)
    state = source.state_dict()
    state["norm.bias"][3] = torch.nan
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match=r"1 of its tensors are not finite: norm.bias"):
        opened(text)
    _, text = network("test_resnet.r160_in1k", tmp_path)
    with pytest.raises(UsageError, match=r"is a ResNet; what can be probed is a plain vision tran"):
        opened(text)


def test_timm_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("We couldn't connect to the hub\nand much more")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UsageError, match=r"from the model hub .*give timm:test_vit.r160_in1k@FILE"):
        opened(f"timm:{SMALLEST}")
