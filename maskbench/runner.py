"""Carry out one run in one folder: settings first, then training, masks, probes, record."""

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from maskbench import provenance, registry, results, seeds
from maskbench.budget import Budget, Plan
from maskbench.data import Images, augment, check_kind, limited, open_data
from maskbench.data.feed import Feed
from maskbench.errors import DivergedError, MaskbenchError, UsageError, unknown
from maskbench.events import Progress
from maskbench.mask import Grid
from maskbench.masks import MaskTape
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule, adamw
from maskbench.probes import features, suite
from maskbench.results import Store
from maskbench.shape import step_flops
from maskbench.spec import Request, RunSettings, check_numbers, preset, strategy_settings
from maskbench.strategy import MaskStrategy
from maskbench.train import Clock, Job, train

PROBE_LIMIT = 10_000


@dataclass(frozen=True)
class Result:
    """A run that ended.

    Args:
        folder: Where it lies.
        record: Its record.
        reused: Whether it had been finished before and was not run again.
    """

    folder: Path
    record: dict[str, Any]
    reused: bool


def run(request: Request, store: Store, progress: Progress, *, fresh: bool = False) -> Result:
    """Do what is asked, or find that it is done.

    Args:
        request: The run.
        store: Where runs lie.
        progress: Who watches.
        fresh: Run again (in a new folder) even if a finished run has the same settings.

    Raises:
        MaskbenchError: With what happened, where, and what to do; the record says so too.
    """
    settings, strategy, images, plan = resolve(request, store, progress)
    done = store.finished(settings.run_id())
    if done and not fresh:
        return Result(done, results.read_record(done), reused=True)
    folder = store.create(settings.run_id())
    record = first_record(folder, settings, strategy, images, plan)
    try:
        carry_out(folder, record, settings, strategy, images, plan, progress)
        record["status"] = "finished"
    except BaseException as error:
        record["status"] = status_of(error)
        record["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        record["provenance"]["finished"] = provenance.now()
        results.write_json(folder / results.RECORD, record)
    return Result(folder, results.read_record(folder), reused=False)


def status_of(error: BaseException) -> str:
    """The word for how a run ended early."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "diverged" if isinstance(error, DivergedError) else "failed"


def resolve(
    request: Request, store: Store, progress: Progress
) -> tuple[RunSettings, MaskStrategy, Images, Plan]:
    """Check everything that can be checked before work begins, cheapest first.

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
    images = open_data(request.data, shape.image, store.root / "data", request.max_bad, progress)
    images = limited(images, request.limit)
    batch = size.batch if request.batch is None else request.batch
    plan = Plan.of(budget, len(images.train), batch)
    hidden = shape.patches - shape.patches // 4 if request.hidden is None else request.hidden
    settings = RunSettings(
        strategy=public_name(request.strategy),
        strategy_settings=strategy.settings.model_dump(mode="json"),
        strategy_digest=digest_of(request.strategy),
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
    return settings, strategy, images, plan


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
    path, colon, attribute = strategy.rpartition(":")
    return f"{Path(path).name}:{attribute}" if colon else strategy


def digest_of(strategy: str) -> str | None:
    """SHA-256 of a user's own strategy file, so that an edited idea is another run."""
    path = Path(strategy.rpartition(":")[0])
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def first_record(
    folder: Path, settings: RunSettings, strategy: MaskStrategy, images: Images, plan: Plan
) -> dict[str, Any]:
    """Write settings and a record that says "running"."""
    shape = preset(settings.model).shape
    test = images.test
    record = {
        "schema": results.SCHEMA,
        "id": folder.name,
        "status": "running",
        "strategy": {
            "name": settings.strategy,
            "settings": settings.strategy_settings,
            "family": strategy.family,
            "source": strategy.source,
            "summary": strategy.summary,
        },
        "settings": settings.model_dump(mode="json"),
        "seed": settings.seed,
        "data": {
            "name": images.name,
            "fingerprint": images.fingerprint,
            "classes": list(images.classes),
            "train": len(images.train),
            "test": len(test) if test else 0,
            **images.notes,
        },
        "model": {"preset": settings.model, **asdict(shape), "hidden": settings.hidden},
        "budget": {
            "text": settings.budget,
            "images": plan.images,
            "steps": plan.steps,
            "epochs": plan.epochs,
        },
        "ledger": {},
        "probes": [],
        "controls": [],
        "masks": {},
        "provenance": provenance.provenance(settings.device),
    }
    results.write_json(folder / results.SETTINGS, record["settings"])
    results.write_json(folder / results.RECORD, record)
    return record


def build(settings: RunSettings, strategy: MaskStrategy, images: Images, plan: Plan) -> Job:
    """Model, optimiser, feed and strategy, all from keyed randomness."""
    shape = preset(settings.model).shape
    device = torch.device(settings.device)
    model = MaskedAutoencoder(shape, seeds.generator(settings.seed, "init")).to(device)
    schedule = Schedule.of(settings.base_lr, settings.batch, settings.warmup, plan.steps)
    count = len(images.train)
    feed = Feed(
        images.train,
        plan,
        lambda epoch: strategy.order(epoch, count, job.context(0)),
        seed=settings.seed,
        side=shape.image,
        device=device,
    )
    strategy.to(device)
    job = Job(
        model=model,
        strategy=strategy,
        feed=feed,
        plan=plan,
        schedule=schedule,
        optimizer=adamw(model, [], settings.weight_decay),
        grid=Grid(shape.side, shape.side, settings.hidden),
        seed=settings.seed,
        device=device,
        precision=settings.precision,
        compile=settings.compile,
    )
    strategy.setup(job.context(0), count)
    joint = strategy.joint_parameters()
    if joint:
        job.optimizer.add_param_group({"params": joint, "weight_decay": settings.weight_decay})
    return job


def carry_out(
    folder: Path,
    record: dict[str, Any],
    settings: RunSettings,
    strategy: MaskStrategy,
    images: Images,
    plan: Plan,
    progress: Progress,
) -> None:
    """Train, look, probe; fills the record."""
    job = build(settings, strategy, images, plan)
    clock, metrics = Clock(), results.MetricsFile(folder / results.METRICS)
    tape = MaskTape(job, images.train)
    start = time.perf_counter()

    def log(row: Mapping[str, Any]) -> None:
        seconds = time.perf_counter() - start - clock.parts.get("paused", 0.0)
        speed = row["images"] / seconds
        metrics.append({**row, "seconds": round(seconds, 3), "images_per_s": round(speed, 1)})
        record["ledger"] = ledger(job, row["images"], seconds, clock)
        progress.advance(row["images"], loss=row["loss"], speed=speed)

    progress.start(f"training {settings.strategy}", plan.images, "images")
    try:
        train(job, clock, log, tape)
    finally:
        metrics.close()
        progress.finish()
    state = {name: value.detach().cpu() for name, value in job.model.encoder_state().items()}
    save_file(state, folder / results.ENCODER, metadata={"model": settings.model})
    record["masks"] = tape.save(folder / results.MASKS)
    record["ledger"] = ledger(job, plan.images, record["ledger"]["seconds"]["training"], clock)
    begun = time.perf_counter()
    probe(record, job, settings, images, progress)
    record["ledger"]["seconds"]["probes"] = time.perf_counter() - begun


def ledger(job: Job, images: int, seconds: float, clock: Clock) -> dict[str, Any]:
    """What the run has cost so far; FLOPs are 2 per multiply-add."""
    shape, visible = job.model.shape, job.grid.visible
    parts = dict(step_flops(shape, visible))
    for part, flops in job.strategy.cost(job.grid, shape).items():
        parts[part] = parts.get(part, 0) + flops
    plain = sum(step_flops(shape, visible).values())
    return {
        "images": images,
        "images_distinct": min(images, job.plan.train_images),
        "steps": math.ceil(images / job.plan.batch),
        "tokens_encoded": images * (visible + 1),
        "flops": {part: flops * images for part, flops in parts.items()},
        "flops_total": sum(parts.values()) * images,
        "flops_relative_to_random": sum(parts.values()) / plain,
        "seconds": {"training": seconds, **{k: v for k, v in clock.parts.items()}},
        "images_per_s": images / seconds,
        "peak_memory_bytes": provenance.peak_memory(),
    }


def probe(
    record: dict[str, Any], job: Job, settings: RunSettings, images: Images, progress: Progress
) -> None:
    """Score the frozen encoder beside its controls; nothing to do without classes."""
    train, test = images.train, images.test
    if test is None or train.labels is None or test.labels is None:
        progress.message("no classes, so no probes")
        return
    pool = suite.probe_pool(train.ids, train.labels, PROBE_LIMIT)
    scored = suite.probe_pool(test.ids, test.labels, PROBE_LIMIT)
    pixels = (np.ascontiguousarray(train.images[pool]), np.ascontiguousarray(test.images[scored]))
    shape = job.model.shape
    untrained = MaskedAutoencoder(shape, seeds.generator(settings.seed, "init")).to(job.device)

    def encoded(model: MaskedAutoencoder, label: str) -> tuple[NDArray[Any], NDArray[Any]]:
        progress.message(f"features: {label}")
        first, second = (
            features.patch_mean(model, part, augment.normalise, job.device) for part in pixels
        )
        return first, second

    found = {
        "patchmean": encoded(job.model, "trained encoder"),
        "untrained": encoded(untrained, "untrained encoder"),
        "pixels": (features.pixels(pixels[0], shape.image), features.pixels(pixels[1], shape.image)),
    }
    rows = suite.run_suite(
        found,
        (train.labels[pool], test.labels[scored]),
        [train.ids[int(i)] for i in pool],
        images.classes,
        dataset=images.name,
        draws=settings.draws,
        progress=progress,
    )
    record["probes"] = [row for row in rows if row["feature"] == "patchmean"]
    record["controls"] = [row for row in rows if row["feature"] != "patchmean"]


__all__ = ["MaskbenchError", "Result", "run"]
