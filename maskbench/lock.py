"""One writer per run folder; who it is, for whoever comes second.

The lock is the kernel's (``flock``): it dies with its process, however that ends, so that a stale
one cannot exist. Who holds it is written beside it, for the message alone.
"""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from maskbench import provenance
from maskbench.errors import BusyError, StoreError
from maskbench.files import unwritten

LOCK, HOLDER = ".lock", ".holder.json"


@contextmanager
def hold(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Be the only one who writes in a folder.

    Args:
        folder: An existing folder.
        patience: Seconds to wait for whoever is there.

    Raises:
        BusyError: Another process holds it; the message says which.
        StoreError: The folder cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise BusyError(
            f"{folder} is in use by {_holder(folder)}. Wait for it, stop it, or choose another "
            "--out."
        ) from error
    except OSError as error:
        raise StoreError(unwritten(folder / LOCK, error)) from error
    try:
        with suppress(OSError):
            (folder / HOLDER).write_text(json.dumps(_me()), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def held(folder: Path) -> bool:
    """Whether a living process writes in the folder."""
    if (folder / LOCK).is_symlink() or not (folder / LOCK).is_file():
        return False
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def _me() -> dict[str, Any]:
    me: dict[str, Any] = {"pid": os.getpid(), "host": platform.node(), "since": provenance.now()}
    if "SLURM_JOB_ID" in os.environ:
        me["slurm_job"] = os.environ["SLURM_JOB_ID"]
    return me


def _holder(folder: Path) -> str:
    try:
        told = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        words = f"process {int(told['pid'])} on {told['host']!r} since {told['since']!r}"
        job = told.get("slurm_job")
        return f"{words} (Slurm job {job!r})" if job else words
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
