"""What a run will do, decided and checked before anything is done."""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch

from maskbench import registry
from maskbench.budget import Budget, Match, Plan, check_batch, parse
from maskbench.compose import Composite
from maskbench.data import Images, check_kind, limited, open_data
from maskbench.data.development import development
from maskbench.errors import UsageError, unknown
from maskbench.events import Progress
from maskbench.provenance import elsewhere
from maskbench.results import Store, read_record
from maskbench.spec import Request, RunSettings, check_numbers, preset, strategy_settings
from maskbench.strategy import MaskStrategy
from maskbench.tuning import tuned

Opening = Callable[[str, int, Path, float, Progress], Images]


@dataclass(frozen=True)
class Planned:
    """A run that can start.

    Args:
        settings: Resolved; they name the run.
        strategy: The contestant, not set up yet.
        images: The data set.
        budget: Resolved: an amount of one unit.
        notes: Warnings, in sentences.
    """

    settings: RunSettings
    strategy: MaskStrategy
    images: Images
    budget: Budget
    notes: tuple[str, ...] = ()


def resolve(
    request: Request, store: Store, progress: Progress, opened: Opening = open_data
) -> Planned:
    """Check everything that can be checked before work begins, cheapest first.

    Args:
        request: The run.
        store: Where runs, and packed data sets, live.
        progress: Told about packing.
        opened: Opens the data; whoever resolves many runs opens them once.

    Raises:
        UsageError: A name, number or setting that cannot be.
        DataError: The data cannot be used.
    """
    check_numbers(request)
    check_kind(request.data)
    size = preset(request.model)
    device = pick_device(request.device)
    budget, *notes = settled(parse(request.budget), store, device)
    precision = pick_precision(request.precision, device)
    cls = registry.load(request.strategy)
    strategy = cls(strategy_settings(cls, request.sets))
    shape = size.shape
    if budget.kind == "flops" and not strategy.says_cost():
        raise UsageError(unknown_cost(request.strategy, budget))
    cache = store.home / "data"
    images = opened(request.data, shape.image, cache, request.max_bad, progress)
    images = limited(images, request.limit)
    if request.scored_on == "development":
        images = development(images)
    batch = size.batch if request.batch is None else request.batch
    check_batch(batch, len(images.train))
    if budget.kind == "images":
        Plan.of(budget, len(images.train), batch)
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
        base_lr=request.lr if isinstance(request.lr, float) else size.base_lr,
        seed=request.seed,
        device=device,
        precision=precision,
        compile=request.compile,
        draws=request.draws,
        probe_at=request.probe_at,
        scored_on=request.scored_on,
    )
    if request.lr == "tuned":
        settings = tuned(settings, store)
    return Planned(settings, strategy, images, budget, tuple(notes))


def settled(budget: Budget | Match, store: Store, device: str) -> tuple[Any, ...]:
    """A budget as an amount, also where it is as much as another run used; then warnings.

    Args:
        budget: As parsed.
        store: Where the other run may lie.
        device: ``cpu`` or ``cuda``: where this run will be.

    Raises:
        UsageError: That run is unknown or unfinished, or has not counted it.
    """
    if isinstance(budget, Budget):
        return (budget,)
    record = read_record(store.find(budget.run))
    name, ledger = record["id"], record["ledger"]
    if record["status"] != "finished":
        done = [r["id"] for r in store.records()[0] if r["status"] == "finished"]
        others = f"Finished runs: {', '.join(done[:5])}." if done else "No run is finished yet."
        raise UsageError(
            f"budget {budget}: run {name} is {record['status']}, so what it used is not known; "
            f"finish it first, or match another. {others}"
        )
    if budget.unit == "flop" and not ledger.get("flops_known"):
        raise UsageError(
            f"budget {budget}: the strategy of {name} does not say what it costs (or the run is "
            f"older than this), so its FLOPs are not known; match:{budget.run}:img would work."
        )
    key = {"flop": "flops_total", "img": "images", "s": "seconds_total"}[budget.unit]
    if not isinstance(ledger.get(key), int | float):
        raise UsageError(f"budget {budget}: the ledger of {name} has no {key}; run it again.")
    found = Budget(Fraction(round(1000 * ledger[key]), 1000), budget.unit)
    there = elsewhere(ledger, device) if budget.unit == "s" else ""
    return (found, f"{name} took its seconds {there}: they do not compare.") if there else (found,)


def unknown_cost(strategy: str, budget: Budget) -> str:
    """Why a budget of FLOPs cannot be enforced, and what would work."""
    return (
        f"budget {budget}: strategy {strategy} does not say what it costs, so FLOPs cannot be "
        "counted. Define cost(self, grid, shape) in its file (return {} if it adds no matrix "
        "products to the plain step), or use a budget of images or seconds: 2ep, 10min."
    )


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
