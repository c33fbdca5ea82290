"""Trackers are told what the files say, change no bit of a run, and end none."""

import json
import math
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import cli
from test_resume import AskedAt
from test_run import SMALL, paint

from maskbench import runner, trackers
from maskbench.benchmark import worker
from maskbench.care import Care
from maskbench.errors import OK, USAGE, StoppedRunError, UsageError
from maskbench.events import Silent
from maskbench.results import Store, mean_accuracy, read_metrics, read_record
from maskbench.session import Session
from maskbench.spec import Request

OFF_CLOCK = {"seconds", "images_per_s"}


class Notes(Silent):
    """Keeps what must be said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


class Told:
    """A tracker that keeps what it is told, and raises when it is asked to."""

    def __init__(self, raises: str = "", at: int = 0) -> None:
        self._raises, self._at = raises, at
        self.calls: list[tuple[str, Any]] = []

    def _called(self, name: str, what: Any) -> None:
        self.calls.append((name, what))
        if name == self._raises and len(self.calls) > self._at:
            raise RuntimeError("the network is gone\nand more")

    def begin(self, record: Mapping[str, Any], folder: Path, step: int) -> None:
        self._called("begin", step)

    def row(self, numbers: Mapping[str, float]) -> None:
        self._called("row", dict(numbers))

    def end(self, record: Mapping[str, Any]) -> None:
        self._called("end", record["status"])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    paint(root / "train", 20, 0)
    paint(root / "test", 10, 1)
    return root


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


def go(
    root: Path,
    pictures: Path,
    *track: str,
    say: Silent | None = None,
    every: float = 600.0,
    **changes: Any,
) -> runner.Result:
    given = {"strategy": "random", "data": f"folder:{pictures}", **SMALL, **changes}
    store, care = Store(root), Care(every, moments=False, track=track)
    return runner.run(Request(**given), store, say or Silent(), care=care)


def put(monkeypatch: pytest.MonkeyPatch, **made: Told) -> None:
    """Trackers of these names, in place of the real ones."""
    monkeypatch.setattr(trackers, "KNOWN", {name: (lambda t=t: t) for name, t in made.items()})
    monkeypatch.setattr(trackers, "check", lambda names: None)


def scalars(folder: Path) -> tuple[dict[str, dict[int, float]], dict[str, str]]:
    """What TensorBoard shows: numbers by name and step, and texts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read: Any = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    tags = read.Tags()
    found = {name: read.Scalars(name) for name in tags["scalars"]}
    for name, events in found.items():
        assert len({event.step for event in events}) == len(events), f"{name} twice at a step"
    texts = {name: read.Tensors(name)[0].tensor_proto.string_val[0] for name in tags["tensors"]}
    return (
        {name: {event.step: event.value for event in events} for name, events in found.items()},
        {name: text.decode() for name, text in texts.items()},
    )


def shown(folder: Path) -> None:
    """TensorBoard shows the lines of a finished run, its accuracies and its ledger, in float32."""
    found, texts = scalars(folder)
    rows, record = read_metrics(folder), read_record(folder)
    assert len(rows) == 8
    for row in rows:
        for name, value in row.items():
            if name != "step":
                assert found[name].pop(row["step"]) == np.float32(value), (row["step"], name)
    last = record["budget"]["steps"]
    accuracy = mean_accuracy(record["probes"], "logreg", 4, "patchmean")
    ends = {name: values.pop(last) for name, values in found.items() if last in values}
    assert not any(found.values())
    assert ends["probes/patchmean/logreg/n=4"] == pytest.approx(accuracy)
    assert {"probes/untrained/logreg/n=4", "probes/pixels/knn20"} <= set(ends)
    assert ends["ledger/flops_total"] == np.float32(record["ledger"]["flops_total"])
    assert all(math.isfinite(value) for value in ends.values())
    assert f"| strategy | {record['strategy']['name']} |" in texts["settings/text_summary"]


