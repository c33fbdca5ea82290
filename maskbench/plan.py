"""What a run will do, decided and checked before anything is done."""

import hashlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from maskbench import registry
from maskbench.budget import Budget, Plan
from maskbench.compose import Composite
from maskbench.data import Images, check_kind, limited, open_data
from maskbench.errors import UsageError, unknown
from maskbench.events import Progress
from maskbench.spec import Request, RunSettings, check_numbers, preset, strategy_settings
from maskbench.strategy import MaskStrategy


@dataclass(frozen=True)
class Planned:
    """A run that can start.

    Args:
        settings: Resolved; they name the run.
        strategy: The contestant, not set up yet.
        images: The data set.
        plan: The budget in images and steps.
    """

    settings: RunSettings
    strategy: MaskStrategy
    images: Images
    plan: Plan


def resolve(request: Request, cache: Path, progress: Progress) -> Planned:
    """Check everything that can be checked before work begins, cheapest first.

    Args:
        request: The run.
        cache: Where packed data sets live.
        progress: Told about packing.

    Raises:
        UsageError: A name, number or setting that cannot be.
        DataError: The data cannot be used.
    """
    check_numbers(request)
    check_kind(request.data)
    budget = Budget.parse(request.budget)
    size = preset(request.model)
    device = pick_device(request.device)
    precision = pick_precision(request.precision, device)
    cls = registry.load(request.strategy)
    strategy = cls(strategy_settings(cls, request.sets))
    shape = size.shape
    images = open_data(request.data, shape.image, cache, request.max_bad, progress)
    images = limited(images, request.limit)
    batch = size.batch if request.batch is None else request.batch
    plan = Plan.of(budget, len(images.train), batch)
    hidden = shape.patches - shape.patches // 4 if request.hidden is None else request.hidden
    settings = RunSettings(
        strategy=public_name(request.strategy),
        strategy_settings=strategy.settings.model_dump(mode="json"),
        strategy_digest=digest_of(cls),
        budget=str(budget),
        data=images.name,
        data_fingerprint=images.fingerprint,
        limit=request.limit,
        max_bad=request.max_bad,
        model=request.model,
        hidden=hidden,
        batch=batch,
        base_lr=size.base_lr if request.lr is None else request.lr,
        seed=request.seed,
        device=device,
        precision=precision,
        compile=request.compile,
        draws=request.draws,
    )
    return Planned(settings, strategy, images, plan)


def pick_device(name: str) -> Literal["cpu", "cuda"]:
    """The device that is meant.

    Raises:
        UsageError: Unknown, or not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(unknown("device", name, ("auto", "cpu", "cuda")))
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu.")
    return "cuda" if there and name != "cpu" else "cpu"


def pick_precision(name: str, device: str) -> Literal["fp32", "bf16"]:
    """The precision that is meant: bfloat16 on a GPU that has it, float32 otherwise.

    Raises:
        UsageError: Unknown precision.
    """
    if name not in ("auto", "fp32", "bf16"):
        raise UsageError(unknown("precision", name, ("auto", "fp32", "bf16")))
    if name == "bf16" or (name == "auto" and device == "cuda" and torch.cuda.is_bf16_supported()):
        return "bf16"
    return "fp32"


def public_name(strategy: str) -> str:
    """A strategy's name without the folder its file lies in."""
    parts = [part.rpartition(":") for part in strategy.split("+")]
    return "+".join(f"{Path(p).name}:{name}" if colon else name for p, colon, name in parts)


def digest_of(cls: type[MaskStrategy]) -> str:
    """SHA-256 of the strategy's file, so that an edited idea is another run.

    Shared pieces in ``_*.py`` beside a built-in file count as its own; so do all parts' files.
    """
    classes = [part for _, part in cls.classes] if issubclass(cls, Composite) else [cls]
    files = [Path(inspect.getfile(part)) for part in classes]
    for file in list(files):
        if (file.parent / "__init__.py").is_file():
            files += sorted(file.parent.glob("_[!_]*.py"))
    digest = hashlib.sha256()
    for file in dict.fromkeys(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()
