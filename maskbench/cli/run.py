"""``maskbench run``: pretrain one strategy under a budget and probe it."""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskbench.budget import DEFAULT_BUDGET
from maskbench.cli import options

if TYPE_CHECKING:
    from maskbench.results import Store
    from maskbench.spec import Request


def run(
    strategy: options.Strategy,
    budget: options.Amount = DEFAULT_BUDGET,
    data: options.Data = "scenes",
    model: options.Model = "nano",
    seed: options.Seed = 0,
    sets: options.Sets = None,
    out: options.StoreDir = Path("runs"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run again, in a new folder, even if it was finished.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan (amounts, time, memory, disk) and stop."),
    ] = False,
    checkpoint_every: options.Every = "10min",
    on_nonfinite: options.OnNonfinite = "stop",
    accumulate: options.Accumulate = 1,
    moments: options.Moments = True,
    nproc: options.Processes = 1,
    as_json: options.AsJson = False,
    hidden: options.Hidden = None,
    batch: options.BatchSize = None,
    lr: options.LearningRate = None,
    limit: options.Limit = None,
    draws: options.Draws = 10,
    probe_at: options.ProbeAt = "100%",
    max_bad: options.MaxBad = 0.01,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    compile_: options.Compile = False,
    debug: options.Debug = False,
) -> None:
    """Pretrain a masked autoencoder under a masking strategy and a budget, and probe it.

    Examples:
      maskbench run --strategy clmae
      maskbench run --strategy clmae --budget match:random-nano:flop --dry-run
      maskbench run --strategy random --budget 400ep --data folder:cifar10 --model micro
      maskbench run --strategy clmae --set last=0 --seed 1 --json
    """
    from maskbench.care import Care
    from maskbench.cli import bars, render
    from maskbench.cli.request import checked
    from maskbench.errors import MaskbenchError
    from maskbench.results import Store, read_record

    request = checked(
        strategy=strategy,
        budget=budget,
        data=data,
        model=model,
        seed=seed,
        sets=sets,
        hidden=hidden,
        batch=batch,
        lr=lr,
        device=device,
        precision=precision,
        compile=compile_,
        limit=limit,
        draws=draws,
        max_bad=max_bad,
        probe_at=probe_at,
    )
    if dry_run:
        _plan(request, Store(out), as_json=as_json)
        return
    if nproc != 1:
        _together(nproc)
    talks = os.environ.get("RANK", "0") == "0"
    care = Care.of(checkpoint_every, on_nonfinite, accumulate, moments=moments)
    with bars.watch() as progress:
        progress.message("starting (loading torch)")
        from maskbench.runner import run as carry_out

        try:
            result = carry_out(
                request, Store(out), progress, fresh=fresh, care=care, tell=render.plan
            )
        except MaskbenchError as error:
            if as_json and error.folder and talks:
                _answer(error.folder, read_record(error.folder), reused=False)
            raise
    if not talks:
        return
    there = _elsewhere(result.record) if result.reused else ""
    if there:
        render.say(f"note  its seconds were taken {there}: --fresh runs it anew here.")
    if as_json:
        _answer(result.folder, result.record, reused=result.reused)
    else:
        render.run_table(result.folder, result.record, reused=result.reused)


def _together(nproc: int) -> None:
    """This command in several processes; does not return."""
    from maskbench.errors import UsageError
    from maskbench.launch import launch

    if nproc < 1:
        raise UsageError(f"--nproc {nproc}: choose at least 1.")
    cores = os.cpu_count() or 1
    if nproc > cores:
        raise UsageError(f"--nproc {nproc}: this machine has {cores} cores; choose at most that.")
    if "RANK" in os.environ:
        raise UsageError("--nproc: torchrun has started the processes already; leave it out.")
    words = sys.argv[1:]
    at = next(i for i, word in enumerate(words) if word.partition("=")[0] == "--nproc")
    del words[at : at + (1 if "=" in words[at] else 2)]
    raise typer.Exit(launch(words, nproc))


def _plan(request: "Request", store: "Store", *, as_json: bool) -> None:
    """What the run would take; no run is made (an image folder is packed for it)."""
    from maskbench.cli import bars, render

    with bars.watch() as progress:
        progress.message("starting (loading torch)")
        from maskbench.runner import rehearse

        forecast, finished = rehearse(request, store, progress)
    if as_json:
        render.as_json({**asdict(forecast), "finished": str(finished) if finished else None})
    else:
        render.dry_run(forecast, finished)


def _elsewhere(record: dict[str, Any]) -> str:
    """Where a run under a budget of seconds was made, if that is not here."""
    from maskbench.provenance import elsewhere

    timed = record["budget"]["unit"] == "seconds"
    return elsewhere(record["ledger"], record["settings"]["device"]) if timed else ""


def _answer(folder: Path, record: dict[str, Any], *, reused: bool) -> None:
    """The one object that scripts read, however the run ended."""
    from maskbench.cli import render

    status = record["status"]
    render.as_json({"run": str(folder), "status": status, "reused": reused, "record": record})
