"""Slurm without a Slurm: options, what is asked of it, what it refuses, how a job ends."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from maskbench.benchmark import slurm_queue
from maskbench.benchmark.slurm import Launch, Slurm, states, submit, wait
from maskbench.errors import BusyError, ClusterError, InterruptedRunError, StoreError, UsageError
from maskbench.lock import hold

RUNS = [Launch(f"run-{i}", ("run", "bench.toml", "--only", f"run-{i}")) for i in range(3)]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90min", 90), ("2h", 120), ("1d", 1440), ("02:00:00", 120), ("1-00:00:30", 1441)],
)
def test_times(text: str, minutes: int) -> None:
    assert Slurm.parse(f"time={text}").time == minutes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partitoin=gpu", "unknown key 'partitoin'. Did you mean 'partition'"),
        ("gpu-per-node=8", "Did you mean 'gpus-per-node'"),
        ("nodes", "write nodes=VALUE"),
        ("nodes=", "write nodes=VALUE"),
        ("nodes=1,nodes=2", "nodes is given twice (1 and 2)"),
        ("nodes=0", "nodes=0: choose a whole number from 1 to 10,000"),
        ("nodes=two", "choose a whole number"),
        ("time=02:00", "HH:MM:SS"),
        ("time=0", "from 1 minute to 365 days"),
        ("time=400d", "from 1 minute to 365 days"),
        ("time=1", "notice=90: runs are asked"),
        ("mem=lots", "write MiB (4000), 500M, 64G or 1T"),
    ],
)
def test_options_that_cannot_be(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Slurm.parse(text)
    assert words in str(caught.value)


def test_what_slurm_is_told() -> None:
    given = "partition=gpu,time=2h,gpus-per-node=8,nodes=2,cpus-per-task=4,mem=64G,qos=low,"
    asked = Slurm.parse(given + "nodelist=n[1,3],setup=module load cuda; ulimit -n 9000,notice=60")
    assert (asked.tasks, asked.tasks_per_node, asked.pack) == (16, 8, 1)
    assert asked.parameters() == {
        "time": 120,
        "nodes": 2,
        "ntasks_per_node": 8,
        "gpus_per_node": 8,
        "cpus_per_task": 4,
        "mem": "64G",
        "array_parallelism": 256,
        "signal_delay_s": 60,
        "setup": ["module load cuda; ulimit -n 9000"],
        "srun_args": ["--kill-on-bad-exit=1", "--cpus-per-task=4"],
        "additional_parameters": {
            "requeue": True,
            "partition": "gpu",
            "qos": "low",
            "nodelist": "n[1,3]",
        },
    }
    assert Slurm.parse("") == Slurm()
    assert Slurm().parameters()["time"] == 60  # submitit's own default would be five minutes


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that are Slurm's, each of which does what a file says."""
    (tmp_path / "bin").mkdir()
    for name, does in {
        "sbatch": "cp $1 script; echo x >> calls; echo Submitted batch job $(wc -l < calls)1",
        "squeue": "cat queue",
        "srun": "exit 0",
        "scontrol": "echo 'MaxArraySize            = 3'",
    }.items():
        put(tmp_path, name, does)
    (tmp_path / "queue").touch()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(folder: Path, name: str, does: str) -> None:
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)


def queue(folder: Path, *lines: str) -> None:
    """What squeue says; a job's name is the one written down for a run."""
    jobs = json.loads((folder / "logs" / "jobs.json").read_text())["jobs"]
    told = [
        line.format(**{run.replace("-", ""): job["job"] for run, job in jobs.items()})
        for line in lines
    ]
    (folder / "queue").write_text("\n".join(told) + "\n")


