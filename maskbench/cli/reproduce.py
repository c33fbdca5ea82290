"""``maskbench reproduce``: a paper's figure from its file: runs, figure, verdict."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from maskbench.cli import options


def reproduce(
    name: Annotated[
        str | None, typer.Argument(help="A shipped figure, or FILE.toml. None: lists them.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="scenes, folder:PATH or hf:NAME|PATH. Default: the file's.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Preset. Default: the file's.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Of every run, as in 'maskbench run'. Default: the file's.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="How many: 0, 1, ... Default: the file's.")
    ] = None,
    out: options.StoreDir = Path("runs"),
    reports: Annotated[
        Path, typer.Option("--reports", help="The outcome goes to its folder NAME.")
    ] = Path("reports"),
    jobs: options.Jobs = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the runs will take, and stop.")
    ] = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Reproduce a paper's figure: its runs, its figure, and a verdict on its claim.

    A figure's file says what is claimed, what is run, and by which criterion it is judged. Runs
    that are finished are not run again. The outcome (figure.svg, figure.png, verdict.json,
    numbers.csv) goes to reports/NAME/.

    Exit code 3 says that a run failed: its number is missing, and what needs it is undecided.

    Examples:
      maskbench reproduce
      maskbench reproduce clmae-fig2
      maskbench reproduce clmae-fig2 --dry-run
      maskbench reproduce clmae-fig5 --data folder:cifar10 --budget 100ep --seeds 8
      maskbench reproduce my-figure.toml
    """
    from maskbench.cli import render, reproduced
    from maskbench.reproduce import schema

    if name is None:
        files = {key: schema.read(path) for key, path in schema.shipped().items()}
        if as_json:
            render.as_json([{"name": key, "claim": file.claim} for key, file in files.items()])
        else:
            reproduced.listed(files)
        return
    from maskbench.benchmark.reading import asked
    from maskbench.care import Care
    from maskbench.cli import benchmark

    path = schema.located(name)
    schema.read(path)  # another benchmark has no verdict
    found = asked(str(path), data=data, model=model, budgets=budget, seeds=seeds)
    words = (data, model, budget, None if seeds is None else f"{seeds} seeds")
    kind = "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", str(w)).strip("-") for w in words if w)
    found = replace(found, name="-".join(part for part in (path.stem, kind) if part))
    way = benchmark.Way(out, reports, jobs, 1, "here", "", wait=True, as_json=as_json, care=Care())
    (benchmark.rehearse if dry_run else benchmark.carry_out)(found, way)
