"""Whatever can be probed, by the name a user gives it.

A run of the store; a network of the timm library; a published MAE or CL-MAE checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from maskbench.errors import StoreError, UsageError
from maskbench.model import Encoder
from maskbench.probes.backbone import Backbone, of_encoder
from maskbench.probes.library import timm_backbone
from maskbench.probes.published import filled, mae_backbone
from maskbench.probes.weights import Match, brief, compare
from maskbench.results import ENCODER, Store, read_record
from maskbench.shape import ModelShape
from maskbench.spec import preset
from maskbench.trust import inside, plain

KINDS = "RUN, timm:NAME, timm:NAME@FILE, mae:FILE, mae:FILE#heads=N"
SIZES = ("image", "patch", "width", "depth")
HEADER = 2**20
LEAST_SIDE, MOST_SIDE = 8, 4_096


@dataclass(frozen=True)
class Opened:
    """What a name led to.

    Args:
        backbone: Frozen, on its device.
        notes: What a user should know of it, in sentences; empty for a run at its own side.
        match: What of a checkpoint was loaded; None for timm's, which fit wholly or not at all.
    """

    backbone: Backbone
    notes: tuple[str, ...] = ()
    match: Match | None = None


def open_backbone(
    text: str, store: Store, device: torch.device | str = "cpu", side: int | None = None
) -> Opened:
    """A backbone by name.

    Args:
        text: A run (its folder, its name in the store, or a unique beginning of it);
            ``timm:NAME`` (weights from the model hub), ``timm:NAME@FILE``; ``mae:FILE``,
            ``mae:FILE#heads=N``.
        store: Where runs are found by name.
        device: Where it is put.
        side: Input side, pixels; None for its own. Positions are interpolated.

    Raises:
        UsageError: Nothing has this name, it is not a whole encoder, or it cannot have that side.
        StoreError: The run's files are missing, damaged, or of another shape than it says.
    """
    if side is not None and not LEAST_SIDE <= side <= MOST_SIDE:
        raise UsageError(
            f"nothing is probed at {side} px: from {LEAST_SIDE} to {MOST_SIDE:,}, a "
            "multiple of the patch side."
        )
    kind, colon, rest = text.partition(":")
    if kind == "timm" and rest:
        name, _, file = rest.partition("@")
        return Opened(timm_backbone(name, file, side, device))
    if kind == "mae" and rest:
        backbone, match, notes = mae_backbone(rest, side, device)
        return Opened(backbone, tuple(notes), match)
    try:
        folder = store.find(text)
    except UsageError as error:
        raise UsageError(f"{error} What can be probed: {KINDS}.") if colon else error from None
    return _run(folder, side, device)


def _run(folder: Path, side: int | None, device: torch.device | str) -> Opened:
    record = read_record(folder)
    if record["status"] != "finished":
        raise UsageError(
            f"run {plain(folder.name)} is {record['status']}, not finished, and has no encoder to "
            "probe. Choose a finished one ('maskbench ls' lists them)."
        )
    state, shape, match = _state(folder, _shape(record, folder))
    notes: list[str] = []
    encoder = filled(state, shape, side, device, notes)
    name, prior = plain(folder.resolve().name), record["strategy"].get("prior") or ""
    backbone = of_encoder(encoder, name, plain(prior))
    return Opened(backbone, tuple(f"{name}: {note}" for note in notes), match)


def _shape(record: Mapping[str, Any], folder: Path) -> ModelShape:
    """The sizes of a record's preset, if they are those that it says itself."""
    model = record["model"]
    try:
        shape = preset(model["preset"]).shape
    except UsageError as error:
        raise StoreError(f"the record in {folder}: {plain(error)[:300]}") from error
    odd = [f"{size} {model[size]}"[:40] for size in SIZES if model[size] != getattr(shape, size)]
    if odd:
        raise StoreError(
            f"the record in {folder} says preset {model['preset']} and {', '.join(odd)}, which "
            "are not its sizes. Run it again with --fresh, or choose another run."
        )
    return shape


def run_encoder(folder: Path, shape: ModelShape, device: torch.device | str) -> Encoder:
    """The encoder that a run left, frozen.

    Args:
        folder: The run's.
        shape: Its sizes.
        device: Where it is put.

    Raises:
        StoreError: It is missing, damaged, or of another shape.
    """
    state, _, _ = _state(folder, shape)
    return filled(state, shape, None, device, [])


def _state(folder: Path, shape: ModelShape) -> tuple[dict[str, Any], ModelShape, Match]:
    wanted = Encoder(shape).state_dict()
    most = HEADER + 8 * sum(value.numel() for value in wanted.values())
    try:
        state = load_file(inside(folder, ENCODER, most))
        match = compare(state, wanted)
        if not match.fits or match.unexpected:
            raise ValueError("; ".join(filter(None, (match.faults(), match.unused()))))
    except (OSError, StoreError, SafetensorError, RuntimeError, ValueError, TypeError) as error:
        raise StoreError(
            f"{folder}: its {ENCODER} cannot be used ({_short(error)}). Run it again with "
            "--fresh, or choose another run."
        ) from error
    return state, shape, match


def _short(error: Exception) -> str:
    return str(error)[:400] if type(error) is ValueError else brief(error)
