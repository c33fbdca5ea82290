"""Carry out one run in one folder, from its beginning or from where it was left."""

import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from maskbench import results, team, trackers
from maskbench.care import Care
from maskbench.checkpoint import State
from maskbench.errors import (
    DivergedError,
    InterruptedRunError,
    LostProcessError,
    MaskbenchError,
    StoppedRunError,
    StoreError,
)
from maskbench.events import Progress
from maskbench.files import unwritten
from maskbench.forecast import Forecast, resettle
from maskbench.job import Job
from maskbench.logbook import again, close, first_record
from maskbench.machine import keep_memory
from maskbench.place import created, found
from maskbench.plan import Planned, resolve
from maskbench.prepare import build, prepare
from maskbench.probes.backbone import of_encoder, untrained
from maskbench.probes.cache import FOLDER as FEATURES
from maskbench.probes.cache import Cache
from maskbench.probes.score import score
from maskbench.results import Store
from maskbench.session import Session, load
from maskbench.signals import Asked, Signals
from maskbench.spec import Request
from maskbench.studying import at_end

STATUS: dict[type[BaseException], str] = {
    InterruptedRunError: "interrupted",
    StoppedRunError: "interrupted",
    LostProcessError: "interrupted",
    DivergedError: "diverged",
}
DEFAULT = Care()
MANIFEST = "fewshot_manifest.json"
COMPILING_S = 900.0
"""Seconds that processes wait for each other where steps may be compiled."""

Tell = Callable[[Forecast], None]


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


def run(
    request: Request,
    store: Store,
    progress: Progress,
    *,
    fresh: bool = False,
    care: Care = DEFAULT,
    benchmark: Mapping[str, str] | None = None,
    tell: Tell = lambda forecast: None,
) -> Result:
    """Do what is asked, go on with it, or find that it is done.

    Args:
        request: The run.
        store: Where runs lie.
        progress: Who watches.
        fresh: Begin anew, in a new folder, whatever there is with the same settings.
        care: How the run is looked after.
        benchmark: What its record says about the benchmark that planned it.
        tell: Told what the run will take, before it begins.

    Raises:
        MaskbenchError: With what happened, where, and what to do; the record says so too.
    """
    keep_memory()
    trackers.check(care.track)
    with Signals() as signals:
        try:
            planned = resolve(request, store, progress)
            settings = planned.settings
            team.check(team.asked_for(), settings.batch, len(planned.images.train), settings.device)
            patience = COMPILING_S if settings.compile else team.STEP_S
            with team.joined(settings.device, patience), ExitStack() as locks:
                folder, finished = None, False
                if not fresh:
                    folder, finished = found(settings, store, locks, typed=not benchmark)
                if folder and finished:
                    return Result(folder, results.read_record(folder), reused=True)
                state = load(folder, settings.model_dump(mode="json"), progress.note)
                if folder and state:
                    record = again(folder, state["pace"]["steps"])
                    job = resumed(planned, store, progress, state)
                else:
                    job, expected = prepare(planned, store, progress, forgiving=True)
                    if team.first():
                        tell(expected)
                    if folder is None:
                        folder, finished = created(
                            settings, store, locks, fresh=fresh, typed=not benchmark
                        )
                        if finished:  # another process was faster
                            return Result(folder, results.read_record(folder), reused=True)
                    record = first_record(folder, request.budget, planned, expected, benchmark)
                session = Session(
                    folder, record, planned, job, progress, care=care, signals=signals
                )
                return finish(session, state)
        except Asked as asked:
            raise explained(asked, None) from asked


def resumed(planned: Planned, store: Store, progress: Progress, state: State) -> Job:
    """The job of a run that goes on; ``Session.restore`` brings its state."""
    steps, settings = state["pace"]["steps"], planned.settings
    progress.note(f"going on after step {steps:,}")
    job = build(planned, store, progress)
    return resettle(job, state["images"], settings.base_lr, settings.warmup)


def finish(session: Session, state: State | None) -> Result:
    """Do the run's work, and write how it ended."""
    folder, record = session.folder, session.record
    try:
        if state:
            session.restore(state)
        carry_out(session)
    except BaseException as caught:
        error = explained(caught, folder)
        close(folder, record, STATUS.get(type(error), "failed"), str(error))
        session.trackers.end(record)
        raise error from caught
    close(folder, record, "finished")
    session.trackers.end(record)
    team.meet()
    return Result(folder, results.read_record(folder), reused=False)


def rehearse(request: Request, store: Store, progress: Progress) -> tuple[Forecast, Path | None]:
    """What a run would take, and the finished run with these settings, if there is one.

    Raises:
        MaskbenchError: What would stop the run before it begins.
    """
    planned = resolve(request, store, progress)
    _, expected = prepare(planned, store, progress)
    return expected, store.finished(planned.settings.run_id())


def explained(caught: BaseException, folder: Path | None) -> BaseException:
    """What ended a run, as an error that says what happened and knows the run's folder."""
    error: BaseException = team.lost(caught) or caught
    if isinstance(caught, KeyboardInterrupt):
        what = f"stopped by {caught}" if isinstance(caught, Asked) else "interrupted"
        kept = f"{folder} is kept, and the same command goes on from its last checkpoint"
        by_hand = not isinstance(caught, Asked) or caught.signum == signal.SIGINT
        kind = InterruptedRunError if by_hand else StoppedRunError
        error = kind(f"{what}: {kept if folder else 'nothing had begun'}.")
    elif isinstance(caught, OSError):
        error = StoreError(unwritten(folder or Path(), caught))
    elif isinstance(caught, SafetensorError):
        error = StoreError(f"cannot write the run in {folder}: {caught}. Free space, or use --out.")
    if isinstance(error, MaskbenchError):
        error.folder = folder
    return error


def carry_out(session: Session) -> None:
    """Train, look, probe; fills the record."""
    session.work()
    if not team.first():
        return
    folder, record, job, planned = session.folder, session.record, session.job, session.planned
    state = {name: value.detach().cpu() for name, value in job.model.encoder_state().items()}
    save_file(state, folder / results.ENCODER, metadata={"model": planned.settings.model})
    record["masks"] = session.tape.save(folder / results.MASKS)
    if planned.settings.scored_on == "test":  # a trial of a tuning is about its rate alone
        at_end(session)
    record["probes_during"] = session.midway.found
    with job.clock.on("probes"):
        probe(session)
    record["ledger"] = session.ledger.now("budget")
    record["nonfinite"] = {"steps_skipped": session.guard.skipped}
    session.checkpoints.prune(1)


def probe(session: Session) -> None:
    """Probe the trained encoder beside an untrained one and raw pixels; fills the record."""
    folder, record, job, task = session.folder, session.record, session.job, session.task
    if task is None:
        return
    settings = session.planned.settings
    encoder = of_encoder(job.model.copy_encoder(), record["id"])
    start = untrained(encoder, settings.seed)
    found = score(
        encoder,
        task,
        draws=settings.draws,
        controls={"untrained": start} if start else {},
        cache=Cache(folder / FEATURES),
        progress=session.progress,
    )
    record["probes"], record["controls"], record["probing"] = (
        found.rows,
        found.controls,
        found.facts,
    )
    results.write_json(folder / MANIFEST, found.manifest)
