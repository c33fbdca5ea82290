"""Carry out one run in one folder: settings first, then training, masks, probes, record."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from maskbench import machine, priors, provenance, results, seeds
from maskbench.clock import Clock
from maskbench.context import Features
from maskbench.errors import DivergedError, InterruptedRunError, MaskbenchError, StoreError
from maskbench.events import Progress
from maskbench.forecast import Forecast, calibrate, forecast, provisional, settle
from maskbench.job import Job
from maskbench.ledger import Ledger
from maskbench.mask import Grid
from maskbench.masks import MaskTape
from maskbench.midway import Midway
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule
from maskbench.plan import Planned, resolve
from maskbench.probes.score import score
from maskbench.results import Store
from maskbench.shape import step_flops
from maskbench.spec import Request, preset
from maskbench.train import train

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


Tell = Callable[[Forecast], None]


def run(
    request: Request,
    store: Store,
    progress: Progress,
    *,
    fresh: bool = False,
    tell: Tell = lambda forecast: None,
) -> Result:
    """Do what is asked, or find that it is done.

    Args:
        request: The run.
        store: Where runs lie.
        progress: Who watches.
        fresh: Run again (in a new folder) even if a finished run has the same settings.
        tell: Told what the run will take, before it begins.

    Raises:
        MaskbenchError: With what happened, where, and what to do; the record says so too.
    """
    planned = resolve(request, store, progress)
    run_id = planned.settings.run_id()
    done = store.finished(run_id)
    if done and not fresh:
        return Result(done, results.read_record(done), reused=True)
    job, expected = prepare(planned, store, progress)
    tell(expected)
    folder = store.create(run_id)
    record = first_record(folder, request.budget, planned, expected)
    try:
        carry_out(folder, record, planned, job, progress)
    except BaseException as caught:
        error = explained(caught, folder)
        close(folder, record, STATUS.get(type(error), "failed"), str(error))
        raise error from caught
    close(folder, record, "finished")
    return Result(folder, results.read_record(folder), reused=False)


def rehearse(request: Request, store: Store, progress: Progress) -> tuple[Forecast, Path | None]:
    """What a run would take, and the finished run with these settings, if there is one.

    Raises:
        MaskbenchError: What would stop the run before it begins.
    """
    planned = resolve(request, store, progress)
    _, expected = prepare(planned, store, progress)
    return expected, store.finished(planned.settings.run_id())


def prepare(planned: Planned, store: Store, progress: Progress) -> tuple[Job, Forecast]:
    """A job that can start, and what it will take; there is no folder yet."""
    settings = planned.settings
    job = build(planned, store, progress)
    progress.message("timing a few steps on a copy")
    speed = calibrate(job)
    job = settle(job, speed, settings.base_lr, settings.warmup)
    machine.reset_peak_memory(settings.device)
    return job, forecast(job, speed, store.root, planned.notes)


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


def first_record(folder: Path, typed: str, planned: Planned, expected: Forecast) -> dict[str, Any]:
    """Write settings and a record that says "running"."""
    settings, strategy, budget = planned.settings, planned.strategy, planned.budget
    images, test = planned.images, planned.images.test
    shape = preset(settings.model).shape
    amount = expected.images if budget.kind == "images" else budget.amount
    record = {
        "schema": results.SCHEMA,
        "id": folder.name,
        "status": "running",
        "strategy": {
            "name": settings.strategy,
            "settings": settings.strategy_settings,
            "changed": strategy.settings.model_dump(mode="json", exclude_defaults=True),
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
            "text": typed,
            "unit": budget.kind,
            "amount": float(amount) if budget.kind == "seconds" else int(amount),
            "images": expected.images,
            "steps": expected.steps,
            "epochs": expected.epochs,
            "seconds_expected": expected.seconds,
        },
        "ledger": {},
        "probes": [],
        "probes_during": [],
        "controls": [],
        "masks": {},
        "provenance": provenance.provenance(settings.device),
    }
    results.write_json(folder / results.SETTINGS, record["settings"])
    results.write_json(folder / results.RECORD, record)
    return record


def build(planned: Planned, store: Store, progress: Progress) -> Job:
    """Model, optimiser, feed and strategy, all from keyed randomness; on the clock.

    Done before there is a folder: a setting that cannot be leaves nothing behind.
    """
    settings, strategy = planned.settings, planned.strategy
    shape, split = preset(settings.model).shape, planned.images.train
    device = torch.device(settings.device)
    grid = Grid(shape.side, shape.side, settings.hidden)

    def features(kind: str) -> Features:
        """Of all training images."""
        return priors.features(
            kind,
            split,
            side=shape.image,
            device=device,
            progress=progress,
            find_run=store.find,
        )

    def first_step() -> int:
        """FLOPs of one image's first step."""
        first = replace(grid, hidden=strategy.hidden(0.0, grid))
        parts = (step_flops(shape, first.visible), strategy.cost(first, shape))
        return sum(sum(part.values()) for part in parts)

    plan = provisional(first_step, planned.budget, len(split), settings.batch)
    meter = machine.Energy.find(settings.device)
    clock = Clock(joules=meter.joules if meter else None)
    with clock.on("setup"):
        model = MaskedAutoencoder(shape, seeds.generator(settings.seed, "init")).to(device)
        return Job.of(
            model,
            strategy.to(device),
            split,
            features=features,
            plan=plan,
            schedule=Schedule.of(settings.base_lr, settings.batch, settings.warmup, plan.steps),
            grid=grid,
            weight_decay=settings.weight_decay,
            seed=settings.seed,
            device=device,
            precision=settings.precision,
            compile=settings.compile,
            clock=clock,
        )


