"""What runs inside a Slurm job, without a Slurm: lost, stopped, failed; and how a team meets."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import submitit

from maskbench.benchmark import slurm_job
from maskbench.benchmark.slurm import outcomes
from maskbench.benchmark.slurm_job import Job, team_variables


def env(rank: int = 0, tasks: int = 1) -> Any:
    return SimpleNamespace(
        job_id="7_1", global_rank=rank, local_rank=0, num_tasks=tasks,
        num_nodes=tasks, hostnames=["nowhere.invalid"], hostname="n1", USR_SIG="USR2",
    )  # fmt: skip


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Job]]:
    """A job of one run, whose process is a shell script, and its folder."""
    before = signal.getsignal(signal.SIGTERM)

    def make(script: str, who: Any = None) -> Job:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\ncd {tmp_path}\necho x >> starts\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))
        monkeypatch.setattr(submitit, "JobEnvironment", lambda: who or env())
        for name in ("PAUSE_S", "NOTICE_S", "TOGETHER_S"):
            monkeypatch.setattr(slurm_job, name, 0.01)
        (tmp_path / "jobs.json").write_text(
            json.dumps({"jobs": {"one": {"id": "7_1", "job": "j", "index": "1"}}})
        )
        return Job([("one", ["run"], str(tmp_path / "one"))])

    yield make
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("script", "starts", "code"),
    [
        ("exit 0", 1, 0),
        ("echo because; exit 4", 1, 4),
        ("kill -9 $$", 4, -9),
        ("exit 76", 4, 76),
        ("[ $(wc -l < starts) -gt 2 ] || kill -9 $$", 3, 0),
        ("exit 143", 1, 143),
    ],
)
def test_lost_processes_start_again_others_do_not(
    job: Any, tmp_path: Path, script: str, starts: int, code: int
) -> None:
    if code == 0:
        assert job(script)() == ["one"]
    else:
        with pytest.raises(RuntimeError, match=f"one.*exit code {code}"):
            job(script)()
    assert (tmp_path / "starts").read_text().count("x") == starts
    told = outcomes(tmp_path)["one"]
    assert (told["code"], told["job"], told["host"]) == (code, "7_1", "n1")
    assert told["said"] == ("because\n" if code == 4 else "")


def test_a_failed_run_does_not_keep_the_others_of_its_job_from_being_done(
    job: Any, tmp_path: Path
) -> None:
    one = job('[ "$3" = good ] || exit 4')
    one.runs = [(name, [name], str(tmp_path / name)) for name in ("bad", "good", "worse")]
    with pytest.raises(RuntimeError, match=r"bad: exit code 4, see .*; worse: exit code 4"):
        one()
    assert (tmp_path / "starts").read_text().count("x") == 3
    assert json.loads((tmp_path / "good" / "ended-0.json").read_text())["code"] == 0


def test_a_team_is_queued_again_as_a_whole(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its first task, through submitit; with a count that survives."""
    one = job("exit 76", env(tasks=2))
    made = []

    def notice(signum: int, frame: Any) -> None:
        made.append(one.checkpoint().function.lost)
        raise SystemExit

    before = signal.signal(signal.SIGUSR2, notice)
    try:
        with pytest.raises(SystemExit):
            one()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert made == [1]


ASKED = """
import signal, sys, time
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(print("asked", flush=True)))
while not asked:
    time.sleep(0.05)
time.sleep(0.5)
sys.exit(143)
"""


@pytest.mark.parametrize("by_slurm", [False, True])
def test_a_notice_asks_once(job: Any, tmp_path: Path, by_slurm: bool) -> None:
    """The process is told by the job, or has been by Slurm; twice would mean "at once"."""
    (tmp_path / "asked.py").write_text(ASKED)
    one = job(f"exec {sys.executable} asked.py")

    def notice(signum: int, frame: Any) -> None:
        for _ in range(2 if by_slurm else 0):  # to every process of the job, and twice
            os.kill(one._child._process.pid, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        one.checkpoint()
        raise SystemExit

    before = signal.signal(signal.SIGALRM, notice)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(SystemExit):
            one()
    finally:
        signal.signal(signal.SIGALRM, before)
    told = outcomes(tmp_path)["one"]
    assert (told["code"], told["said"]) == (143, "asked\n")


def test_what_a_team_needs_to_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first node's address where its name is not a machine's; another port each time."""
    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert team_variables(env(), 0) == {"OMP_NUM_THREADS": "4"}
    pair = [team_variables(env(rank, 2), 0) for rank in (0, 1)]
    assert [one.pop("RANK") for one in pair] == ["0", "1"]
    assert pair[0] == pair[1]
    assert pair[0] | {"MASTER_PORT": ""} == {
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASKBENCH_MEETING": "env://",
        "OMP_NUM_THREADS": "4",
    }
    assert team_variables(env(0, 2), 1)["MASTER_PORT"] != pair[0]["MASTER_PORT"]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert team_variables(env(0, 2), 0)["MASTER_PORT"] != pair[0]["MASTER_PORT"]
