"""Carry out one run in one folder: settings first, then training, masks, probes, record."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from maskbench import priors, provenance, results, seeds
from maskbench.context import Features
from maskbench.errors import DivergedError, InterruptedRunError, MaskbenchError, StoreError
from maskbench.events import Progress
from maskbench.job import Job
from maskbench.ledger import Ledger
from maskbench.mask import Grid
from maskbench.masks import MaskTape
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule
from maskbench.plan import Planned, resolve
from maskbench.probes.score import score
from maskbench.results import Store
from maskbench.spec import Request, preset
from maskbench.train import Clock, train

STATUS: dict[type[BaseException], str] = {
    InterruptedRunError: "interrupted",
    DivergedError: "diverged",
}


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
    planned = resolve(request, store.root / "data", progress)
    run_id = planned.settings.run_id()
    done = store.finished(run_id)
    if done and not fresh:
        return Result(done, results.read_record(done), reused=True)
    begun = time.perf_counter()
    job = build(planned, store, progress)
    ledger = Ledger(job, time.perf_counter() - begun)
    folder = store.create(run_id)
    record = first_record(folder, planned)
    try:
        carry_out(folder, record, planned, ledger, progress)
    except BaseException as caught:
        error = explained(caught, folder)
        close(folder, record, STATUS.get(type(error), "failed"), str(error))
        raise error from caught
    close(folder, record, "finished")
    return Result(folder, results.read_record(folder), reused=False)


def explained(caught: BaseException, folder: Path) -> BaseException:
    """What ended a run, as an error that says what happened and knows the run's folder."""
    if isinstance(caught, KeyboardInterrupt):
        error: BaseException = InterruptedRunError(
            f"interrupted; what was measured so far is kept in {folder}."
        )
    elif isinstance(caught, OSError | SafetensorError):
        error = StoreError(f"cannot write the run in {folder}: {caught}. Free space, or use --out.")
    else:
        error = caught
    if isinstance(error, MaskbenchError):
        error.folder = folder
    return error


def close(folder: Path, record: dict[str, Any], status: str, error: str | None = None) -> None:
    """Write how a run ended."""
    record["status"] = status
    if error is not None:
        record["error"] = error
    record["provenance"]["finished"] = provenance.now()
    try:
        results.write_json(folder / results.RECORD, record)
    except StoreError:
        if error is None:
            raise


def first_record(folder: Path, planned: Planned) -> dict[str, Any]:
    """Write settings and a record that says "running"."""
    settings, strategy, plan = planned.settings, planned.strategy, planned.plan
    images, test = planned.images, planned.images.test
    shape = preset(settings.model).shape
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
            "prior": strategy.prior(),
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


def build(planned: Planned, store: Store, progress: Progress) -> Job:
    """Model, optimiser, feed and strategy, all from keyed randomness.

    Done before there is a folder: a setting that cannot be leaves nothing behind.
    """
    settings, strategy, plan = planned.settings, planned.strategy, planned.plan
    shape = preset(settings.model).shape
    device = torch.device(settings.device)
    model = MaskedAutoencoder(shape, seeds.generator(settings.seed, "init")).to(device)

    def features(kind: str) -> Features:
        """Of all training images."""
        return priors.features(
            kind,
            planned.images.train,
            side=shape.image,
            device=device,
            progress=progress,
            find_run=store.find,
        )

    schedule = Schedule.of(settings.base_lr, settings.batch, settings.warmup, plan.steps)
    return Job.of(
        model,
        strategy.to(device),
        planned.images.train,
        features=features,
        plan=plan,
        schedule=schedule,
        grid=Grid(shape.side, shape.side, settings.hidden),
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        device=device,
        precision=settings.precision,
        compile=settings.compile,
    )


def carry_out(
    folder: Path, record: dict[str, Any], planned: Planned, ledger: Ledger, progress: Progress
) -> None:
    """Train, look, probe; fills the record."""
    settings, images, plan = planned.settings, planned.images, planned.plan
    job = ledger.job
    clock, metrics = Clock(), results.MetricsFile(folder / results.METRICS)
    tape = MaskTape(job, images.train)
    start = time.perf_counter()

    def log(row: Mapping[str, Any]) -> None:
        """One line of numbers: to the file, the ledger, and whoever watches."""
        seconds = time.perf_counter() - start - clock.parts.get("paused", 0.0)
        speed = row["images"] / seconds
        metrics.append({**row, "seconds": round(seconds, 3), "images_per_s": round(speed, 1)})
        record["ledger"] = ledger.at(row["images"], seconds, clock)
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
    record["ledger"] = ledger.at(plan.images, record["ledger"]["seconds"]["training"], clock)
    begun = time.perf_counter()
    untrained = MaskedAutoencoder(job.model.shape, seeds.generator(settings.seed, "init"))
    encoders = {"patchmean": job.model, "untrained": untrained.to(job.device)}
    rows = score(encoders, images, job.device, draws=settings.draws, progress=progress)
    record["probes"] = [row for row in rows if row["feature"] == "patchmean"]
    record["controls"] = [row for row in rows if row["feature"] != "patchmean"]
    record["ledger"]["seconds"]["probes"] = time.perf_counter() - begun
