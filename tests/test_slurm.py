"""Runs on a real Slurm of two virtual nodes: done, stopped, killed, refused, and never lost."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import hurry, managed, said, slurm, until
from PIL import Image

from maskbench.benchmark.slurm import Launch, Slurm, outcomes, states, submit, wait
from maskbench.errors import ClusterError, InterruptedRunError

pytestmark = [pytest.mark.slow, pytest.mark.shared]
ONE, TWO = "partition=low,time=15", "partition=low,time=15,nodes=2"
SELDOM: dict[str, Any] = {"checkpoint-every": "1h"}
"""So that what is saved was saved when somebody asked."""


@pytest.fixture(scope="module")
def lab(shared: Path) -> Iterator[Path]:
    with slurm(shared) as folder:
        rng = np.random.default_rng(0)
        (folder / "pictures").mkdir()
        for i in range(32):
            pixels = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
        yield folder


def launch(lab: Path, name: str, seed: int = 0, out: str = "runs", **more: Any) -> Launch:
    told = {"strategy": "random", "budget": "150step", "batch": 16, "checkpoint-every": "0.2s"}
    told |= {"data": f"folder:{lab / 'pictures'}", "seed": seed, "out": lab / out, **more}
    return Launch(name, ("run", *(str(w) for k, v in told.items() for w in (f"--{k}", v))))


def folder(lab: Path, seed: int, out: str = "runs") -> Path:
    (found,) = (lab / out).glob(f"*-s{seed}-*")
    return found


def record(lab: Path, seed: int, out: str = "runs") -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder(lab, seed, out) / "record.json").read_text())
    return told


def encoder(lab: Path, seed: int, out: str = "runs") -> str:
    return hashlib.md5((folder(lab, seed, out) / "encoder.safetensors").read_bytes()).hexdigest()


def begun(lab: Path, seed: int, out: str = "runs") -> None:
    """Until it has saved after its first steps."""
    until(lambda: list((lab / out).glob(f"*-s{seed}-*/checkpoints/step-*[1-9].json")), 120)


def trains(lab: Path, out: str) -> None:
    """Until it has logged a step."""
    until(lambda: any(path.stat().st_size for path in (lab / out).glob("*/metrics.jsonl")), 120)


def waits(logs: Path) -> None:
    """Until all jobs have been queued again."""
    until(
        lambda: all(state.startswith("requeued") for state in states(logs).values()),
        tell=lambda: (states(logs), outcomes(logs)),
    )


def here(whole: Launch, *more: str) -> None:
    """The same without Slurm."""
    words = [sys.executable, "-m", "maskbench", *whole.words, *more]
    subprocess.run(words, check=True, capture_output=True)


def child(logs: Path, name: str, rank: int = 0) -> int:
    """The process of a run: it writes its log."""
    log = logs / name / f"rank-{rank}.log"
    for pid in (int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal()):
        try:
            if Path(f"/proc/{pid}/fd/1").readlink() == log:
                return pid
        except OSError:
            continue
    raise AssertionError(f"nobody writes {log}")


def test_five_runs_one_of_them_on_two_nodes(lab: Path) -> None:
    """Two arrays, since four jobs are too many for one here; one at a time; one cannot be."""
    logs = lab / "logs-a"
    runs = [launch(lab, f"s{seed}", seed, "a", budget="20step") for seed in range(3)]
    wrong = launch(lab, "wrong", 9, "a", strategy="randm")
    jobs = submit([*runs[:2], wrong, runs[2]], Slurm.parse(f"{ONE},array-parallelism=1"), logs)
    again = submit([*runs, wrong], Slurm.parse(ONE), logs)
    assert [job.new for job in jobs] == [True] * 4
    assert [job.new for job in again] == [False] * 4
    assert {job.job for job in again} == {job.job for job in jobs}
    assert len({job.job.partition("_")[0] for job in jobs}) == 2
    pair = launch(lab, "pair", 7, "a", budget="20step")
    assert submit([pair], Slurm.parse(TWO), logs)[0].new
    most = []

    def tell(found: Any) -> None:
        most.append(sum(s == "running" for run, s in found.items() if run != "pair"))

    wait(logs, tell, every=0.5)
    assert max(most) == 1
    ended = outcomes(logs)
    assert {run: one["code"] for run, one in ended.items()} == {
        **dict.fromkeys(("s0", "s1", "s2", "pair"), 0),
        "wrong": 2,
    }
    assert "Did you mean 'random'" in " ".join(ended["wrong"]["said"].split())
    assert [record(lab, seed, "a")["status"] for seed in (0, 1, 2, 7)] == ["finished"] * 4
    assert record(lab, 7, "a")["provenance"]["processes"] == 2
    assert {(logs / "pair" / f"rank-{rank}.log").is_file() for rank in (0, 1)} == {True}


def test_stopped_killed_and_cancelled_runs_end_as_if_nothing_was(lab: Path) -> None:
    """Preempted by a better partition, asked by Slurm's notice, killed, cancelled."""
    logs = lab / "logs-b"
    better, notice = (launch(lab, n, out=n, **SELDOM) for n in ("better", "notice"))
    killed, cancelled = (launch(lab, n, out=n) for n in ("killed", "cancelled"))
    preempted, asked = submit([better, notice], Slurm.parse(ONE), logs)
    trains(lab, "better")
    trains(lab, "notice")
    said("scancel", "--signal", "TERM", asked.job)
    said("scancel", "--signal", "USR2", asked.job)
    node = said("squeue", "-h", "-j", preempted.job, "-o", "%N")
    said("sbatch", "-p", "high", "-w", node, "-o", "/dev/null", "--wrap", "sleep 1")
    waits(logs)
    managed("scancel", "--partition", "high")
    wait(logs, hurry, every=0.5)
    assert {one["restart"] for one in outcomes(logs).values()} == {1}
    _, job = submit([killed, cancelled], Slurm.parse(ONE), logs)
    begun(lab, 0, "killed")
    os.kill(child(logs, "killed"), signal.SIGKILL)
    begun(lab, 0, "cancelled")
    said("scancel", job.job)
    until(lambda: states(logs)["cancelled"] == "gone")
    assert record(lab, 0, "cancelled")["status"] == "interrupted"
    assert [one.new for one in submit([killed, cancelled], Slurm.parse(ONE), logs)] == [False, True]
    wait(logs, hurry, every=0.5)
    assert {one["code"] for one in outcomes(logs).values()} == {0}
    here(launch(lab, "whole", out="whole"))
    for out in ("better", "notice", "killed", "cancelled"):
        (resumed,) = record(lab, 0, out)["provenance"]["resumed"]
        print(f"{out}: went on after step {resumed['step']} of 150")
        assert 0 < resumed["step"] < 150
        assert encoder(lab, 0, out) == encoder(lab, 0, "whole")


