"""What runs inside a Slurm job: each run of it as a process, which saves before the job must go.

A job is words alone, so that what waits in the queue survives an update of the code. In every task
of the job one process is started per run; those of several tasks are one team. Slurm's notice that
the job must go (SIGUSR2 by submitit, or SIGTERM) becomes SIGUSR1 for the process, which saves at
the end of its step; then the job queues up again, and its second attempt goes on from there.
"""

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from maskbench.errors import INTERRUPTED, LOST, OK, STOPPED, StoreError
from maskbench.results import write_json

RETRIES = 3
"""New starts of a job's runs after a process was killed or hung, altogether."""
PAUSE_S = 1.0
"""Before the first of them; doubled before each further one."""
SAVING_S = 60.0
"""Seconds that a process may take to save; then it is killed, and its last checkpoint is used."""
NOTICE_S = 10.0
"""Seconds after a stopped run in which a notice from Slurm may still come."""
TOGETHER_S = 120.0
"""Seconds in which the first task of a job queues it up again, while the others wait."""
STOPPING = (
    *(INTERRUPTED, STOPPED),
    *(-signal.SIGTERM, -signal.SIGINT, -signal.SIGUSR1, -signal.SIGHUP),
)
"""How a process ends that was asked to stop."""
TAIL = 2000
"""Bytes of a log that are kept as the reason."""


class Job:
    """Runs, one after the other; submitit calls it in every task, and again in every attempt.

    Args:
        runs: Name, words after ``maskbench``, and folder for logs, of each.
        lost: New starts so far.
    """

    def __init__(self, runs: Sequence[tuple[str, Sequence[str], str]], lost: int = 0) -> None:
        self.runs = [(name, list(words), str(logs)) for name, words, logs in runs]
        self.lost = lost
        self._child: _Child | None = None

    def __call__(self) -> list[str]:
        """Do all runs; a failed one does not keep the others from being done.

        Raises:
            RuntimeError: Some failed; why is in the message and in ``ended-RANK.json``.
        """
        import submitit

        env = submitit.JobEnvironment()
        signal.signal(signal.SIGTERM, self._heard)
        failed = []
        for name, words, logs in self.runs:
            code = self._run(env, words, Path(logs))
            if code in STOPPING:
                self._leave(env, NOTICE_S)
                raise RuntimeError(f"{name} was stopped (exit code {code}). Launch it again.")
            if code != OK:
                failed.append(f"{name}: exit code {code}, see {logs}")
        if failed:
            raise RuntimeError("; ".join(failed))
        return [name for name, _, _ in self.runs]

    def checkpoint(self) -> Any:
        """Called by submitit on Slurm's notice: save, and come again."""
        import submitit

        if self._child is not None:
            code = self._child.stop()
            if code is not None:
                self._child.tell(submitit.JobEnvironment(), code)
        return submitit.helpers.DelayedSubmission(Job(self.runs, self.lost))

    def _heard(self, signum: int, frame: FrameType | None) -> None:
        if self._child is not None:
            self._child.ask()

    def _run(self, env: Any, words: Sequence[str], logs: Path) -> int:
        """One run to its end; started again when a process of it is lost."""
        while True:
            self._child = _Child(env, words, logs, self.lost)
            code = self._child.wait()
            self._child.tell(env, code)
            gone = code == LOST or (code < 0 and code not in STOPPING)
            if not gone or self.lost >= RETRIES:
                return code
            pause = PAUSE_S * 2**self.lost
            self.lost += 1
            if env.num_tasks > 1:  # all of them must start again
                if env.global_rank == 0:
                    os.kill(os.getpid(), getattr(signal, f"SIG{env.USR_SIG}"))
                self._leave(env, TOGETHER_S)
                return code
            time.sleep(pause)

    def _leave(self, env: Any, seconds: float) -> None:
        """Give the notice, and Slurm, the time to end this task."""
        time.sleep(seconds if env.global_rank == 0 else TOGETHER_S)


