"""``maskbench run``: pretrain one strategy under a budget and probe it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskbench.budget import DEFAULT_BUDGET
from maskbench.cli.options import AsJson, Debug, StoreDir

if TYPE_CHECKING:
    from maskbench.results import Store
    from maskbench.spec import Request

_RECIPE = "Recipe"
_MACHINE = "Machine"


def run(
    strategy: Annotated[
        str,
        typer.Option("--strategy", "-s", help="See 'maskbench ls strategies'; or mine.py:Mine."),
    ],
    budget: Annotated[
        str,
        typer.Option(
            help="400ep, 200step, 1.5Mimg (epochs, steps, images), 350Tflop, 90min (s, min, h), "
            "or match:RUN:flop (:img, :s): as much as that run used."
        ),
    ] = DEFAULT_BUDGET,
    data: Annotated[str, typer.Option(help="scenes (built in), or folder:PATH.")] = "scenes",
    model: Annotated[str, typer.Option(help="Preset: see 'maskbench ls models'.")] = "nano",
    seed: Annotated[int, typer.Option(help="Weights, order, crops and masks.")] = 0,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the strategy; repeatable."),
    ] = None,
    out: StoreDir = Path("runs"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run again, in a new folder, even if it was finished.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan (amounts, time, memory, disk) and stop."),
    ] = False,
    as_json: AsJson = False,
    probe_at: Annotated[
        str,
        typer.Option(
            help="Probe during training, off the clock, too: 25,50,75,100% of the budget.",
            rich_help_panel=_RECIPE,
        ),
    ] = "100%",
    hidden: Annotated[
        int | None,
        typer.Option(
            help="Hidden patches per image. Default: three quarters.", rich_help_panel=_RECIPE
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Images per step. Default: the preset's.", rich_help_panel=_RECIPE),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Learning rate per 256 images of the batch. Default: the preset's.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Use at most this many training images.", rich_help_panel=_RECIPE),
    ] = None,
    draws: Annotated[
        int, typer.Option(help="Few-shot subsets per shot.", rich_help_panel=_RECIPE)
    ] = 10,
    max_bad: Annotated[
        float,
        typer.Option(help="Share of unusable files that is tolerated.", rich_help_panel=_RECIPE),
    ] = 0.01,
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=_MACHINE)
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32 or bf16 (autocast).", rich_help_panel=_MACHINE)
    ] = "auto",
    compile_: Annotated[
        bool, typer.Option("--compile", help="Use torch.compile.", rich_help_panel=_MACHINE)
    ] = False,
    debug: Debug = False,
) -> None:
    """Pretrain a masked autoencoder under a masking strategy and a budget, and probe it.

    Examples:
      maskbench run --strategy clmae
      maskbench run --strategy clmae --budget match:random-nano:flop --dry-run
      maskbench run --strategy random --budget 400ep --data folder:cifar10 --model micro
      maskbench run --strategy clmae --set last=0 --seed 1 --json
    """
    from maskbench.budget import parse
    from maskbench.cli import render
    from maskbench.data.kinds import check_kind
    from maskbench.errors import MaskbenchError
    from maskbench.registry import check_name
    from maskbench.results import Store, read_record
    from maskbench.spec import Request, check_numbers, preset, shares

    request = Request(
        strategy=strategy,
        budget=budget,
        data=data,
        model=model,
        seed=seed,
        sets=tuple(sets or ()),
        hidden=hidden,
        batch=batch,
        lr=lr,
        device=device,
        precision=precision,
        compile=compile_,
        limit=limit,
        draws=draws,
        max_bad=max_bad,
        probe_at=shares(probe_at),
    )
    check_name(strategy)
    check_kind(data)
    parse(budget)
    preset(model)
    check_numbers(request)
    if dry_run:
        _plan(request, Store(out), as_json=as_json)
        return
    with render.watch() as progress:
        progress.message("starting (loading torch)")
        from maskbench.runner import run as carry_out

        try:
            result = carry_out(request, Store(out), progress, fresh=fresh, tell=render.plan)
        except MaskbenchError as error:
            if as_json and error.folder:
                _answer(error.folder, read_record(error.folder), reused=False)
            raise
    if as_json:
        _answer(result.folder, result.record, reused=result.reused)
    else:
        render.run_table(result.folder, result.record, reused=result.reused)


def _plan(request: "Request", store: "Store", *, as_json: bool) -> None:
    """What the run would take; nothing is written."""
    from maskbench.cli import render

    with render.watch() as progress:
        progress.message("starting (loading torch)")
        from maskbench.runner import rehearse

        forecast, finished = rehearse(request, store, progress)
    if as_json:
        render.as_json({**asdict(forecast), "finished": str(finished) if finished else None})
    else:
        render.dry_run(forecast, finished)


def _answer(folder: Path, record: dict[str, Any], *, reused: bool) -> None:
    """The one object that scripts read, however the run ended."""
    from maskbench.cli import render

    status = record["status"]
    render.as_json({"run": str(folder), "status": status, "reused": reused, "record": record})
