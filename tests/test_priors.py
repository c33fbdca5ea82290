"""Features of all images: what they hold, what they cost, what they know from outside."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from conftest import cli, noise_split
from safetensors.torch import load_file, save_file
from synthetic import EVIL, foreign, html_of, pair, plain, put, record
from test_run import paint
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from maskbench import priors
from maskbench.data import augment
from maskbench.data.source import Split
from maskbench.errors import OK, USAGE, UsageError
from maskbench.events import Silent
from maskbench.model import Encoder
from maskbench.results import Store
from maskbench.shape import PRESETS
from maskbench.strategy import Features

NANO = PRESETS["nano"].shape
SMALLEST = "test_vit.r160_in1k"


def of(kind: str, split: Split, side: int = 32, store: Path = Path("nowhere")) -> Features:
    return priors.features(
        kind,
        split,
        side=side,
        device=torch.device("cpu"),
        progress=Silent(),
        find_run=Store(store).find,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "toy"
    paint(root / "train", 20, 0)
    paint(root / "test", 10, 1)
    return root


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        root = tmp_path_factory.mktemp("store") / "runs"
        words = ["--budget", "2step", "--draws", "1", "--out", str(root)]
        words += ["--data", f"folder:{pictures}"]
        assert cli(monkeypatch, "run", "--strategy", "random", *words) == OK
    (folder,) = Store(root).folders()
    return folder


def test_pixels_are_main_components_of_the_central_crop() -> None:
    split = noise_split(60, 36)
    found = of("pixels-pca", split)
    assert found.values.shape == (60, 32)
    assert found.values.dtype == torch.float32
    crops = torch.from_numpy(split.images[:, 2:34, 2:34].copy()).double().flatten(1) / 255
    centred = crops - crops.mean(0)
    exact = torch.linalg.svdvals(centred)[:32]
    lengths = found.values.double().norm(dim=0)
    assert torch.allclose(lengths[:8], exact[:8], rtol=0.01)
    assert (lengths <= exact * 1.001).all()
    near = torch.cdist(found.values.double(), found.values.double())
    assert (
        torch.corrcoef(torch.stack([near.flatten(), torch.cdist(centred, centred).flatten()]))[0, 1]
        > 0.9
    )
    assert found.prior == ""
    assert found.flops["feature extraction"] > 2 * 60 * 3072 * 32
    assert of("pixels-pca", noise_split(12, 32)).values.shape == (12, 12)


def test_large_images_are_shrunk_and_global_randomness_is_left_alone() -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    split = noise_split(40, 96)
    one, two = of("pixels-pca", split, 96), of("pixels-pca", split, 96)
    assert torch.equal(one.values, two.values)
    averaged = Split(
        split.images.reshape(40, 32, 3, 32, 3, 3).mean((2, 4)).round().astype(np.uint8),
        None,
        split.ids,
    )
    small = of("pixels-pca", averaged, 32)
    assert torch.allclose(one.values.norm(dim=0)[:8], small.values.norm(dim=0)[:8], rtol=0.02)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # type: ignore[index]  # noqa: NPY002


def test_many_images_are_fitted_on_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priors, "FIT_IMAGES", 50)
    monkeypatch.setattr(priors, "CHUNK", 30)
    split = noise_split(200, 32)
    some = of("pixels-pca", split)
    monkeypatch.setattr(priors, "FIT_IMAGES", 200)
    all_of_them = of("pixels-pca", split)
    assert some.values.shape == all_of_them.values.shape == (200, 32)
    assert some.flops["feature extraction"] < all_of_them.flops["feature extraction"]
    assert not torch.equal(some.values, all_of_them.values)


@pytest.mark.parametrize("side", [16, 32, 36, 64])
def test_gradients_see_directions_not_brightness(side: int) -> None:
    rows = np.zeros((4, side, side, 3), np.uint8)
    rows[0, ::4], rows[1, :, ::4], rows[2, ::4] = 200, 200, 100
    rows[3] = 77
    found = of("hog", Split(rows, None, list("abcd")), side)
    assert found.values.shape == (4, 324)
    assert torch.allclose(found.values[0], found.values[2], atol=1e-4)
    assert (found.values[0] - found.values[1]).norm() > 1
    assert not found.values[3].any()
    assert (found.prior, found.flops) == ("", {})


def test_checkpoint_is_the_runs_encoder(finished: Path) -> None:
    """By folder, by name and by the beginning of a name; FLOPs as a counter sees them."""
    split = noise_split(20, 36)
    found = of(f"checkpoint:{finished}", split)
    assert found.values.shape == (20, NANO.width)
    encoder: Any = Encoder(NANO).to_empty(device="cpu")
    encoder.load_state_dict(load_file(finished / "encoder.safetensors"))
    crops = augment.normalise(augment.centre(torch.from_numpy(split.images), 32))
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        means = encoder.encode(encoder.embed(crops))[:, 1:].mean(1)
    assert torch.allclose(found.values, means, atol=1e-4)
    assert found.flops["feature extraction"] == pytest.approx(counter.get_total_flops(), rel=0.02)
    ledger = json.loads((finished / "record.json").read_text())["ledger"]
    assert found.flops["prior pretraining"] == ledger["flops_total"]
    assert found.prior == f"the encoder of run {finished.name} (random, 2step of folder:toy)"
    for name in (finished.name, "random-nano"):
        again = of(f"checkpoint:{name}", split, store=finished.parent)
        assert torch.equal(again.values, found.values)


def test_a_prior_of_a_prior_is_told(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "one")
    told = json.loads((tmp_path / "one" / "record.json").read_text())
    told["strategy"]["prior"] = "timm x"
    (tmp_path / "one" / "record.json").write_text(json.dumps(told))
    found = of("checkpoint:one", noise_split(4, 32), store=tmp_path)
    assert found.prior.endswith(", which had used timm x")


def test_checkpoints_that_cannot_be_used(finished: Path, tmp_path: Path) -> None:
    split = noise_split(4, 32)
    with pytest.raises(UsageError, match=r"unknown run 'randm-nano.*Did you mean 'random-nano"):
        of(f"checkpoint:{finished.name.replace('random', 'randm')}", split, store=finished.parent)
    with pytest.raises(UsageError, match="16 px"):
        of(f"checkpoint:{finished}", noise_split(4, 16))
    for name, spoil, says in (
        ("unfinished", lambda f: edit(f, status="interrupted"), "is interrupted, not finished"),
        ("gone", lambda f: (f / "encoder.safetensors").unlink(), "cannot be used"),
        ("torn", lambda f: (f / "encoder.safetensors").write_bytes(b"torn"), "cannot be used"),
        ("other", lambda f: save_file({"a": torch.ones(1)}, f / "encoder.safetensors"), "--fresh"),
        ("old", lambda f: edit(f, schema=99), "schema 99"),
    ):
        spoil(shutil.copytree(finished, tmp_path / name))
        with pytest.raises(UsageError, match=says):
            of(f"checkpoint:{tmp_path / name}", split)


def edit(folder: Path, **changes: Any) -> None:
    told = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**told, **changes}))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Made-up weights of timm's smallest vision transformer, with a head for 1,000 classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(SMALLEST, pretrained=False)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_a_timm_model_with_weights_on_disk(weights: Path) -> None:
    split = noise_split(6, 36)
    before = torch.random.get_rng_state()
    found = of(f"timm:{SMALLEST}@{weights}", split)
    assert torch.equal(before, torch.random.get_rng_state())
    model = timm.create_model(SMALLEST, pretrained=False).eval()
    torch.random.set_rng_state(before)
    model.load_state_dict(load_file(weights))
    crops = torch.from_numpy(split.images[:, 2:34, 2:34].copy()).permute(0, 3, 1, 2) / 255
    sized = torch.nn.functional.interpolate(crops, (160, 160), mode="bilinear", antialias=True)
    mean, deviation = (torch.tensor(model.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        pooled = model.forward_head(
            model.forward_features((sized - mean) / deviation), pre_logits=True
        )
    assert torch.allclose(found.values, pooled, atol=1e-4)
    assert found.prior == f"timm {SMALLEST}, weights trained outside this benchmark"
    patches, width = 100, model.embed_dim
    tokens, wider = patches + 1, model.blocks[0].mlp.fc1.out_features
    block = 2 * tokens * width * (4 * width + 2 * wider) + 4 * tokens**2 * width
    forward = len(model.blocks) * block + 2 * patches * 3 * 16**2 * width
    assert found.flops["feature extraction"] == pytest.approx(6 * forward, rel=0.01)


def test_timm_models_that_cannot_be_used(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = noise_split(2, 32)
    with pytest.raises(UsageError, match=r"'vit_smal_patch16_224'. Did you mean .*vit_small") as e:
        of("timm:vit_smal_patch16_224", split)
    assert len(str(e.value)) < 300
    with pytest.raises(UsageError, match=r"no file .*missing.safetensors. Give the path"):
        of(f"timm:{SMALLEST}@{tmp_path}/missing.safetensors", split)
    with pytest.raises(UsageError, match=r"Give a file with weights of this very model"):
        of(f"timm:test_vit2.r160_in1k@{weights}", split)

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("We couldn't connect to the hub\nand much more")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        UsageError, match=r"from the model hub \(OSError: We couldn't connect to th"
    ):
        of(f"timm:{SMALLEST}", split)


@pytest.mark.parametrize("kind", ["pixel-pca", "checkpoint:", "timm:", "sift", ""])
def test_an_unknown_kind_lists_the_kinds(kind: str) -> None:
    with pytest.raises(UsageError, match=r"Known: checkpoint:RUN, hog, pixels-pca, timm:NAME"):
        of(kind, noise_split(2, 32))


def test_a_run_with_a_prior_says_so_everywhere(
    finished: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["run", "--strategy", "prototypes", "--set", "features=checkpoint:random-nano"]
    words += ["--set", "clusters=4", "--budget", "1ep", "--draws", "1"]
    words += ["--data", f"folder:{pictures}"]
    words += ["--out", str(finished.parent)]
    assert cli(monkeypatch, *words, "--json") == OK
    told = json.loads(capsys.readouterr().out)
    prior = f"the encoder of run {finished.name} (random, 2step of folder:toy)"
    assert told["record"]["strategy"]["prior"] == prior
    first = json.loads((finished / "record.json").read_text())
    ledger = told["record"]["ledger"]
    assert ledger["flops_prior"] == first["ledger"]["flops_total"]
    assert ledger["flops_total"] == sum(ledger["flops"].values())
    assert told["record"]["ledger"]["seconds"]["setup"] > 0
    assert cli(monkeypatch, *words) == OK
    shown = " ".join(capsys.readouterr().out.split())
    assert "uses an external prior: the encoder of run" in shown
    page = finished.parent / "page"
    assert (
        cli(monkeypatch, "compare", told["run"], "--out", str(page), "--figures", "none", "--json")
        == OK
    )
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["prior"] == prior
    html = (page / "report.html").read_text()
    assert f"prototypes uses an external prior: {prior}." in plain(html)
    assert "setup (before training)" in html


def test_a_prior_is_text_and_nothing_else(tmp_path: Path) -> None:
    store = pair(tmp_path)
    assert "external prior" not in html_of(store)
    evil = record("clmae", 1, 0.5)
    evil["strategy"]["prior"] = EVIL
    put(store, "evil", evil)
    html = html_of(store)
    assert "clmae uses an external prior: " in html
    assert "<script>" not in foreign(html)
    assert "\x1b" not in html


def test_nothing_is_left_behind_by_features_that_cannot_be(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = ["run", "--strategy", "prototypes", "--out", str(tmp_path / "runs")]
    words += ["--data", f"folder:{pictures}"]
    assert cli(monkeypatch, *words, "--set", "features=checkpoint:mine") == USAGE
    assert "unknown run 'mine'" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*/record.json"))
