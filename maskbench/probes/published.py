"""Checkpoints of masked autoencoders as their authors publish them, as encoders of ours.

MAE's names are those of timm's ``VisionTransformer``; CL-MAE's are MAE's, with ``masking_net`` and
the decoder beside them. Sizes are read off the tensors; only the number of heads leaves no trace.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskbench.data.augment import DEVIATION, MEAN
from maskbench.errors import UsageError
from maskbench.model import Encoder
from maskbench.probes.backbone import Backbone, of_encoder
from maskbench.probes.library import prepared, refuse_side, resampled
from maskbench.probes.weights import Match, compare, described, entries, listed, sound
from maskbench.shape import ModelShape
from maskbench.trust import plain

HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
"""Width to heads in the vision transformers that are published."""
PATCHES, POSITIONS = "patch_embed.proj.weight", "pos_embed"
PREFIXES = 16
FINAL = ("norm.weight", "norm.bias")


class Options(NamedTuple):
    """What a user says of a checkpoint: ``mae:FILE#heads=8,prefix=teacher.``."""

    heads: int | None = None
    prefix: str | None = None


def mae_backbone(
    text: str, side: int | None = None, device: torch.device | str = "cpu"
) -> tuple[Backbone, Match, list[str]]:
    """The encoder of a published MAE or CL-MAE checkpoint.

    Images are resized whole to its input side (bilinear, antialiased), with ImageNet's constants.

    Args:
        text: ``FILE``, or ``FILE#heads=8``, ``FILE#prefix=teacher.``, ``FILE#heads=8,prefix=...``.
        side: Input side, pixels; None for its own. Positions are interpolated.
        device: Where it is put.

    Returns:
        The backbone, what was loaded, and what a user should know, in sentences.

    Raises:
        UsageError: No such file, none that can be read safely, or not a whole encoder.
    """
    name, options = _options(text)
    file = Path(name)
    notes: list[str] = []
    own, others = _own(entries(file), options.prefix, file)
    state = _renamed(own, notes)
    shape, match = _fitted(state, others, options.heads, file)
    if match.unexpected:
        notes.append(match.unused())
    encoder = filled({key: state[key] for key in match.loaded}, shape, side, device, notes)
    return (
        replace(
            of_encoder(encoder, plain(f"mae:{file.name}")),
            prepare=partial(prepared, side=encoder.shape.image, mean=MEAN, deviation=DEVIATION),
            prior=f"checkpoint {plain(file.name)}, trained outside this benchmark",
        ),
        match,
        [f"{plain(file.name)}: {note}" for note in notes],
    )


def filled(
    state: Mapping[str, Tensor],
    shape: ModelShape,
    side: int | None,
    device: torch.device | str,
    notes: list[str],
) -> Encoder:
    """A frozen encoder with these weights, at its own input side or at another.

    Args:
        state: All of its tensors, as ``compare`` found them to fit.
        shape: The sizes they have.
        side: Input side, pixels; None for ``shape``'s.
        device: Where it is put.
        notes: Gets a sentence where positions are interpolated.

    Raises:
        UsageError: Patches do not fill that side.
    """
    weights = {name: value.float() for name, value in state.items()}
    if side is not None and side != shape.image:
        refuse_side(side, shape.patch, "a checkpoint with such patches")
        grid = side // shape.patch
        weights[POSITIONS] = resampled(weights[POSITIONS], grid)
        notes.append(
            f"positions interpolated from {shape.side} x {shape.side} patches ({shape.image} px) "
            f"to {grid} x {grid} ({side} px)"
        )
        shape = replace(shape, image=side)
    encoder = Encoder(shape).to_empty(device=device)
    encoder.load_state_dict(weights)
    return encoder.requires_grad_(requires_grad=False).eval()


def _options(text: str) -> tuple[str, Options]:
    name, hash_, rest = text.partition("#")
    parts = (part.partition("=") for part in rest.split(",")) if hash_ else ()
    given = {key: value for key, _, value in parts}
    odd = set(given) - set(Options._fields)
    heads = given.get("heads", "1")
    if odd or not (heads.isdecimal() and 1 <= int(heads[:6]) <= 1024):
        raise UsageError(
            f"mae:{plain(text)}: after # stand heads=N and prefix=NAME., such as "
            "mae:FILE#heads=8 or mae:FILE#heads=8,prefix=teacher."
        )
    return name, Options(int(heads) if "heads" in given else None, given.get("prefix"))


