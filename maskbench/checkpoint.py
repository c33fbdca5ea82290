"""Checkpoints: whole or not there, checksummed, never pickled code; the two last good ones stay.

``step-N.pt`` holds tensors, numbers and texts, and is read with ``weights_only``. It counts only
with ``step-N.json``, written after it: schema, size and SHA-256. A process that dies between the
two leaves the checkpoint before. Writing runs beside the training, on a copy of the state.
"""

import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor

from maskbench.errors import StoreError
from maskbench.files import replacing
from maskbench.results import write_json

SCHEMA = 1
FOLDER, MOMENTS = "checkpoints", "moments"
KEPT = 2

State = dict[str, Any]
Say = Callable[[str], None]


def _quiet(text: str) -> None:
    """Tell nobody."""


class Saved(NamedTuple):
    """A checkpoint that can be used.

    Attributes:
        step: Steps done.
        payload: Its bytes.
    """

    step: int
    payload: bytes


class _Hashing(io.RawIOBase):
    """Passes bytes on to a file, and remembers their digest, number, and what went wrong."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.digest, self.size = hashlib.sha256(), 0
        self.error: OSError | None = None

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Bytes, passed on."""
        try:
            self._file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.digest.update(data)
        self.size += len(data)
        return len(data)


def snapshot(state: Any) -> Any:
    """A copy of a state on the CPU that further training cannot change."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: snapshot(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(snapshot(value) for value in state)
    return state


def parse(payload: bytes) -> State:
    """The state in a checkpoint's bytes; no code in them is run.

    Raises:
        StoreError: They are no checkpoint.
    """
    try:
        state: State = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # torch names a dozen kinds of damage
        raise StoreError(f"not a checkpoint: {str(error).strip().partition(chr(10))[0]}") from error
    return state


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run: The run's folder.
        folder: Its folder in the run's.
        kept: How many stay; None keeps all.
    """

    def __init__(self, run: Path, folder: str = FOLDER, kept: int | None = KEPT) -> None:
        self.folder, self._kept = run / folder, kept
        self._writer: threading.Thread | None = None
        self._failed: BaseException | None = None

    def save(self, step: int, state: State) -> None:
        """Write a copy of the state beside the training; waits for the one before.

        Raises:
            StoreError: The one before could not be written.
        """
        self.wait()
        copy = snapshot(state)
        self._writer = threading.Thread(target=self._attempt, args=(step, copy), daemon=True)
        self._writer.start()

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            StoreError: It could not be written.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def any(self) -> bool:
        """Whether one was ever completed; it may be damaged."""
        return any(self.folder.glob("step-*.json"))

    def newest(self, say: Say = _quiet) -> Saved | None:
        """The newest checkpoint that is whole; None without one: see ``whole``."""
        return next(self.whole(say), None)

    def whole(self, say: Say = _quiet, *, oldest_first: bool = False) -> Iterator[Saved]:
        """The checkpoints that are whole, one in memory at a time.

        Args:
            say: Told of each one that is damaged, and is passed over.
            oldest_first: In this order; else the newest first.

        Raises:
            StoreError: A newer maskbench has written it.
        """
        for manifest in sorted(self.folder.glob("step-*.json"), reverse=not oldest_first):
            try:
                facts = json.loads(manifest.read_text(encoding="utf-8"))
                schema, step = int(facts["schema"]), int(facts["step"])
                payload = self._file(step).read_bytes()
                digest = hashlib.sha256(payload).hexdigest()
                whole = (len(payload), digest) == (facts["bytes"], facts["sha256"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                say(f"{manifest} cannot be used ({error}): passed over")
                continue
            if schema > SCHEMA:
                raise StoreError(
                    f"{manifest} has schema {schema}; this maskbench reads {SCHEMA}. Continue with "
                    "the maskbench that wrote it, or start again with --fresh."
                )
            if whole:
                yield Saved(step, payload)
                continue
            say(f"checkpoint {self._file(step)} is damaged: passed over")

    def forget(self, step: int) -> None:
        """Remove what is of later steps than this: a course that is not gone on with."""
        for path in self.folder.glob("step-*"):
            if int(path.stem.partition("-")[2]) > step:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def prune(self, kept: int | None) -> None:
        """Remove all but the newest, and what killed writers left.

        Args:
            kept: How many stay; None: all.
        """
        steps = sorted(self.folder.glob("step-*.json"), reverse=True)
        kept = len(steps) if kept is None else kept
        known = {path.with_suffix(".pt") for path in steps[:kept]}
        doomed = [*steps[kept:], *self.folder.glob(".*.tmp")]
        doomed += [path for path in self.folder.glob("step-*.pt") if path not in known]
        for path in doomed:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _file(self, step: int) -> Path:
        return self.folder / f"step-{step:012d}.pt"

    def _attempt(self, step: int, state: State) -> None:
        try:
            self._write(step, state)
        except BaseException as error:
            self._failed = error

    def _write(self, step: int, state: State) -> None:
        path = self._file(step)
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot create {self.folder}: {error.strerror or error}.") from error
        self.prune(self._kept)
        with replacing(path) as file:
            hashing = _Hashing(file)
            try:
                torch.save(state, hashing)  # type: ignore[arg-type]
            except Exception:
                if hashing.error is not None:
                    raise hashing.error from None
                raise
        facts = {"schema": SCHEMA, "step": step, "bytes": hashing.size}
        write_json(path.with_suffix(".json"), {**facts, "sha256": hashing.digest.hexdigest()})
        self.prune(self._kept)
