"""``clmae`` beside the code that was published with CL-MAE: whole steps of both, equal sizes.

    uv run python -m benchmarks.speed published --code FOLDER [--only small] [--json] [--save]

FOLDER is a checkout of github.com/ristea/cl-mae, which is none of ours and is not kept here. Its
``models_mae`` is imported as it is; a step is what its ``engine_pretrain`` does with a batch: one
pass and update of the autoencoder, one of the masking network, AdamW, with what is frozen in each.
Its data, logs, gradient scaler (off without a GPU) and norm of gradients are left out, while
``clmae`` is timed as it is inside a run, with its data. Two processes take turns: memory is kept as
in a run of maskbench in one, and as Python and torch leave it in the other.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.speed import show
from benchmarks.speed.apart import Work, process
from benchmarks.speed.contenders import BASE, RATIO, SMALL, Inputs, Setting
from benchmarks.speed.strategies import job_of, steps_of
from benchmarks.speed.timing import Times, interleaved
from maskbench import registry
from maskbench.machine import keep_memory

SETTINGS = {"small": (replace(SMALL, steps=1), 5), "vit_base": (replace(BASE, batch=4), 3)}
OURS, THEIRS = "clmae", "published code"


def load(code: Path, setting: Setting) -> nn.Module:
    """The published model of a setting's sizes."""
    sys.path.insert(0, str(code.resolve()))
    if not hasattr(np, "float"):  # MAE's table of positions asks for what numpy 1.24 dropped
        setattr(np, "float", float)  # noqa: B010 (no type checker knows it)
    shape = setting.shape
    model: nn.Module = import_module("models_mae").MaskedAutoencoderViT(
        shape.image,
        shape.patch,
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        decoder_embed_dim=shape.decoder_width,
        decoder_depth=shape.decoder_depth,
        decoder_num_heads=shape.decoder_heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        norm_pix_loss=True,
        lambda_kl=0.1,
    )
    return model


def stepping(model: Any, setting: Setting) -> Callable[[], None]:
    """A step of the published code on pixels in memory."""
    images = Inputs.of(setting, torch.device("cpu")).images
    groups = [
        {"params": [p for p in model.parameters() if (p.ndim > 1) is decays], "weight_decay": rate}
        for decays, rate in ((True, 0.05), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95))

    def update(loss: torch.Tensor) -> None:
        loss.item()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    def step() -> None:
        model.freeze_maskingnet()
        update(model(images, mask_ratio=RATIO))
        model.unfreeze_maskingnet()
        model.freeze_backbone()
        update(sum(part.sum() for part in model(images, mask_ratio=RATIO, train_mask=True)))
        model.unfreeze_backbone()

    return step


def _ours(setting: Setting) -> tuple[None, Work]:
    keep_memory()
    job = job_of(registry.load(OURS)(), setting.shape, setting.batch, torch.device("cpu"))
    return None, {OURS: partial(steps_of, job, 1)}


def _theirs(setting: Setting, code: Path) -> tuple[None, Work]:
    return None, {THEIRS: stepping(load(code, setting), setting)}


def _row(name: str, setting: Setting, times: Mapping[str, Times]) -> dict[str, Any]:
    ratio, *span = times[THEIRS].over(times[name])
    return {
        "setting": setting.name,
        "batch": setting.batch,
        "contender": name,
        "images_per_s": round(setting.batch / times[name].median, 2),
        "to_published": round(ratio, 3),
        "range": [round(each, 3) for each in span],
    }


def measure(
    quick: bool = False,
    only: str | None = None,
    so_far: Callable[[show.Found], object] = show.nothing,
    *,
    code: Path,
) -> dict[str, Any]:
    """Both settings, or the one that is named, in float32 on a CPU.

    Args:
        quick: One round each.
        only: A setting's name.
        so_far: Is given what is known after every setting.
        code: A checkout of the published code.

    Raises:
        SystemExit: There is no such code in that folder.
    """
    if not (code / "models_mae.py").is_file():
        raise SystemExit(f"{code}: no models_mae.py; --code takes a checkout of ristea/cl-mae")
    found: dict[str, Any] = {"device": "cpu", "batches": {}, "rows": []}
    for setting, rounds in show.picked(SETTINGS, only):
        with process(_ours, setting) as (_, ours), process(_theirs, setting, code) as (_, theirs):
            work = {OURS: partial(ours, OURS), THEIRS: partial(theirs, THEIRS)}
            times = interleaved(work, 1 if quick else rounds)
        found["batches"][setting.name] = setting.batch
        found["rows"] += [_row(name, setting, times) for name in work]
        so_far(found)
    return found