def _names(depth: int) -> list[str]:
    """The names of an encoder's tensors."""
    names = Encoder(ModelShape(1, 1, 4, 1, 1, 0, 0, 0)).state_dict()
    blocks = [name for name in names if name.startswith("blocks.")]
    more = (name.replace(".0.", f".{i}.", 1) for i in range(1, depth) for name in blocks)
    return [*names, *more]


def _depth(state: Mapping[str, Any], prefix: str = "") -> int:
    pattern = re.compile(re.escape(prefix) + r"blocks\.(\d{1,3})\.")
    found = (pattern.match(name) for name in state)
    return max((int(match[1]) + 1 for match in found if match), default=1)


def _own(
    state: Mapping[str, Any], prefix: str | None, file: Path
) -> tuple[dict[str, Any], list[str]]:
    """Entries by an encoder's names, without what stands before them (``module.``); other names."""
    ends = (PATCHES, POSITIONS, "cls_token", "blocks.0.norm1.weight")
    starts = {name.removesuffix(end) for name in state for end in ends if name.endswith(end)}
    known = sorted(start for start in starts if not start or start.endswith("."))
    prefixes = sorted(known, key=len)[:PREFIXES]
    if prefix is None:
        lacking = {p: sum(p + n not in state for n in _names(_depth(state, p))) for p in prefixes}
        whole = [p for p in prefixes if not lacking[p]]
        if len(whole) > 1:
            raise UsageError(
                f"{plain(file)} holds {len(whole)} encoders, under {listed(map(repr, whole))}; "
                f"choose one: mae:FILE#prefix={plain(whole[-1])}"
            )
        prefix = min(prefixes, key=lambda p: lacking[p], default="")
    own = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    return own, [name for name in state if not name.startswith(prefix)]


def _renamed(state: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Fine-tuned with mean pooling, MAE has its final norm after the mean, as ``fc_norm``."""
    named = {f"fc_{name}": name for name in FINAL}
    if any(name in state for name in FINAL) or not all(name in state for name in named):
        return dict(state)
    notes.append(
        "it has no norm but an fc_norm, which was trained on the mean of patch tokens; that is "
        "used as the final norm of every token"
    )
    return {named.get(name, name): value for name, value in state.items()}


def _fitted(
    state: Mapping[str, Any], others: list[str], heads: int | None, file: Path
) -> tuple[ModelShape, Match]:
    """The sizes of a whole encoder.

    Raises:
        UsageError: It is not whole, with the list of what is not right.
    """
    lacking = tuple(name for name in _names(_depth(state)) if name not in state)
    if lacking:
        raise _refusal(file, Match((), missing=lacking))
    shape = _shape(state, heads, file)
    match = compare(state, Encoder(shape).state_dict(), others)
    if not match.fits:
        raise _refusal(file, match)
    return shape, match


def _refusal(file: Path, match: Match) -> UsageError:
    return UsageError(
        f"{plain(file)} is not a whole MAE encoder (timm's names, MLP ratio 4, qkv with bias): "
        f"{match.faults()}. Other vision transformers are probed as timm:NAME@FILE."
    )


def _shape(state: Mapping[str, Any], heads: int | None, file: Path) -> ModelShape:
    """Sizes as the positions, (1, 1 + L, D), and the patch embedding, (D, 3, p, p), say them."""
    table, kernel = state[POSITIONS], state[PATCHES]
    odd = {
        name: (described(value), f"floats {due}")
        for name, value, due, dims in (
            (POSITIONS, table, "(1, 1 + patches, width)", 3),
            (PATCHES, kernel, "(width, 3, side, side)", 4),
        )
        if not sound(value) or value.dim() != dims or not value.numel()
    }
    if odd:
        raise _refusal(file, Match((), reshaped=odd))
    (_, tokens, width), patch = table.shape, kernel.shape[-1]
    grid = math.isqrt(tokens - 1)
    if grid**2 != tokens - 1 or not grid:
        raise UsageError(
            f"{plain(file)} has positions for {tokens} tokens, which are not CLS and a square of "
            "patches. Such a model is probed as timm:NAME@FILE."
        )
    found = heads or HEADS.get(width)
    if found is None or width % found or width % 4:
        known = ", ".join(f"{wide}: {many}" for wide, many in HEADS.items())
        raise UsageError(
            f"{plain(file)} is {width} wide, and its {found or 'number of'} attention heads do not "
            f"show in its tensors or do not divide it: give mae:FILE#heads=N. Known: {known}."
        )
    return ModelShape(grid * patch, patch, width, _depth(state), found, 0, 0, 0)
