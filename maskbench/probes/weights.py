"""Checkpoint files of others: read without running anything of theirs, and held against a model."""

import argparse
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from maskbench.errors import UsageError
from maskbench.trust import plain

STATES = ("model", "state_dict")
MOST = 20_000
"""Entries of a checkpoint."""
SHOWN, LETTERS = 6, 60
"""Names that a sentence lists, and characters of one."""


@dataclass(frozen=True)
class Match:
    """What of a checkpoint went into a model, by the model's names.

    Args:
        loaded: Tensors taken.
        missing: The model has them, the checkpoint does not.
        unexpected: Groups of entries that the model has no place for (``decoder``, ``head``), and
            how many each has.
        reshaped: Of another shape or type: name to what was found and what was wanted.
        broken: With numbers that are not finite.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: Mapping[str, int] | None = None
    reshaped: Mapping[str, tuple[str, str]] | None = None
    broken: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the model is complete."""
        return not (self.missing or self.reshaped or self.broken)

    def faults(self) -> str:
        """Why it does not fit, in a line; empty if it does."""
        told = []
        if self.missing:
            told.append(f"{len(self.missing)} tensors are missing: {listed(self.missing)}")
        if self.reshaped:
            odd = (f"{n} is {found}, not {due}" for n, (found, due) in self.reshaped.items())
            told.append(f"{len(self.reshaped)} do not fit: {listed(odd, 2 * LETTERS)}")
        if self.broken:
            told.append(f"{len(self.broken)} are not finite: {listed(self.broken)}")
        return "; ".join(told)

    def unused(self) -> str:
        """What was left aside, in a line; empty if nothing was."""
        groups = (f"{name} ({count})" for name, count in (self.unexpected or {}).items())
        return f"not used: {listed(groups)}" if self.unexpected else ""


def compare(
    state: Mapping[str, Any], wanted: Mapping[str, Tensor], others: Iterable[str] = ()
) -> Match:
    """Hold entries against a model's tensors; none of the two is changed.

    Args:
        state: By the model's names.
        wanted: The model's tensors; may be on the meta device.
        others: Names of more entries, which are not the model's.
    """
    shared = [name for name in wanted if name in state]
    reshaped = {
        name: (described(state[name]), f"floats {_sizes(wanted[name])}")
        for name in shared
        if not sound(state[name]) or state[name].shape != wanted[name].shape
    }
    loaded = tuple(name for name in shared if name not in reshaped)
    return Match(
        loaded,
        missing=tuple(name for name in wanted if name not in state),
        unexpected=Counter(map(group, [*(name for name in state if name not in wanted), *others])),
        reshaped=reshaped,
        broken=tuple(name for name in loaded if not state[name].float().isfinite().all()),
    )


def group(name: str) -> str:
    """The part of a model that an entry belongs to."""
    name = name.removeprefix("module.")
    if name.startswith(("decoder_", "mask_token")):
        return "decoder"
    return name.partition(".")[0]


def listed(names: Iterable[str], letters: int = LETTERS) -> str:
    """Names in a line, made plain; only the first few, and not more than so much of each."""
    found = list(names)
    told = ", ".join(plain(name)[:letters] for name in found[:SHOWN])
    more = len(found) - SHOWN
    return f"{told} and {more} more" if more > 0 else told


def described(value: Any) -> str:
    """The kind and size of what stands in the place of a tensor."""
    if not isinstance(value, Tensor):
        return f"a {plain(type(value).__name__)}"
    told = f"{str(value.dtype).removeprefix('torch.')} {_sizes(value)}"
    return told if sound(value) or not value.is_floating_point() else f"{told}, not all stored"


def sound(value: Any) -> bool:
    """Whether it is a plain tensor of real floating-point numbers that are all in the file."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.is_floating_point()
        and value.numel() * value.itemsize <= value.untyped_storage().nbytes()
    )


def _sizes(value: Tensor) -> str:
    return f"({', '.join(map(str, value.shape))})"


def entries(file: Path) -> dict[str, Any]:
    """What a checkpoint holds by name: its ``model`` or ``state_dict``, or all of it.

    Args:
        file: ``.safetensors``, or what ``torch.save`` wrote. Only tensors, plain containers and
            ``argparse.Namespace`` (MAE's ``args``) are read; nothing is run.

    Raises:
        UsageError: There is no such file, or it is no checkpoint that can be read so.
    """
    if not file.is_file():
        raise UsageError(f"there is no file {plain(file)}. Give the path of a checkpoint.")
    refuse_compressed(file)
    try:
        found = _loaded(file)
    except Exception as error:  # whatever a broken or hostile file leads to: many kinds
        raise UsageError(
            f"{plain(file)} cannot be read as a checkpoint ({brief(error)}). Only tensors are "
            "read, and nothing is run: where you trust it, save its weights alone "
            "(torch.save({'model': model.state_dict()}, FILE), or as .safetensors)."
        ) from error
    found = found if isinstance(found, Mapping) else {}
    inner = next((found[k] for k in STATES if isinstance(found.get(k), Mapping)), found)
    state = {key: value for key, value in inner.items() if isinstance(key, str)}
    if not state or len(state) > MOST:
        raise UsageError(
            f"{plain(file)} holds {len(state):,} named entries at the top, or under "
            f"{' or '.join(map(repr, STATES))}; a checkpoint has 1 to {MOST:,}."
        )
    return state


def _loaded(file: Path) -> Any:
    with file.open("rb") as opened:
        start = opened.read(9)
    if start[8:] == b"{":
        return load_file(file)
    mapped = zipfile.is_zipfile(file)  # an optimiser's state is then not read
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)


def refuse_compressed(file: Path) -> None:
    """Refuse a zip archive with anything in it that is compressed.

    Raises:
        UsageError: It is one.
    """
    try:
        with zipfile.ZipFile(file) as found:
            packed = any(item.compress_type != zipfile.ZIP_STORED for item in found.infolist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return
    if packed:
        raise UsageError(
            f"{plain(file)} is a compressed archive; torch.save compresses nothing, and this "
            "could unpack to any size. Save the weights again as .safetensors."
        )


def brief(error: Exception) -> str:
    """What went wrong, in one short line; torch and timm tell long stories of their weights."""
    first = str(error).strip().partition("\n")[0].rstrip(".:")
    return plain(f"{type(error).__name__}: {first}")[:200]
