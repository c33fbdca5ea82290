"""``maskbench run BENCHMARK``: many runs, planned by a file."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from maskbench.benchmark.carry import Carried
    from maskbench.benchmark.layout import Place, Plan
    from maskbench.benchmark.reading import Asked
    from maskbench.benchmark.slots import Slots
    from maskbench.benchmark.states import State
    from maskbench.care import Care
    from maskbench.events import Progress
    from maskbench.reproduce.report import Outcome
    from maskbench.runner import Result

LEFT_OUT = 3


@dataclass(frozen=True)
class Way:
    """How a benchmark is carried out.

    Args:
        out: The store.
        reports: Where the report's folder goes.
        jobs: Runs at a time; None: one per device.
        pack: Runs that share a device.
        launch: ``here`` or ``slurm``.
        slurm: What ``--slurm`` was given.
        wait: Whether a cluster's jobs are waited for.
        as_json: Whether stdout is for a program.
        care: How every run is looked after.
    """

    out: Path
    reports: Path
    jobs: int | None
    pack: int
    launch: str
    slurm: str
    wait: bool
    as_json: bool
    care: "Care"


def carry_out(asked: "Asked", way: Way) -> None:
    """Plan, run what is not finished, compare.

    Raises:
        MaskbenchError: What no run could do: wrong names, no data, no disk, Ctrl-C.
        Exit: With 3 where a run is missing at the end.
    """
    from maskbench.cli import bars, benched, render

    with bars.watch() as progress:
        plan, place = _planned(asked, way.out, progress)
        places = _places(plan, way)
        _keep(plan, place, progress)
    for name, value in (("question", asked.question), ("plan", place.folder)):
        render.say(f"{name}  {value}")
    if way.launch == "slurm":
        found = _on_slurm(plan, place, way)
        if found is None:
            return
    else:
        from maskbench.benchmark.carry import carry

        with benched.watched(asked.name) as watch:
            found = carry(plan, place, places, watch, way.care)
    _tell(asked, plan, place, found, way)


def _planned(asked: "Asked", out: Path, progress: "Progress") -> tuple["Plan", "Place"]:
    """The plan, and where it belongs."""
    from maskbench.benchmark.layout import Place, laid_out
    from maskbench.results import Store

    progress.message("starting (loading torch)")
    store = Store(out)
    return laid_out(asked, store, progress), Place(store, asked.name)


def _places(plan: "Plan", way: Way) -> "Slots":
    """For how many runs at a time there is room here; refuses what would not be fair."""
    from maskbench.benchmark.slots import refuse_unfair, slots, visible

    cpu = all(laid.request.device == "cpu" for laid in plan.items.values())
    found = slots(way.jobs, way.pack, visible(cpu), os.cpu_count() or 1)
    if way.launch != "slurm":
        refuse_unfair(plan, found)
    return found


def _keep(plan: "Plan", place: "Place", progress: "Progress") -> None:
    """Keep the plan in the store; say what an edited file asks otherwise."""
    changed = place.keep(plan)
    if changed:
        progress.note(
            f"{plan.name} is not what was planned here before: {'; '.join(changed[:8])}"
            f"{'; ...' if len(changed) > 8 else ''}. Runs of the older plan stay as they are, with "
            "their own settings; those that both plans ask for are not run again."
        )


def _tell(asked: "Asked", plan: "Plan", place: "Place", found: "Carried", way: Way) -> None:
    """How it ended: runs, answer, report."""
    from maskbench.benchmark.answer import answers
    from maskbench.benchmark.states import FINISHED, states
    from maskbench.cli import benched, render, reproduced

    now = states(plan, place)
    missing = [one for one in now if one.state != FINISHED]
    report, outcome = _report(asked, plan, now, found, way.reports)
    rows = answers(plan, now, asked.baseline)
    if way.as_json:
        render.as_json(
            {
                "benchmark": asked.name,
                "sha256": plan.sha256,
                "runs": [asdict(one) for one in now],
                "errors": found.errors,
                "answers": [{**asdict(one), "mean": one.mean, "half": one.half} for one in rows],
                "report": report and str(report),
                **({"outcome": outcome.plain()} if outcome else {}),
            }
        )
    else:
        base = asked.baseline or next(iter(plan.items.values())).arm
        benched.answers(rows, asked.metric, asked.direction, base)
        render.line(benched.summary(now))
        for one in missing:
            why = found.errors.get(one.name) or one.error or "not begun"
            render.line(f"missing   {one.name} ({one.state}): {why}")
            log = place.logs / f"{one.name}.log"
            if log.is_file():
                render.line(f"          its log: {log}")
        if outcome and report:
            reproduced.outcome(outcome, report)
        elif report:
            render.line(f"report    {report}")
    if found.stopped:
        render.say(f"stopped before the rest: {found.stopped}")
    if missing:
        render.say("the same command tries again what is missing; what is finished stays.")
        raise typer.Exit(LEFT_OUT)


def _report(
    asked: "Asked", plan: "Plan", now: Sequence["State"], found: "Carried", reports: Path
) -> tuple[Path | None, "Outcome | None"]:
    """The report of all runs that began, or a figure's folder with its verdict.

    Neither, if nothing is finished.
    """
    from maskbench.benchmark.states import FINISHED
    from maskbench.cli import render

    if not any(one.state == FINISHED for one in now):
        return None, None
    where = reports / asked.name
    if asked.figure:
        return where, _figure(asked, plan, now, found, where)
    from maskbench.report import page, writing

    with render.busy("drawing the report"):
        folders = [Path(one.folder) for one in now if one.folder]
        path, _ = writing.write(page.make(folders), where, ["svg"])
    return path, None


def _figure(
    asked: "Asked", plan: "Plan", now: Sequence["State"], found: "Carried", where: Path
) -> "Outcome":
    """A paper's figure, drawn and judged."""
    from maskbench.benchmark.states import FINISHED
    from maskbench.cli import render
    from maskbench.reproduce import schema
    from maskbench.reproduce.reading import Bench, Done
    from maskbench.reproduce.report import Outcome, write

    runs: dict[tuple[str, int], Done | str] = {
        (one.arm, plan.items[one.name].request.seed): Done(Path(str(one.folder)))
        if one.state == FINISHED
        else found.errors.get(one.name) or one.error or one.state
        for one in now
    }
    with render.busy("drawing and judging"):
        outcome = Outcome.of(asked.path.stem, Bench(schema.Benchmark(**asked.resolved), runs))
        write(outcome, where)
    return outcome


