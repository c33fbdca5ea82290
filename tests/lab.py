"""A real Slurm for tests: two virtual nodes on this machine, started and stopped by its pids."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from filelock import FileLock

MUNGE = Path("/run/munge/munged.pid")
MORE = """
EnforcePartLimits=ALL
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return False


def pid_of(file: Path) -> int | None:
    with suppress(OSError, ValueError):
        pid = int(file.read_text(encoding="ascii"))
        return pid if alive(pid) else None
    return None


@contextmanager
def slurm(shared: Path) -> Iterator[Path]:
    """The folder of a running Slurm; ``SLURM_CONF`` is set inside."""
    missing = [tool for tool in ("slurmctld", "slurmd", "munged") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"no {missing or 'root'}: apt-get install slurm-wlm munge, and run as root")
    with (
        FileLock(Path(tempfile.gettempdir()) / "maskbench-slurm.lock"),
        tempfile.TemporaryDirectory(prefix="maskbench-slurm-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        lab = Path(folder)
        scripts = shutil.copytree(shared / "slurm", lab / "scripts")
        conf = scripts / "two-nodes.slurm.conf"
        text = conf.read_text(encoding="utf-8")
        for port in ("16817", "17001", "17002"):
            text = text.replace(port, str(free_port()))
        conf.write_text(text.replace("MaxArraySize=1001", "MaxArraySize=4") + MORE)
        patch.setenv("LAB", str(lab))
        patch.setenv("SLURM_CONF", str(lab / "slurm.conf"))
        ours = pid_of(MUNGE) is None
        try:
            words = ["bash", str(scripts / "two-nodes.sh")]
            with (lab / "up.log").open("wb") as log:  # a daemon would keep a pipe open
                subprocess.run(words, check=True, stdout=log, stderr=log, timeout=90)
            for name, tier in (("low", 1), ("high", 10)):
                said("scontrol", "create", *partition(name, tier))
            yield lab
        finally:
            down([*lab.glob("*.pid"), *([MUNGE] if ours else [])])


def partition(name: str, tier: int) -> list[str]:
    limits = ["Nodes=ALL", "MaxTime=01:00:00", "State=UP"]
    return [f"PartitionName={name}", f"PriorityTier={tier}", *limits]


def down(files: list[Path]) -> None:
    with suppress(subprocess.SubprocessError, OSError):
        for words in (["scancel", "--user", "root"], ["scancel", "-s", "KILL", "--user", "root"]):
            subprocess.run(words, check=False, capture_output=True, timeout=20)
            until(lambda: not said("squeue", "-h"), 8)
    pids = [pid for pid in map(pid_of, files) if pid]
    for signum in (signal.SIGTERM, signal.SIGKILL):
        for pid in filter(alive, pids):
            os.kill(pid, signum)
        with suppress(AssertionError):
            until(lambda: not any(map(alive, pids)), 15)


def said(*words: str) -> str:
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def until(
    true: Callable[[], object], seconds: float = 120, tell: Callable[[], object] = str
) -> None:
    stop = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < stop, f"not within {seconds} s: {tell()}"
        time.sleep(0.1)


def managed(*words: str) -> bool:
    """Whether Slurm did it."""
    return subprocess.run(words, check=False, capture_output=True, timeout=60).returncode == 0


def hurry(found: Mapping[str, str] | None = None) -> None:
    """Slurm lets a requeued job wait for two minutes; this one does not."""
    for line in said("squeue", "-h", "-r", "-o", "%i %r").splitlines():
        job, _, reason = line.partition(" ")
        if reason == "BeginTime":
            managed("scontrol", "update", f"jobid={job}", "StartTime=now")