def test_submitted_once_and_looked_up_by_number_and_name(fake: Path) -> None:
    """Two arrays here, the second after the first; then a number that is used again."""
    logs = fake / "logs"
    made = submit(RUNS, Slurm.parse("partition=gpu"), logs)
    assert [(one.name, one.job) for one in made] == [
        ("run-0", "11_0"),
        ("run-1", "11_1"),
        ("run-2", "21"),
    ]
    assert "--dependency=afterany:11" in (fake / "script").read_text()
    queue(
        fake,
        "11 0 {run0} RUNNING 0 None",
        "11 1 {run1} PENDING 1 BeginTime",
        "21 N/A {run2} PENDING 0 AssocGrpCPU limit",
    )
    found = {"run-0": "running", "run-1": "requeued", "run-2": "queued (AssocGrpCPU limit)"}
    assert states(logs) == found
    assert not any(one.new for one in submit(RUNS, Slurm(), logs))
    assert (fake / "calls").read_text().count("x") == 2
    queue(fake, "11 0 somebody RUNNING 0 None", "99 1 {run1} RUNNING 0 None")
    assert set(states(logs).values()) == {"gone"}
    packed = submit(RUNS, Slurm.parse("pack=3"), logs)
    assert {one.job for one in packed} == {"31"}
    assert all(one.new for one in packed)


def test_found_by_name_if_whoever_submitted_was_killed_before_it_knew_the_number(
    fake: Path,
) -> None:
    logs = fake / "logs"
    submit(RUNS[:1], Slurm(), logs)
    told = json.loads((logs / "jobs.json").read_text())
    told["jobs"]["run-0"]["id"] = None
    (logs / "jobs.json").write_text(json.dumps(told))
    queue(fake, "11 N/A {run0} COMPLETING 0 None")
    assert states(logs) == {"run-0": "completing"}
    assert [one.new for one in submit(RUNS[:1], Slurm(), logs)] == [False]


def test_a_queue_that_refuses(fake: Path) -> None:
    """The second array is refused: its runs are named, the first one's are kept."""
    logs = fake / "logs"
    refusal = "sbatch: error: QOSMaxSubmitJobPerUserLimit"
    does = (fake / "bin" / "sbatch").read_text()
    put(fake, "sbatch", f"grep -q afterany $1 && {{ echo '{refusal}' >&2; exit 1; }}\n{does}")
    with pytest.raises(ClusterError) as caught:
        submit(RUNS, Slurm(), logs)
    said = str(caught.value)
    assert caught.value.exit_code == 69
    assert "did not take 1 runs (run-2). It says: " + refusal in said
    assert "2 of the other runs have been submitted" in said
    assert "submits what is missing, and nothing twice" in said
    assert sorted(states(logs)) == ["run-0", "run-1"]


def test_what_is_missing_or_silent_is_named(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = fake / "logs"
    submit(RUNS[:1], Slurm(), logs)
    put(fake, "squeue", "echo 'slurm_load_jobs error: Unable to contact controller' >&2; exit 1")
    with pytest.raises(ClusterError, match="Unable to contact controller"):
        states(logs)
    with pytest.raises(ClusterError, match="Unable to contact"):
        submit(RUNS, Slurm(), logs)
    put(fake, "squeue", "sleep 5")
    monkeypatch.setattr(slurm_queue, "ANSWER_S", 0.2)
    with pytest.raises(ClusterError, match="gave no answer in 0 s"):
        states(logs)
    with hold(logs), pytest.raises(BusyError, match="in use"):
        submit(RUNS, Slurm(), logs)
    monkeypatch.setenv("PATH", str(fake))
    with pytest.raises(ClusterError, match="sbatch and srun and squeue cannot be found on PATH"):
        submit(RUNS, Slurm(), logs)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ClusterError, match=r"pip install 'maskbench\[slurm\]'"):
        submit(RUNS, Slurm(), logs)


def test_a_list_of_jobs_that_is_none(tmp_path: Path) -> None:
    assert states(tmp_path) == {}
    for text in ("[]", "{", '{"jobs": {"a": 1}}'):
        (tmp_path / "jobs.json").write_text(text)
        with pytest.raises(StoreError, match=r"jobs\.json cannot be read"):
            states(tmp_path)


def test_waiting_ends_with_the_jobs_or_with_ctrl_c(fake: Path) -> None:
    logs = fake / "logs"
    submit(RUNS, Slurm(), logs)
    seen = []
    wait(logs, lambda found: seen.append(dict(found)), every=0.0)
    assert seen == [dict.fromkeys(("run-0", "run-1", "run-2"), "gone")]

    def press(found: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError, match=r"scancel --name maskbench-\w+,maskbench-"):
        wait(logs, press)
