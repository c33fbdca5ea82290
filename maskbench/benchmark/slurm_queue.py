"""What Slurm says of jobs, and what was written down about them when they were submitted."""

import json
import subprocess
from pathlib import Path
from typing import Any

from maskbench.errors import LOST, ClusterError, StoreError

JOBS = "jobs.json"
GONE, RUNNING, QUEUED, REQUEUED = "gone", "running", "queued", "requeued"
ARRAY = 1000
"""Jobs of one array where Slurm does not say how many it takes."""
ANSWER_S = 60.0
"""Seconds in which a command of Slurm must answer."""
USUAL = ("None", "Priority", "Resources", "BeginTime", "Dependency", "JobArrayTaskLimit")
"""Reasons to wait that need no remark."""
_FORMAT = "ArrayJobID:24,ArrayTaskID:24,Name:64,State:24,RestartCnt:12,Reason:200"


def states(logs: Path) -> dict[str, str]:
    """What Slurm says of each run's latest job: one question, and no accounting, for all of them.

    Args:
        logs: As given to ``submit``.

    Returns:
        By run, ``queued``, ``running``, ``requeued`` (it was stopped and waits to go on), another
        state of Slurm's in small letters, each with an unusual reason in parentheses; or ``gone``.

    Raises:
        ClusterError: Slurm does not answer.
    """
    known = known_jobs(logs)
    if not known:
        return {}
    names = ",".join(sorted({job["job"] for job in known.values()}))
    lines = ask("squeue", "--noheader", "--array", "--name", names, "--Format", _FORMAT)
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for line in lines.splitlines():
        parts = line.split(None, 5)
        if len(parts) >= 5:
            array, index, name, state, restarts = parts[:5]
            reason = parts[5].strip() if len(parts) > 5 else "None"
            number = array if index == "N/A" else f"{array}_{index}"
            seen[name, index] = number, _state(state, restarts, reason)
    found = {}
    for run, job in known.items():
        number, state = seen.get((job["job"], job["index"]), ("", GONE))
        found[run] = state if job["id"] in (None, number) else GONE
    return found


def outcomes(logs: Path) -> dict[str, dict[str, Any]]:
    """How each run's last process ended, as far as one has: the one that tells most.

    Args:
        logs: As given to ``submit``.

    Returns:
        By run: code (minus a signal's number where one killed it), said (the end of its log), job,
        host, rank, restart, begun and ended (seconds since 1970).
    """
    found: dict[str, dict[str, Any]] = {}
    for run in known_jobs(logs):
        told = []
        for path in sorted((logs / run).glob("ended-*.json")):
            try:
                told.append(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError):
                continue
        newest = max((one["restart"] for one in told), default=0)
        last = [one for one in told if one["restart"] == newest]
        own = [one for one in last if one["code"] > 0 and one["code"] != LOST]
        if last:
            found[run] = (own or last)[0]
    return found


def in_words(text: str) -> str:
    """Slurm's own words, on one line."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " / ".join(lines[-4:])[:600] or "nothing."


def _state(state: str, restarts: str, reason: str) -> str:
    plain = {"PENDING": QUEUED if restarts == "0" else REQUEUED, "RUNNING": RUNNING}
    word = plain.get(state, state.lower())
    return word if reason in USUAL else f"{word} ({reason})"


def known_jobs(logs: Path) -> dict[str, dict[str, Any]]:
    """The latest job of each run.

    Raises:
        StoreError: What is there is not what was written.
    """
    path = logs / JOBS
    try:
        jobs = json.loads(path.read_text(encoding="utf-8"))["jobs"]
        return {
            str(run): {"id": job["id"], "job": str(job["job"]), "index": str(job["index"]), **job}
            for run, job in jobs.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}). Delete it if no job of it is queued any more: runs "
            "are not in it, only the numbers of their jobs."
        ) from error


def ask(*words: str) -> str:
    """What a command of Slurm answers.

    Raises:
        ClusterError: It is not here, fails, or says nothing for a minute.
    """
    remedy = "Nothing is lost; try again when `sinfo` answers."
    try:
        done = subprocess.run(  # noqa: S603 - Slurm's own tools
            words, capture_output=True, text=True, check=False, timeout=ANSWER_S
        )
    except FileNotFoundError as error:
        raise ClusterError(
            f"{words[0]} cannot be found on PATH: there is no Slurm on this machine."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{words[0]} gave no answer in {ANSWER_S:.0f} s. {remedy}") from error
    if done.returncode != 0:
        raise ClusterError(f"{words[0]} failed: {in_words(done.stderr)} {remedy}")
    return done.stdout


def array_size() -> int:
    """Jobs that fit into one array here."""
    for line in ask("scontrol", "show", "config").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize" and value.strip().isdecimal():
            return max(int(value) - 1, 1)
    return ARRAY