def _on_slurm(plan: "Plan", place: "Place", way: Way) -> "Carried | None":
    """Submit what is not finished; wait for it, or say how to look and return None."""
    from maskbench.benchmark import slurm
    from maskbench.benchmark.carry import Carried
    from maskbench.benchmark.states import FINISHED, queued, states
    from maskbench.cli import benched, render

    asked, kept = slurm.Slurm.parse(way.slurm), str(place.version(plan).absolute())
    out = str(place.store.root.absolute())
    launches = [
        slurm.Launch(one.name, ("run", kept, "--only", one.name, "--out", out, *way.care.words()))
        for one in states(plan, place)
        if one.state != FINISHED
    ]
    if launches:
        made = slurm.submit(launches, asked, place.logs)
        new = sum(one.new for one in made)
        render.say(f"slurm  {new} runs submitted, {len(made) - new} had a job already")
        if not way.wait:
            render.say("       'maskbench status' says how far they are; the same command compares")
            return None
        with benched.watched(plan.name) as watch:
            slurm.wait(place.logs, lambda jobs: watch(queued(states(plan, place), jobs)))
    ends = slurm.outcomes(place.logs)
    left = [one.name for one in states(plan, place) if one.state != FINISHED]
    return Carried({name: _ended(ends[name]) for name in left if name in ends})


def _ended(told: dict[str, Any]) -> str:
    """How a job's process ended, in words."""
    said = " ".join(str(told.get("said", "")).split())
    where = f"exit code {told.get('code')} in job {told.get('job')} on {told.get('host')}"
    return f"{said[-400:]} ({where})" if said else where


def rehearse(asked: "Asked", way: Way) -> None:
    """What everything would take; nothing is run, and no plan is kept."""
    from maskbench.cli import bars, benched, render

    with bars.watch() as progress:
        from maskbench.benchmark.ahead import outlook
        from maskbench.benchmark.states import states

        plan, place = _planned(asked, way.out, progress)
        places = _places(plan, way)
        found = outlook(plan, place.store, states(plan, place), len(places), progress)
    if way.as_json:
        rows = [
            {**asdict(row), "seconds_left": row.seconds_left, "disk_left": row.disk_left}
            for row in found.rows
        ]
        render.as_json({"benchmark": asked.name, **asdict(found), "rows": rows})
    else:
        benched.outlook(found, asked.question)


def one_of(benchmark: str, name: str, out: Path, care: "Care", **given: Any) -> "Result":
    """One run of a benchmark, here, in this process or this team of processes.

    Args:
        benchmark: A name, a file, or a plan that was kept in a store (``plan-....json``).
        name: The run's in the benchmark.
        out: The store.
        care: How the run is looked after.
        given: As for ``reading.asked``.

    Raises:
        UsageError: There is none of that name.
    """
    from maskbench.benchmark.layout import Place, laid_out, only, read_plan
    from maskbench.benchmark.reading import asked
    from maskbench.cli import bars
    from maskbench.errors import UsageError
    from maskbench.results import Store

    with bars.watch() as progress:
        if benchmark.endswith(".json"):
            try:
                plan = read_plan(Path(benchmark))
            except FileNotFoundError as error:
                raise UsageError(f"there is no plan at {benchmark}.") from error
        else:
            spec = asked(benchmark, **given)
            only(spec.items, name)
            plan = laid_out(spec, Store(out), progress)
            if os.environ.get("RANK", "0") == "0":
                Place(Store(out), spec.name).keep(plan)
        laid = only(plan.items, name)
        progress.message("starting (loading torch)")
        from maskbench.runner import run

        return run(laid.request, Store(out), progress, care=care, benchmark=plan.origin(name))
