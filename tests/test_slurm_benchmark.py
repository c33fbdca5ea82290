"""A benchmark on a real Slurm by the command line: detached, looked at, gone on with, compared."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import slurm, until
from test_benchmark_runs import encoders, put
from test_run import pictures

from maskbench.errors import OK
from maskbench.results import Store, read_record

__all__ = ["pictures"]

pytestmark = [pytest.mark.slow, pytest.mark.shared]

JOB = "partition=low,time=10min,cpus-per-task=1"


@pytest.fixture(scope="module")
def lab(shared: Path) -> Iterator[Path]:
    with slurm(shared) as folder:
        yield folder


def maskbench(verb: str, path: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    out = str(path.parent / "runs")
    command = [sys.executable, "-m", "maskbench", verb, str(path), "--out", out, *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=400)


def test_a_benchmark_as_jobs(lab: Path, tmp_path: Path, pictures: Path) -> None:
    path = put(tmp_path, pictures, more="[tiers.more]\nseeds = 2\n")
    reports = ("--reports", str(tmp_path / "reports"))
    slurmed = ("--tier", "more", "--launch", "slurm", "--slurm", JOB, *reports)
    begun = maskbench("run", path, *slurmed, "--detach")
    assert begun.returncode == OK, begun.stderr
    assert "4 runs submitted" in begun.stderr
    path.write_text(path.read_text(encoding="utf-8").replace("6step", "7step"), encoding="utf-8")
    now = json.loads(maskbench("status", path, "--tier", "more", "--json").stdout)
    assert {one["queue"] for one in now} <= {"queued", "running"}
    path.write_text(path.read_text(encoding="utf-8").replace("7step", "6step"), encoding="utf-8")
    ended = maskbench("run", path, *slurmed)
    assert ended.returncode == OK, ended.stderr
    assert "0 runs submitted" in ended.stderr or "submitted" not in ended.stderr
    assert "4 runs: 4 finished" in ended.stdout
    assert (tmp_path / "reports" / "tiny@more" / "report.html").is_file()
    store = Store(tmp_path / "runs")
    told = [read_record(folder) for folder in store.folders()]
    assert len(told) == 4
    assert {one["settings"]["budget"] for one in told} == {"6step"}, "jobs keep their own plan"
    assert {one["benchmark"]["name"] for one in told} == {"tiny@more"}
    here = put(tmp_path / "here", pictures)
    assert maskbench("run", here, *reports).returncode == OK
    alone = encoders(tmp_path / "here" / "runs")
    there = encoders(tmp_path / "runs")
    assert alone == {name: there[name] for name in alone}, "a job gives what a laptop gives"


def test_every_run_on_two_nodes(lab: Path, tmp_path: Path, pictures: Path) -> None:
    path = put(tmp_path, pictures)
    ended = maskbench(
        "run", path, "--launch", "slurm", "--slurm", f"{JOB},nodes=2",
        "--reports", str(tmp_path / "reports"),
    )  # fmt: skip
    assert ended.returncode == OK, ended.stderr
    told = [read_record(folder) for folder in Store(tmp_path / "runs").folders()]
    assert [one["provenance"]["processes"] for one in told] == [2, 2]
    logs = tmp_path / "runs" / "benchmarks" / "tiny" / "logs" / "random-s0"
    until(lambda: sorted(p.name for p in logs.glob("rank-*.log")) == ["rank-0.log", "rank-1.log"])


def test_a_queue_that_refuses(lab: Path, tmp_path: Path, pictures: Path) -> None:
    path = put(tmp_path, pictures)
    ended = maskbench("run", path, "--launch", "slurm", "--slurm", "partition=none")
    assert ended.returncode == 69
    said = " ".join(ended.stderr.split())
    assert "Slurm did not take 2 runs" in said
    assert "invalid partition" in said.lower()
    assert [one["state"] for one in json.loads(maskbench("status", path, "--json").stdout)] == [
        "waiting", "waiting",
    ]  # fmt: skip