def history(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any], Any]:
    """Rows, config and summary of all Weights & Biases files of a run, and its last header."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # as at the end of a process: its service has then written all

    rows: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    header: Any = None
    files = sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert files
    for path in files:
        for data in records(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                rows.append(values(record.history.item))
            elif kind == "summary":
                summary |= values(record.summary.update)
            elif kind == "run":
                header = record.run
                config |= values(record.run.config.update)
            elif kind == "config":
                config |= values(record.config.update)
    return rows, config, summary, header


def records(data: bytes) -> Iterator[bytes]:
    """What a file of Weights & Biases holds: 7 bytes, then a LevelDB log in blocks of 32 KiB."""
    assert data[:4] == b":W&B"
    at, parts, block = 7, b"", 32768
    while at + 7 <= len(data):
        if block - at % block < 7:  # no room for a head: the block is filled up
            at += block - at % block
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


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


@pytest.mark.parametrize(("raises", "at"), [("begin", 0), ("row", 3), ("end", 0)])
def test_a_tracker_that_raises_is_said_once(
    raises: str, at: int, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good, say = Told(raises, at), Told(), Notes()
    put(monkeypatch, bad=bad, good=good)
    result = go(tmp_path, pictures, "bad", "good", say=say)
    assert result.record["status"] == "finished"
    (said,) = say.said
    assert said.startswith("bad is not told any more (RuntimeError: the network is gone).")
    names = [name for name, _ in good.calls]
    assert names == ["begin", *["row"] * 8, "end"]
    assert [what for name, what in good.calls if name == "row"] == read_metrics(result.folder)
    assert [name for name, _ in bad.calls][-1] == raises


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


def test_whoever_will_not_wait_at_the_end_has_a_finished_run(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Told):
        def end(self, record: Mapping[str, Any]) -> None:
            raise KeyboardInterrupt

    say = Notes()
    put(monkeypatch, slow=Slow())
    assert go(tmp_path, pictures, "slow", say=say).record["status"] == "finished"
    assert "KeyboardInterrupt: it does not say why" in say.said[0]


def test_a_run_that_fails_ends_its_trackers(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    put(monkeypatch, told=told)

    def stopping(session: Session) -> None:
        session.signals = AskedAt(session.job, 4)
        session.work()

    with monkeypatch.context() as patch:
        patch.setattr(runner, "carry_out", stopping)
        with pytest.raises(StoppedRunError):
            go(tmp_path, pictures, "told")
    assert told.calls[-1] == ("end", "interrupted")
    told.calls.clear()
    go(tmp_path, pictures, "told")
    assert told.calls[0] == ("begin", 4)
    assert told.calls[-1] == ("end", "finished")


def test_the_time_of_a_tracker_is_off_the_clock(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Told):
        def row(self, numbers: Mapping[str, float]) -> None:
            time.sleep(0.25)

    put(monkeypatch, slow=Slow())
    seconds = go(tmp_path, pictures, "slow").record["ledger"]["seconds"]
    assert seconds["paused"] > 2.0
    assert seconds["training"] < 2.0


def test_what_cannot_be_told_is_refused_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--strategy", "random", "--out", str(tmp_path / "runs")]
    assert cli(monkeypatch, *words, "--track", "tensorbord") == USAGE
    assert "Did you mean 'tensorboard'?" in capsys.readouterr().err
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    for asked in (words, ["run", "quickstart", "--out", str(tmp_path / "runs")]):
        assert cli(monkeypatch, *asked, "--track", "wandb") == USAGE
        assert "pip install 'maskbench[wandb]'" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(UsageError, match=r"maskbench\[tensorboard\]"):
        go(tmp_path / "runs", tmp_path, "tensorboard")
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_that_name_is_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "emptytracker").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(trackers, "KNOWN", {"emptytracker": Told})
    with pytest.raises(UsageError, match="pip install"):
        trackers.named("emptytracker")


def test_care_travels_as_json_and_as_options() -> None:
    care = Care.of("1h", "stop", track="tensorboard, wandb,tensorboard")
    assert care.track == ("tensorboard", "wandb")
    assert Care.read(json.loads(json.dumps(vars(care)))) == care
    assert Care.read({"every": 3.0}) == Care(3.0)
    assert care.words()[-2:] == ("--track", "tensorboard,wandb")
    assert "--track" not in Care().words()


def test_runs_of_a_benchmark_stand_together(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is told by JSON who else is."""
    request = {"strategy": "random", "data": f"folder:{pictures}", **SMALL}
    origin = {"name": "mine", "sha256": "0" * 64, "run": "random-0", "at_a_time": 1}
    care = json.loads(json.dumps(vars(Care(moments=False, track=("tensorboard",)))))
    told = {"name": "random-0", "request": request, "care": care, "origin": origin}
    assert worker.carried_out(told, Store(tmp_path))["code"] == OK
    (events,) = tmp_path.glob("*/tensorboard/events*")
    record = read_record(events.parents[1])
    assert trackers.group(record) == "mine"


def test_an_id_is_kept_and_is_nobody_elses(plain: runner.Result) -> None:
    record = plain.record
    other = {**record, "provenance": {**record["provenance"], "started": "yesterday"}}
    assert trackers.identity(record) == trackers.identity(json.loads(json.dumps(record)))
    assert trackers.identity(record) != trackers.identity(other)
    odd = trackers.identity({**record, "id": "a/b:c#d" * 40})
    assert len(odd) <= trackers.LONGEST
    assert not set("/\\#?%:") & set(odd)
