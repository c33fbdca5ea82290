"""A tracker is told what is written, changes nothing and ends no run, whatever it raises."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import cli
from test_resume import AskedAt
from test_run import SMALL, pictures
from tracked import Notes, go

from maskbench import runner, trackers
from maskbench.benchmark import worker
from maskbench.care import Care
from maskbench.errors import OK, USAGE, StoppedRunError, UsageError
from maskbench.results import Store, read_metrics, read_record
from maskbench.session import Session

__all__ = ["pictures"]


@pytest.fixture(autouse=True)
def unprobed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked here does not depend on probes."""
    monkeypatch.setattr(runner, "probe", lambda session: None)


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


def put(monkeypatch: pytest.MonkeyPatch, **made: Told) -> None:
    """Trackers of these names, in place of the real ones."""
    monkeypatch.setattr(trackers, "KNOWN", {name: (lambda t=t: t) for name, t in made.items()})
    monkeypatch.setattr(trackers, "check", lambda names: None)


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


def test_an_id_is_kept_and_is_nobody_elses() -> None:
    record: dict[str, Any] = {"id": "random-nano-2ep-s0-0", "provenance": {"started": "today"}}
    other = {**record, "provenance": {**record["provenance"], "started": "yesterday"}}
    assert trackers.identity(record) == trackers.identity(json.loads(json.dumps(record)))
    assert trackers.identity(record) != trackers.identity(other)
    odd = trackers.identity({**record, "id": "a/b:c#d" * 40})
    assert len(odd) <= trackers.LONGEST
    assert not set("/\\#?%:") & set(odd)
