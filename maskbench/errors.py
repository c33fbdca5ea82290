"""Errors a user can act on: what happened, where, what to do; and the exit codes they carry."""

import difflib
from collections.abc import Iterable
from pathlib import Path

OK = 0
BUG = 1
USAGE = 2
DATA = 4
DIVERGED = 5
DIFFERS = 6
UNAVAILABLE = 69
IO = 74
BUSY = 75
LOST = 76
INTERRUPTED = 130
STOPPED = 143


class MaskbenchError(Exception):
    """Something the user can mend; shown without a traceback.

    Args:
        message: What happened, where, and what to do, in a sentence or a short paragraph.
    """

    exit_code = BUG
    folder: Path | None = None
    """The run's folder, when the error ended a run."""


class UsageError(MaskbenchError):
    """An option, a name or a setting that cannot be: exit code 2."""

    exit_code = USAGE


class StrategyError(MaskbenchError):
    """A strategy broke its contract: exit code 1."""

    exit_code = BUG


class DataError(MaskbenchError):
    """The data cannot be used as asked: exit code 4."""

    exit_code = DATA


class DivergedError(MaskbenchError):
    """The loss is no longer finite: exit code 5."""

    exit_code = DIVERGED


class InterruptedRunError(MaskbenchError):
    """Somebody pressed Ctrl-C: exit code 130."""

    exit_code = INTERRUPTED


class StoppedRunError(InterruptedRunError):
    """SIGTERM, SIGUSR1 or SIGHUP: exit code 143."""

    exit_code = STOPPED


class LostProcessError(MaskbenchError):
    """Another process of the run is gone, or hangs: exit code 76."""

    exit_code = LOST


class BusyError(MaskbenchError):
    """Another process holds the run's folder: exit code 75."""

    exit_code = BUSY


class StoreError(MaskbenchError):
    """The run store cannot be read or written: exit code 74."""

    exit_code = IO


class ClusterError(MaskbenchError):
    """Slurm, or what speaks to it, is missing, does not answer or refuses: exit code 69."""

    exit_code = UNAVAILABLE


class SchemaError(StoreError):
    """What was read is of another schema: an older or a newer maskbench wrote it."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for an unknown name: the nearest known ones first, then all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}."
