"""What happens when it breaks: bad numbers, full disks, two writers, signals."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import cli, make_job
from test_resume import pictures, session, told

from maskbench import lock, runner
from maskbench.care import Care
from maskbench.contract.compare import difference
from maskbench.contract.compare import snapshot as bits
from maskbench.errors import BusyError, DivergedError, StoreError, UsageError
from maskbench.events import Silent
from maskbench.guard import Guard
from maskbench.job import Job
from maskbench.results import Store, write_json
from maskbench.session import NONFINITE, load
from maskbench.signals import Asked, Signals
from maskbench.spec import Request
from maskbench.train import train

__all__ = ["pictures"]


def poisoned(job: Job, steps: set[int], monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """NaN in some steps: in the images, or in one gradient alone."""
    if where == "images":
        real = Job.batch

        def batch(self: Job, step: int) -> Any:
            found = real(self, step)
            if self is job and step in steps:
                found.images[0, 0, 0, 0] = float("nan")
            return found

        monkeypatch.setattr(Job, "batch", batch)
        return
    job.model.mask_token.register_hook(  # type: ignore[no-untyped-call]
        lambda gradient: gradient * float("nan") if job.pace.steps in steps else gradient
    )


@pytest.mark.parametrize("where", ["images", "gradient"])
@pytest.mark.parametrize("name", ["random", "clmae", "hpm"])
def test_a_bad_number_stops_before_it_reaches_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, name: str
) -> None:
    before = make_job(name, budget="9step")
    train(before, lambda row: None, lambda step: None, steps=range(5))
    job = make_job(name, budget="9step")
    poisoned(job, {5}, monkeypatch, where)
    work = session(tmp_path / "run", job)
    with pytest.raises(DivergedError, match=r"step 5 of 9.*not touched.*skip"):
        work.work()
    assert not difference(bits(before), bits(job))  # nothing of step 5 is left
    diagnosis = json.loads((work.folder / NONFINITE).read_text())
    assert diagnosis["step"] == 5
    assert len(diagnosis["positions"]) == 8
    assert set(diagnosis["losses"]) >= {"the loss"}
    if where == "gradient" or name == "random":
        assert "mask_token" in diagnosis["not_finite"]
    assert (diagnosis["losses"]["the loss"] is None) == (where == "images")
    state = load(work.folder, {"seed": 0}, print)
    assert state is not None
    assert state["pace"]["steps"] == 5


def test_skipping_is_counted_and_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("clmae", budget="9step")
    poisoned(job, {2, 5}, monkeypatch, "images")
    work = session(tmp_path / "run", job, care=Care(skips=2))
    work.work()
    assert work.guard.skipped == [2, 5]
    assert job.pace.steps == 9
    assert all(bool(torch.isfinite(value).all()) for value in job.model.state_dict().values())
    other = make_job("clmae", budget="9step")
    poisoned(other, {2, 5, 7}, monkeypatch, "images")
    with pytest.raises(DivergedError, match=r"step 7 .*after 2 skipped"):
        session(tmp_path / "other", other, care=Care(skips=2)).work()


def test_a_device_that_is_not_waited_for_keeps_its_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU: the optimiser itself does nothing from the first bad step on."""
    before, job = make_job(budget="9step"), make_job(budget="9step")
    train(before, lambda row: None, lambda step: None, steps=range(5))
    poisoned(job, {5}, monkeypatch, "images")
    found: dict[str, Any] = {}
    guard = Guard(job, tell=found.update)
    guard._eager = False
    with pytest.raises(DivergedError, match="the loss is nan at step 5 of 9"):
        train(job, lambda row: None, lambda step: None, guard=guard)
    assert not difference(dict(before.model.state_dict()), dict(job.model.state_dict()))
    assert found["step"] == 5
    assert math.isnan(found["losses"]["the loss"])
    assert math.isnan(found["gradient_norm"])


def go(store: Store, pictures: Path, **changes: Any) -> runner.Result:
    """A small run."""
    small = {"strategy": "random", "budget": "6step", "batch": 8, "draws": 1}
    request = Request(**{**small, "data": f"folder:{pictures}", **changes})
    return runner.run(request, store, Silent(), care=Care(every=0.0))


@contextmanager
def holder(folder: Path) -> Iterator[int]:
    """A living process that holds a folder."""
    code = "import sys, time; from pathlib import Path; from maskbench import lock\n"
    code += "with lock.hold(Path(sys.argv[1])): print('held', flush=True); time.sleep(100)"
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process.pid
        finally:
            process.kill()


