"""Runs as jobs of a Slurm cluster, through submitit: submitted once, looked up, waited for.

Nothing here decides whether a run is done: its folder does. What Slurm says is a hint, and job
numbers are used again one day, so a job is known by a name that no other has.
"""

import io
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from maskbench import lock, provenance
from maskbench.benchmark.slurm_job import Job
from maskbench.benchmark.slurm_options import Slurm
from maskbench.benchmark.slurm_queue import (
    GONE,
    JOBS,
    array_size,
    in_words,
    known_jobs,
    outcomes,
    states,
)
from maskbench.errors import ClusterError, InterruptedRunError, StoreError
from maskbench.results import write_json

__all__ = ["Launch", "Slurm", "Submitted", "outcomes", "states", "submit", "wait"]

SCRIPTS = "slurm"
SILENT_S = 900.0
"""Seconds that ``wait`` bears with a controller that does not answer."""


@dataclass(frozen=True)
class Launch:
    """One run to be launched.

    Attributes:
        name: Unique within the benchmark; logs are named by it.
        words: What follows ``maskbench`` on the command line. Given again, they return at once if
            the run is finished, and go on with it if not.
    """

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Submitted:
    """A run that has a job.

    Attributes:
        name: The run's.
        job: Slurm's number of the job, such as ``12_3``.
        new: Whether it was submitted now; if not, the job had been waiting or running already.
    """

    name: str
    job: str
    new: bool


def submit(launches: Sequence[Launch], slurm: Slurm, logs: Path) -> list[Submitted]:
    """Hand runs to Slurm as one array of jobs; those that have a job there already are left alone.

    Args:
        launches: The runs.
        slurm: How jobs are asked for.
        logs: A folder that all machines see: a folder per run, ``jobs.json``, and Slurm's files.

    Raises:
        ClusterError: No Slurm here, no submitit, or Slurm refuses: with its own words, and what
            was submitted.
        BusyError: Another process is submitting.
        StoreError: The folder cannot be written.
    """
    _equipped()
    logs = logs.absolute()
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {logs}: {error.strerror or error}.") from error
    with lock.hold(logs):
        known, there = known_jobs(logs), states(logs)
        waiting = {name for name, state in there.items() if state != GONE}
        found = [
            Submitted(launch.name, known[launch.name]["id"] or "?", new=False)
            for launch in launches
            if launch.name in waiting
        ]
        left = [launch for launch in launches if launch.name not in waiting]
        packs = [left[i : i + slurm.pack] for i in range(0, len(left), slurm.pack)]
        size, before = array_size(), None
        for start in range(0, len(packs), size):
            chunk = packs[start : start + size]
            before = _submit_array(chunk, slurm, logs, after=before)
            known = known_jobs(logs)
            found += [
                Submitted(run.name, known[run.name]["id"], new=True) for p in chunk for run in p
            ]
    order = {launch.name: place for place, launch in enumerate(launches)}
    return sorted(found, key=lambda one: order[one.name])


def wait(
    logs: Path,
    tell: Callable[[Mapping[str, str]], None] = lambda found: None,
    every: float = 10.0,
) -> None:
    """Until no run has a job any more.

    Args:
        logs: As given to ``submit``.
        tell: Told the states whenever they were asked.
        every: Seconds between questions.

    Raises:
        InterruptedRunError: Somebody pressed Ctrl-C; the jobs go on, and the message says how to
            look at them and how to end them.
        ClusterError: Slurm has not answered for a quarter of an hour.
    """
    answered = time.monotonic()
    try:
        while True:
            try:
                found = states(logs)
                answered = time.monotonic()
                tell(found)
                if all(state == GONE for state in found.values()):
                    return
            except ClusterError:
                if time.monotonic() - answered > SILENT_S:
                    raise
            time.sleep(every)
    except KeyboardInterrupt as stopped:
        names = ",".join(sorted({job["job"] for job in known_jobs(logs).values()}))
        raise InterruptedRunError(
            "no longer waiting; the jobs go on. To look: maskbench status, or\n"
            f"  squeue --name {names}\nTo end them (runs keep what they have saved):\n"
            f"  scancel --name {names}"
        ) from stopped


def _equipped() -> None:
    try:
        import submitit  # noqa: F401 - is it there?
    except ImportError as error:
        raise ClusterError(
            "--launch slurm needs submitit: pip install 'maskbench[slurm]'."
        ) from error
    missing = [tool for tool in ("sbatch", "srun", "squeue") if shutil.which(tool) is None]
    if missing:
        raise ClusterError(
            f"{' and '.join(missing)} cannot be found on PATH: there is no Slurm on this machine. "
            "Start this on a cluster's login node, or leave --launch slurm out to run here."
        )


def _submit_array(
    packs: Sequence[Sequence[Launch]], slurm: Slurm, logs: Path, *, after: str | None
) -> str:
    """One array, written down before (so that it can be found whatever happens) and after."""
    import submitit
    from submitit.core.utils import FailedJobError

    token = f"maskbench-{uuid4().hex[:12]}"
    single = len(packs) == 1
    entries = {
        run.name: {
            "id": None,
            "job": token,
            "index": "N/A" if single else str(place),
            "command": ["maskbench", *run.words],
            "submitted": provenance.now(),
        }
        for place, pack in enumerate(packs)
        for run in pack
    }
    known = known_jobs(logs)
    write_json(logs / JOBS, {"schema": 1, "jobs": {**known, **entries}})
    executor = submitit.SlurmExecutor(logs / SCRIPTS, max_num_timeout=slurm.timeouts)
    parameters = slurm.parameters()
    if after:
        parameters["dependency"] = f"afterany:{after}"
    executor.update_parameters(job_name=token, **parameters)
    jobs = [Job([(run.name, run.words, str(logs / run.name)) for run in pack]) for pack in packs]
    said = io.StringIO()
    try:
        with redirect_stderr(said), _outside():
            made = executor.submit_array(jobs)
    except (FailedJobError, OSError) as error:
        write_json(logs / JOBS, {"schema": 1, "jobs": known})
        raise _refused(str(error) or said.getvalue(), entries, known) from error
    for pack, job in zip(packs, made, strict=True):
        for run in pack:
            entries[run.name]["id"] = job.job_id
    write_json(logs / JOBS, {"schema": 1, "jobs": {**known, **entries}})
    return made[0].job_id.partition("_")[0]


def _refused(words: str, refused: Mapping[str, Any], known: Mapping[str, Any]) -> ClusterError:
    some = ", ".join(list(refused)[:3]) + (" and others" if len(refused) > 3 else "")
    before = sum(1 for name in known if name not in refused)
    return ClusterError(
        f"Slurm did not take {len(refused)} runs ({some}). It says: {in_words(words)}\n"
        f"{before or 'None'} of the other runs have been submitted before; what they do is not "
        "touched.\nMend what Slurm names in --slurm (`sinfo` lists partitions and their limits, "
        "`sacctmgr show qos` those of accounts), or wait until fewer jobs are queued; the same "
        "command then submits what is missing, and nothing twice."
    )


@contextmanager
def _outside() -> Iterator[None]:
    """Without the variables of a job that this may run in, but with those that find Slurm."""
    import os

    from submitit.helpers import clean_env

    kept = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    with clean_env():
        os.environ.update(kept)
        yield
