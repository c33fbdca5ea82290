"""Several processes as one run, from the command line: lost, hung, stopped, refused."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import cli
from safetensors.torch import load_file
from test_resume import pictures, same

from maskbench import launch, team
from maskbench.errors import UsageError

__all__ = ["pictures"]

BUDGET = ["--budget", "60step", "--batch", "16", "--draws", "1", "--checkpoint-every", "0.2s"]


def command(pictures: Path, out: str, *more: str) -> list[str]:
    words = ["run", "--strategy", "clmae-fast", "--data", f"folder:{pictures}", "--out", out]
    return [sys.executable, "-m", "maskbench", *words, *BUDGET, *more]


@contextmanager
def started(words: list[str], out: Path) -> Iterator["subprocess.Popen[str]"]:
    """A command that has made a checkpoint after ten steps."""
    env = {**os.environ, "MASKBENCH_PATIENCE_S": "8"}
    with subprocess.Popen(
        words, cwd=out.parent, env=env, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            deadline = time.monotonic() + 240
            while not list(out.glob("*/checkpoints/step-00000000001*.json")):
                assert time.monotonic() < deadline
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def members(process: "subprocess.Popen[str]") -> list[int]:
    """The processes that a supervisor has started, in their order."""
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]


def ended(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("*/record.json")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "signum"), [(1, "SIGKILL"), (0, "SIGKILL"), (1, "SIGSTOP")])
def test_a_lost_process_costs_no_more_than_the_last_steps(
    pictures: Path, tmp_path: Path, rank: int, signum: str
) -> None:
    """The others leave within 30 s, the run begins again by itself, and ends as if nothing was."""
    whole = command(pictures, "whole", "--nproc", "2")
    subprocess.run(whole, cwd=tmp_path, check=True, capture_output=True)
    lost = command(pictures, "lost", "--nproc", "2")
    with started(lost, tmp_path / "lost") as process:
        pair = members(process)
        begun = time.monotonic()
        os.kill(pair[rank], getattr(signal, signum))
        while any(Path(f"/proc/{member}").exists() for member in pair):
            assert time.monotonic() - begun < 30
            time.sleep(0.05)
        _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "starting all 2 again (1 of 3 times)" in said
    assert "going on after step" in said
    (one,), (other,) = tmp_path.glob("whole/*-s0-*"), tmp_path.glob("lost/*-s0-*")
    same(one, other)


@pytest.mark.slow
def test_a_signal_to_the_supervisor_saves_and_leaves(pictures: Path, tmp_path: Path) -> None:
    words = command(pictures, "runs", "--nproc", "2")
    with started(words, tmp_path / "runs") as process:
        pair = members(process)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - asked < 10
    assert process.returncode == 143, said
    assert not any(Path(f"/proc/{member}").exists() for member in pair)
    assert ended(tmp_path / "runs")["status"] == "interrupted"


def test_impossible_teams_are_refused(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["run", "--strategy", "random", "--out", str(tmp_path / "runs")]
    assert cli(monkeypatch, *words, "--nproc", "4096") == 2
    assert "choose at most that" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setenv("RANK", "0")
    assert cli(monkeypatch, *words, "--nproc", "2") == 2
    assert "torchrun has started" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setenv("WORLD_SIZE", "2")
    data = ["--data", f"folder:{pictures}"]
    assert cli(monkeypatch, *words, *data, "--batch", "15") == 2
    message = "2 does not divide the batch of 15 images: take --batch 14"
    assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(UsageError, match="only 3 training images, fewer than processes"):
        team.check(4, 4, 3, "cpu")
    assert not list(tmp_path.glob("runs/random*"))


POISON = """
import torch
from maskbench.strategy import Mask, MaskStrategy

class Poison(MaskStrategy):
    family, source, summary = "guided", "test", "poisons an image"

    def mask(self, batch, context):
        if context.step == 7 and batch.first > 0:
            batch.images[0] = float("nan")
        scores = batch.images.flatten(1)[:, : context.grid.patches]
        return Mask.from_scores(scores, context.grid)
"""


@pytest.mark.slow
@pytest.mark.parametrize("skips", [0, 1])
def test_a_bad_image_of_one_process_stops_or_skips_in_all(
    pictures: Path, tmp_path: Path, skips: int
) -> None:
    """The process that has it cannot even make a mask; nobody waits for it."""
    (tmp_path / "poison.py").write_text(POISON)
    more = ["--nproc", "2", "--strategy", "poison.py:Poison", "--on-nonfinite", f"skip:{skips}"]
    words = command(pictures, "runs", *more)
    done = subprocess.run(
        words, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == (0 if skips else 5), done.stderr
    record = ended(tmp_path / "runs")
    assert record["status"] == ("finished" if skips else "diverged")
    assert record["nonfinite"] == {"steps_skipped": [7] if skips else []}
    if not skips:
        (path,) = tmp_path.glob("runs/*/nonfinite.json")
        told = json.loads(path.read_text(encoding="utf-8"))
        assert told["step"] == 7
        assert len(told["positions"]) == 16


@pytest.mark.parametrize(("asked", "starts", "code"), [(0, 3, 76), (2, 1, 130), (15, 1, 143)])
def test_new_starts_have_an_end(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: int,
    starts: int,
    code: int,
) -> None:
    """After so many, or when somebody has asked meanwhile; and the last loss is told."""
    seen = []

    def once(words: list[str], processes: int, forwarding: Any) -> tuple[int, str]:
        seen.append(words)
        forwarding.asked = asked
        return 76, "killed: process 1 by SIGKILL, of 2"

    monkeypatch.setattr(launch, "_once", once)
    monkeypatch.setattr(launch, "PAUSE_S", 0.0)
    assert launch.launch(["run"], 2, retries=2) == code
    assert len(seen) == starts
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("maskbench: killed: process 1 by SIGKILL, of 2. The same command")


@pytest.mark.slow
def test_two_that_race_for_one_folder(pictures: Path, tmp_path: Path) -> None:
    """One of them does the run, the other is told who does (or did); there is one folder."""
    words = command(pictures, "runs")
    pair = [
        subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=240)[1] for process in pair]
    codes = [process.returncode for process in pair]
    assert sorted(codes) in ([0, 75], [0, 0]), said
    if 75 in codes:
        refusal = " ".join(said[codes.index(75)].split())
        assert f"in use by process {pair[codes.index(0)].pid}" in refusal
    assert len(list(tmp_path.glob("runs/clmae*"))) == 1
    assert ended(tmp_path / "runs")["status"] == "finished"


@pytest.mark.slow
def test_one_process_and_two_make_the_same_encoder(pictures: Path, tmp_path: Path) -> None:
    encoders = []
    for out, more in (("one", []), ("two", ["--nproc", "2"])):
        done = subprocess.run(
            command(pictures, out, *more), cwd=tmp_path, check=True, capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr
        (path,) = tmp_path.glob(f"{out}/*/encoder.safetensors")
        encoders.append(load_file(path))
    assert ended(tmp_path / "two")["status"] == "finished"
    for name, value in encoders[0].items():
        if "qkv.bias" not in name:  # keys' biases have no gradient but rounding
            apart = (encoders[1][name] - value).norm() / value.norm().clamp(min=1e-12)
            assert apart < 1e-4, name
