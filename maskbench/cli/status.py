"""``maskbench status``: how far a benchmark is, wherever it is carried out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskbench.cli import options

if TYPE_CHECKING:
    from maskbench.benchmark.layout import Place


def status(
    benchmark: Annotated[
        str,
        typer.Argument(
            help="A shipped benchmark, FILE.toml, or what was begun under that name in --out."
        ),
    ],
    tier: options.Tier = None,
    out: options.StoreDir = Path("runs"),
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """How far a benchmark is: every run, from its folder, wherever it is carried out.

    Examples:
      maskbench status quickstart
      maskbench status my-benchmark.toml --out /scratch/runs --json
    """
    from maskbench.benchmark.layout import Place
    from maskbench.benchmark.reading import asked, differences, located
    from maskbench.benchmark.states import queued, states
    from maskbench.cli import benched, render
    from maskbench.errors import UsageError
    from maskbench.results import Store

    store, begun = Store(out), _begun(out)
    try:
        name, file = _name(located(benchmark), tier), True
    except UsageError:
        if benchmark not in begun:
            raise
        name, file = benchmark, False
    place = Place(store, name)
    plan = place.plan()
    if plan is None:
        raise UsageError(
            f"{name} was not begun in {out}/: 'maskbench run {benchmark}' begins it, --dry-run "
            f"says what it would take. Begun are: {', '.join(begun) or 'none'}."
        )
    now = queued(states(plan, place), _jobs(place))
    benched.states(name, now, as_json=as_json)
    if as_json or not file:
        return
    try:
        changed = differences(plan.asked, asked(benchmark, tier).resolved)
    except UsageError as error:
        changed = [f"it cannot be read as it is now: {error}"]
    if changed:
        render.say(
            f"note  the file asks something else than what was planned in {out}/ (or options of "
            f"the command did): {'; '.join(changed[:4])}{'; ...' if len(changed) > 4 else ''}. "
            "These are the runs of the plan."
        )
    if any(one.left for one in now):
        more = f" --tier {tier}" * bool(tier) + f" --out {out}" * (out != Path("runs"))
        render.say(f"'maskbench run {benchmark}{more}' goes on with what is not finished.")


def _begun(out: Path) -> list[str]:
    """What benchmarks are called that were begun in a store."""
    from maskbench.benchmark.layout import FOLDER

    return [path.name for path in sorted((out / FOLDER).glob("*")) if path.is_dir()]


def _jobs(place: "Place") -> dict[str, str]:
    """What Slurm says of the jobs, if some were submitted and it can be asked here."""
    from maskbench.benchmark.slurm_queue import states
    from maskbench.cli import render
    from maskbench.errors import ClusterError

    try:
        return states(place.logs)
    except ClusterError as error:
        render.say(f"note  {error}")
        return {}


def _name(path: Path, tier: str | None) -> str:
    """What a benchmark is called in a store."""
    from maskbench import strict
    from maskbench.benchmark.reading import REMEDY, is_figure
    from maskbench.benchmark.schema import Benchmark

    if not is_figure(path):
        tier = tier or strict.read(path, Benchmark, REMEDY).tier
    return f"{path.stem}@{tier}" if tier else path.stem
