"""TensorBoard and Weights & Biases hold what the files say, and change no bit of a run."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_run import pictures
from tracked import Notes, go, history, shown

from maskbench import runner, trackers
from maskbench.results import mean_accuracy, read_metrics
from maskbench.session import Session

__all__ = ["pictures"]


OFF_CLOCK = {"seconds", "images_per_s"}


@pytest.fixture(scope="module")
def plain(pictures: Path) -> runner.Result:
    """A run that tells nobody."""
    return go(pictures.parent / "plain", pictures)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Weights & Biases stays on this machine, and in this test's folder."""
    for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb" / name))
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def test_tensorboard_shows_every_line(plain: runner.Result, pictures: Path, tmp_path: Path) -> None:
    """And the encoder is equal, to the bit, to that of a run that tells nobody."""
    told = go(tmp_path, pictures, "tensorboard")
    shown(told.folder)
    assert plain.folder.name == told.folder.name
    for name in ("encoder.safetensors", "masks.safetensors", "settings.json"):
        assert (plain.folder / name).read_bytes() == (told.folder / name).read_bytes(), name
    assert plain.record["probes"] == told.record["probes"]
    assert not (plain.folder / "tensorboard").exists()
    timeless = [
        [{k: v for k, v in row.items() if k not in OFF_CLOCK} for row in read_metrics(run.folder)]
        for run in (plain, told)
    ]
    assert timeless[0] == timeless[1]


def test_wandb_offline_holds_config_history_and_summary(
    plain: runner.Result, pictures: Path, tmp_path: Path
) -> None:
    told = go(tmp_path, pictures, "wandb")
    name = "encoder.safetensors"
    assert (plain.folder / name).read_bytes() == (told.folder / name).read_bytes()
    rows, config, summary, header = history(told.folder)
    record, written = told.record, read_metrics(told.folder)
    assert [{k: v for k, v in row.items() if k[0] != "_"} for row in rows] == written
    assert [row["_step"] for row in rows] == [row["step"] for row in written]
    assert {name: config[name] for name in record["settings"]} == record["settings"]
    assert summary["ledger/flops_total"] == record["ledger"]["flops_total"]
    accuracy = mean_accuracy(record["probes"], "logreg", 4, "patchmean")
    assert summary["probes/patchmean/logreg/n=4"] == pytest.approx(accuracy)
    assert (header.display_name, header.run_group) == (record["id"], "random")
    assert header.project == "maskbench"
    assert header.run_id.startswith(record["id"])
    private = [path for path in told.folder.rglob("*") if path.name == "wandb-metadata.json"]
    assert not private
    assert (header.host, header.git.remote_url) == ("-", "")
    (sent,) = told.folder.glob("wandb/offline-run-*/run-*.wandb")
    assert str(tmp_path).encode() not in sent.read_bytes()
    assert not list((sent.parent / "files").iterdir())


def test_stopped_and_resumed_is_one_run_of_each(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed beyond its last checkpoint: what it does again is shown once."""
    both = ("tensorboard", "wandb")
    row = trackers.Trackers.row

    class Killed(BaseException):
        pass

    def dying(self: trackers.Trackers, numbers: Mapping[str, float]) -> None:
        row(self, numbers)
        if numbers["step"] == 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trackers.Trackers, "row", dying)
        patch.setattr(Session, "_save", saved_at(3))
        with pytest.raises(Killed):
            go(tmp_path, pictures, *both, every=0.0, strategy="hpm")
    say = Notes()
    told = go(tmp_path, pictures, *both, say=say, strategy="hpm")
    assert len(read_metrics(told.folder)[0]) > 7, "no numbers of the strategy"
    assert say.said == ["going on after step 3"]
    assert len(list((told.folder / "tensorboard").iterdir())) == 2
    shown(told.folder)
    headers = {history_id(path) for path in (told.folder / "wandb").glob("offline-run-*")}
    assert len(headers) == 1
    rows, _, summary, header = history(told.folder)
    assert {header.run_id} == headers
    assert [row["_step"] for row in rows] == [1, 2, 3, 4, 5, 4, 5, 6, 7, 8]
    assert summary["ledger/images"] == 80


def saved_at(step: int) -> Any:
    save = Session._save

    def only(self: Session, at: int) -> None:
        if at == step:
            save(self, at)

    return only


def history_id(folder: Path) -> str:
    (file,) = folder.glob("run-*.wandb")
    return file.stem.removeprefix("run-")


def test_a_folder_that_cannot_be_written(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say = Notes()
    monkeypatch.setattr(trackers.TensorBoard, "FOLDER", "settings.json")
    assert go(tmp_path, pictures, "tensorboard", say=say).record["status"] == "finished"
    assert say.said[0].startswith("tensorboard is not told any more (")


def test_weights_and_biases_without_a_login(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is asked for a key, and the run finishes."""
    import wandb

    say = Notes()
    wandb.teardown()  # what it has read from the environment is read again
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert go(tmp_path, pictures, "wandb", say=say).record["status"] == "finished"
    wandb.teardown()
    assert "wandb is not told any more (UsageError: No API key configured." in say.said[0]


@pytest.mark.slow
def test_the_first_of_several_processes_tells(pictures: Path, tmp_path: Path) -> None:
    words = ["run", "--strategy", "random", "--data", f"folder:{pictures}", "--budget", "2ep"]
    words += ["--batch", "10", "--draws", "2", "--out", str(tmp_path), "--nproc", "2"]
    command = [sys.executable, "-m", "maskbench", *words, "--track", "tensorboard,wandb"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "any more" not in done.stderr
    (events,) = tmp_path.glob("*/tensorboard/events*")
    shown(events.parents[1])
    (_,) = tmp_path.glob("*/wandb/offline-run-*")
