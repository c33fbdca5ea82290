"""One run in one folder, end to end; and everything that is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import cli
from PIL import Image
from safetensors.numpy import load_file

from maskbench import runner
from maskbench.errors import DATA, DIVERGED, IO, OK, USAGE
from maskbench.events import Silent
from maskbench.plan import resolve
from maskbench.report.tape import read_masks
from maskbench.results import FIELDS, Store, read_metrics
from maskbench.spec import Request

SMALL = {"budget": "2ep", "batch": 10, "draws": 2}


def paint(folder: Path, count: int, seed: int) -> None:
    """Two classes of noisy 32 px pictures: reddish and bluish."""
    rng = np.random.default_rng(seed)
    for label, tint in (("red", (60, 0, 0)), ("blue", (0, 0, 60))):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 150, (32, 32, 3)) + np.array(tint)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{i}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    paint(root / "train", 20, 0)
    paint(root / "test", 10, 1)
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store") / "runs")


def go(store: Store, pictures: Path, *, fresh: bool = False, **changes: Any) -> runner.Result:
    request = Request(**{"strategy": "random", "data": f"folder:{pictures}", **SMALL, **changes})
    return runner.run(request, store, Silent(), fresh=fresh)


@pytest.mark.parametrize("strategy", ["random", "clmae"])
def test_a_run_leaves_everything_it_promises(store: Store, pictures: Path, strategy: str) -> None:
    result = go(store, pictures, strategy=strategy)
    record = result.record
    assert set(FIELDS) <= set(record)
    assert record["status"] == "finished"
    assert record["id"] == result.folder.name
    budget = {"text": "2ep", "unit": "images", "amount": 80, "images": 80, "steps": 8}
    assert budget | {"epochs": 2.0} == {
        name: value for name, value in record["budget"].items() if name != "seconds_expected"
    }
    assert record["ledger"]["images"] == 80
    assert record["ledger"]["images_distinct"] == 40
    assert record["data"]["classes"] == ["blue", "red"]
    names = {path.name for path in result.folder.iterdir()}
    assert names == {
        "record.json", "settings.json", "metrics.jsonl", "masks.safetensors", "encoder.safetensors",
        "checkpoints", "moments", "features", "fewshot_manifest.json", ".lock",
    }  # fmt: skip
    manifest = json.loads((result.folder / "fewshot_manifest.json").read_text())
    assert manifest["draws"][0]["ids"][0].startswith("train/blue/")
    kept = {path.suffix for path in (result.folder / "checkpoints").iterdir()}
    assert kept == {".json", ".pt"}
    assert json.loads((result.folder / "settings.json").read_text()) == record["settings"]
    rows = read_metrics(result.folder)
    assert [row["images"] for row in rows] == list(range(10, 81, 10))
    encoder = load_file(result.folder / "encoder.safetensors")
    assert encoder["blocks.3.attn.qkv.weight"].shape == (288, 96)
    assert not any(name.startswith("decoder") for name in encoder)


def test_masks_of_the_same_images_at_nine_moments(store: Store, pictures: Path) -> None:
    results = [go(store, pictures, strategy=name) for name in ("random", "clmae")]
    positions = []
    for result in results:
        tape = read_masks(result.folder)
        masks = tape.hidden.reshape(9, 40, 64)
        assert (masks.sum(2) == 48).all()
        assert result.record["masks"]["moments"][::8] == [0.0, 1.0]
        assert tape.shown.shape == (12, 32, 32, 3)
        assert (masks[0] != masks[-1]).any()
        if result.record["strategy"]["name"] == "random":
            assert len({image.tobytes() for image in masks[0]}) == 40
        positions.append(list(tape.positions))
    assert positions[0] == positions[1]


def test_probes_stand_beside_their_controls(store: Store, pictures: Path) -> None:
    record = go(store, pictures).record
    rows = [*record["probes"], *record["controls"]]
    assert {row["feature"] for row in record["probes"]} == {"patchmean", "cls", "cls+patchmean"}
    assert {row["feature"] for row in record["controls"]} == {"untrained", "pixels"}
    for feature in ("patchmean", "untrained", "pixels"):
        cells = {(r["shots"], r["draw"]) for r in rows if r["feature"] == feature}
        assert {(n, d) for n in (1, 2, 4, 8, 16) for d in (0, 1)} <= cells
        assert any(r["probe"] == "knn20" and r["feature"] == feature for r in rows)


def test_a_finished_run_is_not_run_again_unless_fresh(store: Store, pictures: Path) -> None:
    first, again = go(store, pictures), go(store, pictures)
    assert again.reused
    assert again.folder == first.folder
    fresh = go(store, pictures, fresh=True)
    assert not fresh.reused
    assert fresh.folder != first.folder
    assert fresh.record["settings"] == first.record["settings"]


@pytest.mark.slow
def test_same_settings_same_bytes(store: Store, pictures: Path) -> None:
    """Encoder, masks and probe scores are equal to the bit; another seed's are not."""
    runs = [go(store, pictures, strategy="clmae-fast", fresh=True) for _ in range(2)]
    for name in ("encoder.safetensors", "masks.safetensors"):
        assert (runs[0].folder / name).read_bytes() == (runs[1].folder / name).read_bytes()
    assert runs[0].record["probes"] == runs[1].record["probes"]
    other = go(store, pictures, strategy="clmae-fast", seed=1)
    name = "encoder.safetensors"
    assert (runs[0].folder / name).read_bytes() != (other.folder / name).read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"budget": "1ep"},
        {"batch": 20},
        {"hidden": 32},
        {"lr": 1e-2},
        {"limit": 30},
        {"strategy": "clmae", "sets": ("last=0",)},
        {"precision": "bf16"},
        {"probe_at": (0.5,)},
        {"budget": "1Tflop"},
    ],
)
def test_every_setting_makes_another_run(store: Store, pictures: Path, change: Any) -> None:
    def name(**changes: Any) -> str:
        given = {"strategy": "random", "data": f"folder:{pictures}", **SMALL, **changes}
        return resolve(Request(**given), store, Silent()).settings.run_id()

    assert name(**change) not in {name(), name(strategy="clmae")}
    assert name(**change) == name(**change)
    assert go(store, pictures).folder.name.startswith(name())


