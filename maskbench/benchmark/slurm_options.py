"""What ``--slurm partition=...,time=...,nodes=2`` says, checked before anything is submitted."""

import re
from dataclasses import dataclass
from typing import Any

from maskbench.errors import UsageError, unknown

COUNTS = {
    "nodes": (1, 10_000),
    "gpus-per-node": (1, 1_000),
    "tasks-per-node": (1, 1_000),
    "cpus-per-task": (1, 10_000),
    "array-parallelism": (1, 100_000),
    "pack": (1, 10_000),
    "notice": (10, 3_600),
    "timeouts": (0, 1_000),
}
"""Keys that are whole numbers, and from where to where."""
WORDS = (
    *("partition", "account", "qos", "constraint", "reservation", "nodelist"),
    *("exclude", "setup"),
)
"""Keys that Slurm itself looks at; ``setup`` is the shell's."""
_KEYS = (*COUNTS, *WORDS, "time", "mem")
_UNITS = {"min": 1, "h": 60, "d": 24 * 60}
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")
_AMOUNT = re.compile(r"(\d+)(min|h|d)?")
_COMMAS = re.compile(r",(?![^\[]*\])")  # not the one of n[1,3]
_LONGEST = 365 * 24 * 60


@dataclass(frozen=True)
class Slurm:
    """How jobs are asked for.

    Attributes:
        time: Minutes that a job may take; a run that takes longer goes on in the next one.
        nodes: Machines per job, whose tasks are one run.
        gpus_per_node: None for none.
        tasks_per_node: Processes per machine; by default one per GPU, or one.
        cpus_per_task: None for Slurm's default.
        mem: Memory per machine, as Slurm writes it, such as ``64G``.
        array_parallelism: How many jobs may run at a time.
        pack: Runs per job, one after the other.
        notice: Seconds before the end of a job's time at which its run is asked to save.
        timeouts: How often a job whose time was over may go on in another one.
        words: What else Slurm is told, such as the partition.
    """

    time: int = 60
    nodes: int = 1
    gpus_per_node: int | None = None
    tasks_per_node: int = 1
    cpus_per_task: int | None = None
    mem: str | None = None
    array_parallelism: int = 256
    pack: int = 1
    notice: int = 90
    timeouts: int = 20
    words: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Slurm":
        """Read ``key=value,key=value``.

        Raises:
            UsageError: A key is unknown or doubled, or a value cannot be.
        """
        given: dict[str, str] = {}
        for piece in filter(None, _COMMAS.split(text)):
            key, equals, value = (part.strip() for part in piece.partition("="))
            if key not in _KEYS:
                raise UsageError(f"--slurm {piece}: {unknown('key', key, _KEYS)}")
            if not equals or not value:
                raise UsageError(f"--slurm {piece}: write {key}=VALUE.")
            if key in given:
                raise UsageError(f"--slurm: {key} is given twice ({given[key]} and {value}).")
            given[key] = value
        fields: dict[str, Any] = {
            key.replace("-", "_"): _count(key, given[key]) for key in COUNTS if key in given
        }
        fields.setdefault("tasks_per_node", fields.get("gpus_per_node", 1))
        if "time" in given:
            fields["time"] = _minutes(given["time"])
        if "mem" in given:
            fields["mem"] = _memory(given["mem"])
        words = tuple((key, given[key]) for key in WORDS if key in given)
        found = cls(**fields, words=words)
        if found.time * 60 <= found.notice:
            raise UsageError(
                f"--slurm notice={found.notice}: runs are asked to save so many seconds before the "
                f"end, but a job has {found.time} min. Give more time, or notice={found.time * 30}."
            )
        return found

    @property
    def tasks(self) -> int:
        """Processes of one run."""
        return self.nodes * self.tasks_per_node

    def parameters(self) -> dict[str, Any]:
        """What submitit's Slurm executor is told."""
        words = dict(self.words)
        setup = words.pop("setup", None)
        reached = ("--kill-on-bad-exit=1", f"--cpus-per-task={self.cpus_per_task}")
        found = {
            "time": self.time,
            "nodes": self.nodes,
            "ntasks_per_node": self.tasks_per_node,
            "gpus_per_node": self.gpus_per_node,
            "cpus_per_task": self.cpus_per_task,
            "mem": self.mem,
            "array_parallelism": self.array_parallelism,
            "signal_delay_s": self.notice,
            "setup": [setup] if setup else None,
            "srun_args": list(reached if self.cpus_per_task else reached[:1]),
            "additional_parameters": {"requeue": True, **words},
        }
        return {key: value for key, value in found.items() if value is not None}


def _count(key: str, text: str) -> int:
    low, high = COUNTS[key]
    if not text.isdecimal() or not low <= int(text) <= high:
        raise UsageError(f"--slurm {key}={text}: choose a whole number from {low} to {high:,}.")
    return int(text)


def _minutes(text: str) -> int:
    """``90``, ``90min``, ``2h``, ``1d``, ``HH:MM:SS`` or ``D-HH:MM:SS``; seconds are rounded up."""
    clock, amount = _CLOCK.fullmatch(text), _AMOUNT.fullmatch(text)
    found = 0
    if clock:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        found = (days * 24 + hours) * 60 + minutes + (seconds > 0)
    elif amount:
        found = int(amount[1]) * _UNITS[amount[2] or "min"]
    if not 1 <= found <= _LONGEST:
        raise UsageError(
            f"--slurm time={text}: write minutes (90), 90min, 2h, 1d, HH:MM:SS or D-HH:MM:SS, "
            "from 1 minute to 365 days."
        )
    return found


def _memory(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*[KMGT]?", text):
        raise UsageError(f"--slurm mem={text}: write MiB (4000), 500M, 64G or 1T.")
    return text