def test_a_second_writer_is_refused_and_a_dead_one_is_not_missed(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Store(tmp_path / "runs")
    folder = go(store, pictures).folder
    record = json.loads((folder / "record.json").read_text())
    write_json(folder / "record.json", {**record, "status": "running"})
    with holder(folder) as pid:
        assert lock.held(folder)
        with pytest.raises(BusyError, match=rf"in use by process {pid} on .* since"):
            go(store, pictures)
        assert cli(monkeypatch, "ls", "runs", "--out", str(store.root), "--json") == 0
        assert json.loads(capsys.readouterr().out)[0]["status"] == "running"
    assert not lock.held(folder)
    assert cli(monkeypatch, "ls", "runs", "--out", str(store.root), "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["status"] == "killed"
    assert (folder / ".holder.json").exists()  # left by the dead
    again = go(store, pictures)
    assert again.folder == folder
    assert not again.reused


def test_settings_changed_by_mistake_are_named(pictures: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    folder = go(store, pictures).folder
    record = json.loads((folder / "record.json").read_text())
    write_json(folder / "record.json", {**record, "status": "interrupted"})
    with pytest.raises(UsageError, match=r"base_lr was .* and is 0.5.*--fresh.*--out"):
        go(store, pictures, lr=0.5)
    assert [path.name for path in tmp_path.glob("runs/random*")] == [folder.name]


def test_a_file_size_limit_stops_the_run_and_the_last_checkpoint_loads(
    pictures: Path, tmp_path: Path
) -> None:
    """In a process of its own, which may write 1 MB per file: the second checkpoint is larger."""
    store = Store(tmp_path / "runs")
    child = os.fork()
    if not child:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
            go(store, pictures)
        except StoreError as error:
            code = 74 if "file-size limit" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 74
    (path,) = tmp_path.glob("runs/*/record.json")
    assert json.loads(path.read_text())["status"] == "failed"
    assert not list(path.parent.glob("checkpoints/.*"))
    assert not go(store, pictures).reused  # with room again, it is done


def test_one_signal_waits_for_the_step_and_two_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        with pytest.raises(Asked, match="SIGUSR1"):
            os.kill(os.getpid(), signal.SIGUSR1)  # outside of a step: at once
        with signals.until_the_step_ends():
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.asked == signal.SIGTERM
            with pytest.raises(Asked, match="SIGINT"):
                os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setattr("maskbench.signals.GRACE_S", 0.05)
    with Signals() as signals, signals.until_the_step_ends():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Asked, match="SIGTERM"):
            time.sleep(5)  # a step that does not end


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [("SIGTERM", 143), ("SIGUSR1", 143), ("SIGINT", 130)])
def test_a_signal_saves_and_leaves(pictures: Path, tmp_path: Path, signum: str, code: int) -> None:
    words = ["run", "--strategy", "clmae", "--data", f"folder:{pictures}", "--budget", "40step"]
    words += ["--batch", "16", "--draws", "1"]
    command = [sys.executable, "-m", "maskbench", *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            begun = time.monotonic()
            while not any(p.stat().st_size for p in tmp_path.glob("runs/*/metrics.jsonl")):
                assert time.monotonic() - begun < 200
                assert process.poll() is None
                time.sleep(0.02)
            asked = time.monotonic()
            process.send_signal(getattr(signal, signum))
            _, said = process.communicate(timeout=60)
            assert time.monotonic() - asked < 10
        finally:
            process.kill()
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert "same command goes on" in said.replace("\n", " ")
    (path,) = tmp_path.glob("runs/*/record.json")
    assert json.loads(path.read_text())["status"] == "interrupted"
    steps = [int(p.stem[5:]) for p in path.parent.glob("checkpoints/*.pt")]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert f"going on after step {max(steps)}" in done.stderr
    assert json.loads(path.read_text())["status"] == "finished"


@pytest.mark.parametrize("pieces", [2, 3, 8])
@pytest.mark.parametrize("name", ["random", "clmae", "hpm"])
def test_a_batch_in_pieces_makes_the_same_step(tmp_path: Path, name: str, pieces: int) -> None:
    whole, cut = (make_job(name, budget="43img") for _ in range(2))
    session(tmp_path / "whole", whole).work()
    work = session(tmp_path / "cut", cut, care=Care(pieces=pieces))
    work.work()
    for key, value in whole.model.state_dict().items():
        if "qkv.bias" in key:
            continue  # keys' biases have no gradient but rounding
        apart = (cut.model.state_dict()[key] - value).norm() / value.norm().clamp(min=1e-12)
        assert apart < 1e-5, key
    assert len(told(work)[1]) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nproc", "0"], "at least 1"),
        (["--checkpoint-every", "3ep"], "give a time"),
        (["--on-nonfinite", "ignore"], "stop, or skip:K"),
        (["--on-nonfinite", "skip:-1"], "stop, or skip:K"),
        (["--accumulate", "0"], "at least 1"),
    ],
)
def test_wrong_care_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert cli(monkeypatch, "run", "--strategy", "random", *words) == 2
    assert message in " ".join(capsys.readouterr().err.split())