def test_flat_folder_is_pretraining_alone(store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    record = go(store, tmp_path, batch=4).record
    assert record["status"] == "finished"
    assert record["probes"] == record["controls"] == []
    assert record["data"]["classes"] == []


def test_json_is_one_object_on_stdout(
    pictures: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["run", "--strategy", "random", "--data", f"folder:{pictures}", "--budget", "2ep"]
    words += ["--batch", "10", "--draws", "2", "--out", str(store.root)]
    assert cli(monkeypatch, *words, "--json") == OK
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == told["record"]["status"] == "finished"
    assert (Path(told["run"]) / "record.json").is_file()
    assert cli(monkeypatch, *words) == OK
    shown = capsys.readouterr().out
    assert told["run"].split("/")[-1] in shown.replace("\n", "")
    assert "untrained encoder" in shown
    assert "raw pixels" in shown


def test_ls_and_show(
    pictures: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = go(store, pictures)
    assert cli(monkeypatch, "ls", "--out", str(store.root), "--json") == OK
    rows = json.loads(capsys.readouterr().out)
    assert result.folder.name in {row["run"] for row in rows}
    assert cli(monkeypatch, "show", result.folder.name, "--out", str(store.root), "--json") == OK
    assert json.loads(capsys.readouterr().out)["id"] == result.folder.name
    assert cli(monkeypatch, "ls", "strategies", "--json") == OK
    entries = json.loads(capsys.readouterr().out)
    assert all({"name", "family", "source", "summary"} == set(entry) for entry in entries)
    assert cli(monkeypatch, "show", "nothing", "--out", str(store.root)) == USAGE
    assert "unknown run" in capsys.readouterr().err


def test_missing_data_is_exit_code_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", f"folder:{tmp_path}/none", "--out", str(tmp_path / "runs")]
    assert cli(monkeypatch, "run", "--strategy", "random", *words) == DATA
    assert "none" in capsys.readouterr().err


def test_a_diverged_run_says_so_and_leaves_no_encoder(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["run", "--strategy", "random", "--data", f"folder:{pictures}", "--lr", "900"]
    words += ["--batch", "2", "--budget", "200step", "--out", str(tmp_path)]
    nan = "maskbench.model.MaskedAutoencoder.patch_loss"
    monkeypatch.setattr(nan, staticmethod(lambda prediction, pixels: prediction.mean(-1) * np.nan))
    assert cli(monkeypatch, *words, "--json") == DIVERGED
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == told["record"]["status"] == "diverged"
    (folder,) = tmp_path.glob("*/record.json")
    record = json.loads(folder.read_text())
    assert record["status"] == "diverged"
    assert "not" in record["error"] or "nan" in record["error"]
    assert not (folder.parent / "encoder.safetensors").exists()


BROKEN = """
import torch
from maskbench.strategy import Mask, MaskStrategy

class Fewer(MaskStrategy):
    def mask(self, batch, context):
        return Mask(torch.zeros(len(batch.images), 64, dtype=torch.bool), context.grid)

class Fine(MaskStrategy):
    def mask(self, batch, context):
        return Mask.from_scores(context.uniform("mask", batch), context.grid)

class Floats(MaskStrategy):
    def mask(self, batch, context):
        return torch.rand(len(batch.images), 64)
"""


@pytest.mark.parametrize(("name", "says"), [("Fewer", "exactly 48 of 64"), ("Floats", "contract")])
def test_a_strangers_broken_strategy_is_named(
    name: str,
    says: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    words = ["--strategy", f"{tmp_path}/mine.py:{name}", "--data", f"folder:{pictures}"]
    assert cli(monkeypatch, "run", *words, "--batch", "10", "--out", str(tmp_path / "runs")) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert says in told
    assert name in told


def test_a_full_disk_is_exit_code_74_and_in_the_record(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner, "save_file", full)
    words = ["--data", f"folder:{pictures}", "--budget", "2step", "--batch", "4"]
    assert cli(monkeypatch, "run", "--strategy", "random", *words, "--out", str(tmp_path)) == IO
    (path,) = tmp_path.glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed"
    assert "no space is left on the disk" in record["error"]


def test_a_store_that_cannot_be_is_refused(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "else")
    words = ["run", "--strategy", "random", "--budget", "1step", "--limit", "100"]
    for name in ("file", "dangling"):
        assert cli(monkeypatch, *words, "--out", str(tmp_path / name)) == IO


def test_an_edited_strategy_is_another_run(store: Store, pictures: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    names = []
    for text in (BROKEN, BROKEN + "# edited"):
        file.write_text(text)
        names.append(go(store, pictures, strategy=f"{file}:Fine").folder.name)
    assert names[0] != names[1]
