"""The processes of one run: who is first, what they agree on, how they find that one is gone.

What they say to each other beside gradients goes over gloo, on the CPU: small, and with a limit on
how long anybody waits.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist

from maskbench.errors import LostProcessError, UsageError

MEETING = "MASKBENCH_MEETING"
PATIENCE = "MASKBENCH_PATIENCE_S"
STEP_S = 20.0
"""Seconds a process waits for the others at a step, unless steps take longer."""
LONG_S = 4 * 3600.0
"""The same where one of them has something long to do: compiling, probing."""


class _Talk:
    """The gloo group for what is not gradients, while there is one."""

    group: Any = None
    patience = STEP_S


def size() -> int:
    """Processes of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process among them."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def first() -> bool:
    """Whether this is the process that writes and talks."""
    return rank() == 0


def asked_for() -> int:
    """Processes that the environment announces (as torchrun does)."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


@contextmanager
def joined(device: str, patience: float = STEP_S) -> Iterator[None]:
    """Meet the other processes that torchrun, or ``--nproc``, has started; alone: do nothing.

    Args:
        device: ``cuda`` for NCCL, ``cpu`` for gloo.
        patience: Seconds that a process waits for the others at a step, unless the environment
            says otherwise.

    Raises:
        LostProcessError: They do not come.
    """
    if asked_for() == 1:
        yield
        return
    if MEETING in os.environ:
        _die_with_parent()
    if sys.platform == "linux" and os.environ.get("MASTER_ADDR", "127.0.0.1") == "127.0.0.1":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    _Talk.patience = float(os.environ.get(PATIENCE, patience))
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            init_method=os.environ.get(MEETING, "env://"),
            rank=int(os.environ["RANK"]),
            world_size=asked_for(),
            timeout=timedelta(seconds=_Talk.patience),
        )
        _Talk.group = dist.new_group(backend="gloo", timeout=timedelta(seconds=LONG_S))
    except (RuntimeError, ValueError) as error:
        raise LostProcessError(f"the other processes cannot be met: {error}") from error
    try:
        yield
        dist.destroy_process_group()
    finally:
        _Talk.group = None


def _die_with_parent() -> None:
    """Be asked to stop when the process that started this one is gone (on Linux)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def agree(*numbers: float, seconds: float | None = None) -> tuple[int, ...]:
    """The highest of each number over all processes.

    Args:
        numbers: Of this process.
        seconds: How long to wait for the others; by default as long as steps may take.

    Raises:
        LostProcessError: A process is gone, or hangs.
    """
    if size() == 1:
        return tuple(int(number) for number in numbers)
    told = torch.tensor(numbers, dtype=torch.float64)
    _wait(dist.all_reduce(told, dist.ReduceOp.MAX, group=_Talk.group, async_op=True), seconds)
    return tuple(int(number) for number in told.tolist())


def meet() -> None:
    """Wait for all, however long one of them works alone.

    Raises:
        LostProcessError: A process is gone.
    """
    agree(0, seconds=LONG_S)


def of_first(numbers: Sequence[float], seconds: float | None = None) -> tuple[float, ...]:
    """The numbers of the first process.

    Raises:
        LostProcessError: A process is gone, or hangs.
    """
    if size() == 1:
        return tuple(numbers)
    told = torch.tensor(list(numbers), dtype=torch.float64)
    _wait(dist.broadcast(told, 0, group=_Talk.group, async_op=True), seconds)
    return tuple(told.tolist())


def share(payload: bytes) -> bytes:
    """The bytes of the first process, in all of them."""
    if size() == 1:
        return payload
    (length,) = of_first([len(payload)], LONG_S)
    told = torch.zeros(int(length), dtype=torch.uint8)
    if first() and payload:
        told = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
    if length:
        _wait(dist.broadcast(told, 0, group=_Talk.group, async_op=True), LONG_S)
    return told.numpy().tobytes()


def lost(error: BaseException) -> LostProcessError | None:
    """What torch raised because another process is gone, in words; None if it was not that."""
    cause: BaseException | None = error
    while cause is not None and size() > 1:
        if isinstance(cause, LostProcessError):
            return cause
        if isinstance(cause, RuntimeError) and _about_others(cause):
            return _lost(cause)
        cause = cause.__cause__
    return None


def _about_others(error: RuntimeError) -> bool:
    words = str(error).lower()
    return isinstance(error, dist.DistError) or any(
        word in words for word in ("gloo", "connection", "timed out", "nccl")
    )


def _lost(error: RuntimeError) -> LostProcessError:
    first_line = str(error).strip().partition("\n")[0]
    return LostProcessError(
        f"process {rank()} of {size()} has lost another one, which was killed or hangs "
        f"({first_line[:200]}). Start the run again: it goes on from its last checkpoint."
    )


def _wait(work: Any, seconds: float | None) -> None:
    limit = _Talk.patience if seconds is None else seconds
    try:
        work.wait(timeout=timedelta(seconds=limit))
    except RuntimeError as error:
        raise _lost(error) from error


def check(processes: int, batch: int, images: int, device: str) -> None:
    """Refuse numbers of processes that cannot share the work.

    Args:
        processes: How many.
        batch: Images per step.
        images: Size of the training set.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: They cannot.
    """
    if processes < 1:
        raise UsageError(f"--nproc {processes}: choose at least 1.")
    if batch % processes:
        near = batch // processes * processes or processes
        raise UsageError(
            f"--nproc {processes} does not divide the batch of {batch} images: take --batch "
            f"{near} or another number of processes."
        )
    if images < processes:
        raise UsageError(
            f"--nproc {processes}: there are only {images} training images, fewer than processes."
        )
    there = torch.cuda.device_count() if device == "cuda" else os.cpu_count() or 1
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    if here > there:
        what = "GPUs" if device == "cuda" else "cores"
        raise UsageError(f"--nproc {here}: this machine has {there} {what}; choose at most that.")