def test_a_team_that_loses_a_process_and_then_a_node(lab: Path) -> None:
    logs = lab / "logs-c"
    submit([launch(lab, "team", 5)], Slurm.parse(TWO), logs)
    begun(lab, 5)
    os.kill(child(logs, "team", rank=1), signal.SIGKILL)
    waits(logs)
    hurry()
    until(lambda: len(record(lab, 5)["provenance"]["resumed"]) == 1)
    said("scontrol", "update", "nodename=n2", "state=down", "reason=tested")
    waits(logs)
    managed("scontrol", "update", "nodename=n2", "state=resume")  # or it has come back by itself
    until(lambda: "down" not in said("sinfo", "-h", "-n", "n2", "-o", "%T"))
    wait(logs, hurry, every=0.5)
    told = record(lab, 5)
    assert (told["status"], len(told["provenance"]["resumed"])) == ("finished", 2)
    assert outcomes(logs)["team"]["restart"] == 2
    here(launch(lab, "whole", 5, "whole-team"), "--nproc", "2")
    print("went on after", [one["step"] for one in told["provenance"]["resumed"]], "of 150")
    assert encoder(lab, 5) == encoder(lab, 5, "whole-team")


def test_refused_and_detached(lab: Path) -> None:
    """What Slurm says is shown; what was submitted goes on."""
    logs = lab / "logs-d"
    held = launch(lab, "held", 8)
    assert submit([held], Slurm.parse(ONE), logs)[0].new
    for wrong, words in (
        ("partition=nowhere", "invalid partition specified: nowhere"),
        ("partition=low,time=2h", "Requested time limit is invalid"),
        ("nodes=3", "More processors requested than permitted"),
    ):
        with pytest.raises(ClusterError) as caught:
            submit([held, launch(lab, "more", 9)], Slurm.parse(wrong), logs)
        assert words in str(caught.value)
        assert "did not take 1 runs (more)" in str(caught.value)
        assert "1 of the other runs have been submitted" in str(caught.value)
    assert list(states(logs)) == ["held"]

    def press(found: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError, match="the jobs go on") as stopped:
        wait(logs, press)
    command = str(stopped.value).splitlines()[-1].split()
    assert command[0] == "scancel"
    said(*command)
    until(lambda: states(logs) == {"held": "gone"})
