"""``maskbench run``: pretrain one strategy under a budget and probe it."""

import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskbench.budget import DEFAULT_BUDGET
from maskbench.cli import options

if TYPE_CHECKING:
    from maskbench.results import Store
    from maskbench.runner import Result
    from maskbench.spec import Request


OF_BENCHMARKS = ("tier", "jobs", "pack", "only", "launch", "slurm", "wait", "reports")
"""Parameters that only mean something with a benchmark."""
OF_BOTH = (
    "benchmark", "out", "dry_run", "as_json", "debug", "data", "model", "budget",
    "checkpoint_every", "on_nonfinite", "accumulate", "moments", "track",
)  # fmt: skip
"""Parameters that mean something with a benchmark, too; the rest stands in its file."""
ALONE = ("strategy", "fresh", "nproc")
"""Parameters of a single run, which no file of a benchmark can say either."""


def run(
    context: typer.Context,
    benchmark: options.Benchmark = None,
    strategy: options.MaybeStrategy = None,
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
    track: options.Track = "",
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
    tier: options.Tier = None,
    jobs: options.Jobs = None,
    pack: options.Pack = 1,
    only: options.Only = None,
    launch: options.Launch = "here",
    slurm: options.SlurmOptions = "",
    wait: options.Wait = True,
    reports: options.Reports = Path("reports"),
    debug: options.Debug = False,
) -> None:
    """Pretrain a masked autoencoder under a masking strategy and a budget, and probe it.

    With a BENCHMARK: all runs that its file plans. What is finished is not run again, what was
    broken off goes on, a run that fails does not stop the others; at the end they are compared.
    Exit code 3 then says that a run is missing.

    Examples:
      maskbench run --strategy clmae
      maskbench run --strategy clmae --budget match:random-nano:flop --dry-run
      maskbench run --strategy random --budget 400ep --data folder:cifar10 --model micro
      maskbench run --strategy clmae --set last=0 --seed 1 --json
      maskbench run quickstart --dry-run
      maskbench run my-benchmark.toml --jobs 4
    """
    told = {name: value for name, value in locals().items() if name != "context"}
    from maskbench.care import Care
    from maskbench.cli import bars, render
    from maskbench.cli.request import checked
    from maskbench.errors import MaskbenchError
    from maskbench.results import Store, read_record

    if benchmark is not None:
        _benchmark(context, told)
        return
    given = _given(context, OF_BENCHMARKS)
    if strategy is None or given:
        raise _neither(given)
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
    care = Care.of(checkpoint_every, on_nonfinite, accumulate, moments=moments, track=track)
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
    _shown(result, as_json=as_json)


def _shown(result: "Result", *, as_json: bool) -> None:
    """How a run ended."""
    from maskbench.cli import render

    if as_json:
        _answer(result.folder, result.record, reused=result.reused)
    else:
        render.run_table(result.folder, result.record, reused=result.reused)


def _refuse_dropped(context: typer.Context, told: dict[str, Any]) -> None:
    """Refuse options of benchmarks that would have no effect beside others.

    Raises:
        UsageError: There is one.
    """
    from maskbench.errors import UsageError

    here = _given(context, ("jobs", "pack"))
    if told["only"]:
        many = ("dry_run", "jobs", "pack", "launch", "slurm", "wait", "reports")
        dropped = _given(context, many)
        if dropped:
            raise UsageError(f"{dropped[0]} is about many runs: leave it or --only out.")
    elif told["launch"] == "slurm" and here:
        raise UsageError(
            f"{here[0]} is about this machine: jobs at a time are array-parallelism in --slurm, "
            "runs per job are pack."
        )
    elif told["launch"] == "here" and _given(context, ("wait",)):
        raise UsageError("--wait and --detach are about jobs of a cluster: add --launch slurm.")


def _given(context: typer.Context, names: Iterable[str]) -> list[str]:
    """Those parameters that somebody gave, as options."""
    sources = {name: context.get_parameter_source(name) for name in names}
    given = [name for name, source in sources.items() if source and source.name != "DEFAULT"]
    words = {}
    for one in context.command.params:
        off = one.secondary_opts and not context.params[str(one.name)]
        words[one.name] = max(one.secondary_opts if off else one.opts, key=len)
    return [words[name] for name in given]


def _neither(given: list[str]) -> Exception:
    from maskbench.errors import UsageError

    if given:
        return UsageError(f"{given[0]} is about benchmarks: name one, as in 'maskbench run NAME'.")
    return UsageError(
        "what is to be run? 'maskbench run --strategy random' makes one run ('maskbench ls "
        "strategies' lists strategies), 'maskbench run quickstart' a whole benchmark ('maskbench "
        "ls benchmarks')."
    )


def _benchmark(context: typer.Context, told: dict[str, Any]) -> None:
    """Many runs, planned by a file; ``told``: the parameters of ``run`` by name."""
    from maskbench.benchmark.reading import asked
    from maskbench.care import Care
    from maskbench.cli import benchmark
    from maskbench.errors import UsageError, unknown

    rest = [name for name in context.params if name not in (*OF_BENCHMARKS, *OF_BOTH)]
    alone, wrong = _given(context, ALONE), _given(context, rest)
    if alone:
        raise UsageError(f"{alone[0]} is about a single run: leave it or the benchmark out.")
    if wrong:
        raise UsageError(
            f"{wrong[0]} cannot be given beside a benchmark: write it into the file "
            "([options], [probes], seeds or a strategy's settings)."
        )
    _refuse_dropped(context, told)
    if told["launch"] not in ("here", "slurm"):
        raise UsageError(unknown("place to launch", told["launch"], ("here", "slurm")))
    if told["slurm"] and told["launch"] != "slurm":
        raise UsageError("--slurm says how jobs are launched: add --launch slurm.")
    changed = {
        key: told[name]
        for key, name in (("data", "data"), ("model", "model"), ("budgets", "budget"))
        if _given(context, [name])
    }
    changed["tier"] = told["tier"]
    care = Care.of(
        *(told[name] for name in ("checkpoint_every", "on_nonfinite", "accumulate")),
        moments=told["moments"],
        track=told["track"],
    )
    if told["only"]:
        result = benchmark.one_of(told["benchmark"], told["only"], told["out"], care, **changed)
        if os.environ.get("RANK", "0") == "0":
            _shown(result, as_json=told["as_json"])
        return
    fields = ("out", "reports", "jobs", "pack", "launch", "slurm", "wait", "as_json")
    way = benchmark.Way(care=care, **{name: told[name] for name in fields})
    spec = asked(told["benchmark"], **changed)
    if told["dry_run"]:
        benchmark.rehearse(spec, way)
    else:
        benchmark.carry_out(spec, way)


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