class _Child:
    """The process of one run in this task.

    Its end is looked for without ``Popen``'s locks, since ``stop`` is called in a signal handler
    that may have interrupted ``wait``.
    """

    def __init__(self, env: Any, words: Sequence[str], logs: Path, lost: int) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.logs, self.begun = logs, time.time()
        self.code: int | None = None
        self.asked = False
        self._asking = signal.SIGHUP if env.USR_SIG == "USR1" else signal.SIGUSR1
        notice = getattr(signal, f"SIG{env.USR_SIG}")
        libc = ctypes.CDLL(None)

        def before() -> None:
            """In the child, where SIGTERM stays blocked, and is ``ask``'s to pass on."""
            signal.signal(notice, signal.SIG_IGN)
            with suppress(OSError, AttributeError):
                libc.prctl(1, self._asking)  # when the task dies (on Linux)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {notice})

        with (logs / f"rank-{env.global_rank}.log").open("ab") as log:
            log.write(_heading(env).encode())
            log.flush()
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, notice})
            try:
                self._process = subprocess.Popen(  # noqa: S603 - this Python, this program
                    [sys.executable, "-m", "maskbench", *words],
                    env={**os.environ, **team_variables(env, lost)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=before,  # noqa: PLW1509 - a task of one thread
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _ended(self) -> int | None:
        """As ``returncode``; None while it runs."""
        if self.code is None:
            pid = self._process.pid
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                own = found.si_code == os.CLD_EXITED
                self.code = self._process.returncode = found.si_status * (1 if own else -1)
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        return self.code

    def wait(self) -> int:
        """Until it has ended; its exit code, or minus the signal that ended it."""
        while (code := self._ended()) is None:
            time.sleep(0.1)
        return code

    def ask(self) -> None:
        """Ask it to save and leave; once, since a second time means "at once".

        Slurm sends SIGTERM to every process of a job, and sends it twice: so this process is deaf
        to it, and is asked from here.
        """
        if not self.asked and self._ended() is None:
            self.asked = True
            self._process.send_signal(self._asking)

    def stop(self) -> int | None:
        """Ask it, and wait until it has left; its exit code, None if it had ended before."""
        if self._ended() is not None:
            return None
        self.ask()
        stop = time.monotonic() + SAVING_S
        while (code := self._ended()) is None:
            if time.monotonic() > stop:
                self._process.send_signal(signal.SIGKILL)
            time.sleep(0.1)
        return code

    def tell(self, env: Any, code: int) -> None:
        """Write how it ended, beside its log; a full disk must not change that."""
        told = {
            "code": code,
            "job": env.job_id,
            "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
            "rank": env.global_rank,
            "tasks": env.num_tasks,
            "host": env.hostname,
            "begun": self.begun,
            "ended": time.time(),
        }
        with suppress(OSError, StoreError):
            log = (self.logs / f"rank-{env.global_rank}.log").read_bytes()[-TAIL:]
            told["said"] = log.decode(errors="replace").rpartition("--- ")[2].partition("\n")[2]
            write_json(self.logs / f"ended-{env.global_rank}.json", told)


def team_variables(env: Any, lost: int) -> dict[str, str]:
    """What the processes of one run need to meet; nothing if there is one.

    Args:
        env: submitit's, of this task.
        lost: New starts so far: each meets at another port.
    """
    found: dict[str, str] = {}
    threads = os.environ.get("SLURM_CPUS_PER_TASK")
    if threads and "OMP_NUM_THREADS" not in os.environ:
        found["OMP_NUM_THREADS"] = threads
    if env.num_tasks == 1:
        return found
    attempt = f"{env.job_id}/{os.environ.get('SLURM_RESTART_COUNT', '0')}/{lost}"
    port = random.Random(attempt).randint(20_000, 60_000)  # noqa: S311 - all agree on it
    return {
        **found,
        "MASTER_ADDR": _address(env.hostnames[0], os.environ),
        "MASTER_PORT": str(port),
        "RANK": str(env.global_rank),
        "WORLD_SIZE": str(env.num_tasks),
        "LOCAL_RANK": str(env.local_rank),
        "LOCAL_WORLD_SIZE": str(env.num_tasks // env.num_nodes),
        "MASKBENCH_MEETING": "env://",
    }


def _address(name: str, environ: Mapping[str, str]) -> str:
    """The first node's name, or, where names of nodes are not those of machines, its address."""
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return environ.get("SLURM_LAUNCH_NODE_IPADDR", name)
    return name


def _heading(env: Any) -> str:
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return (
        f"--- {when} job {env.job_id}, restart {restarts}, rank {env.global_rank} of "
        f"{env.num_tasks} on {env.hostname}\n"
    )