def carry_out(
    folder: Path, record: dict[str, Any], planned: Planned, job: Job, progress: Progress
) -> None:
    """Train, look, probe; fills the record."""
    settings, images, clock = planned.settings, planned.images, job.clock
    ledger, metrics = Ledger(job), results.MetricsFile(folder / results.METRICS)
    tape = MaskTape(job, images.train)
    midway = Midway(job, ledger, images, settings, progress)

    def moment(step: int) -> None:
        """Look at the masks, and probe, when it is time."""
        tape(step)
        midway(step)

    def log(row: Mapping[str, Any]) -> None:
        """One line of numbers: to the file, the ledger, and whoever watches."""
        now = ledger.now()
        seconds, speed = now["seconds_total"], now["images_per_s"]
        metrics.append({**row, "seconds": round(seconds, 3), "images_per_s": round(speed, 1)})
        record["ledger"] = now
        done = row["images"] if counted else int(100 * row["progress"])
        progress.advance(done, loss=row["loss"], speed=speed)

    counted = planned.budget.kind == "images"
    whole, unit = (job.plan.images, "images") if counted else (100, f"% of {planned.budget}")
    progress.start(f"training {settings.strategy}", whole, unit)
    try:
        train(job, log, moment)
    finally:
        metrics.close()
        progress.finish()
    state = {name: value.detach().cpu() for name, value in job.model.encoder_state().items()}
    save_file(state, folder / results.ENCODER, metadata={"model": settings.model})
    record["masks"] = tape.save(folder / results.MASKS)
    record["probes_during"] = midway.found
    with clock.on("probes"):
        untrained = MaskedAutoencoder(job.model.shape, seeds.generator(settings.seed, "init"))
        encoders = {"patchmean": job.model, "untrained": untrained.to(job.device)}
        rows = score(encoders, images, job.device, draws=settings.draws, progress=progress)
    record["probes"] = [row for row in rows if row["feature"] == "patchmean"]
    record["controls"] = [row for row in rows if row["feature"] != "patchmean"]
    record["ledger"] = ledger.now("budget")
