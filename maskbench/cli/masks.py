"""``maskbench masks``: what a run's masks hide, what they look like, how they change."""

from pathlib import Path
from typing import Annotated

import typer

from maskbench.cli import options


def masks(
    run: Annotated[str, typer.Argument(help="A run: folder, name, or its beginning.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="scenes, folder:PATH or hf:NAME|PATH. Default: the run's own, if that is scenes."
        ),
    ] = None,
    images: Annotated[int, typer.Option(help="How many images are masked.")] = 256,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Folder of ground truth, named like the images: .png segmentations (0 is "
            "background) or .mat boundaries of BSDS500."
        ),
    ] = None,
    reference: Annotated[
        str,
        typer.Option(help="The run whose final model says what is difficult. own: the run itself."),
    ] = "own",
    strategy: Annotated[
        str | None,
        typer.Option(help="path/mine.py:Mine, if the run's strategy is a file of your own."),
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", help="The run store.")] = Path("runs"),
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the findings. Default: in the run's analysis/."),
    ] = None,
    max_bad: options.MaxBad = 0.01,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Study a run's masks over its training: tables (CSV, JSON) and figures.

    Do they hide what is salient (spectral residual, edges, centre, difficulty, attention; objects
    and contours where they are known)? What do they look like, how do they change, have they
    collapsed? Everything beside what random masks would show. Every run answers this of 256 of its
    own images when it ends; here it is asked of other images, or against a ground truth.

    Examples:
      maskbench masks clmae-nano
      maskbench masks clmae-nano --images 1024
      maskbench masks clmae-nano --reference random-nano
      maskbench masks clmae-nano --data folder:BSDS500/images/test --truth BSDS500/groundTruth/test
    """
    from maskbench.cli import bars, render, studied
    from maskbench.data.kinds import check_kind
    from maskbench.results import Store

    check_kind(data or "scenes")
    with bars.watch() as progress:
        progress.message("starting (loading torch)")
        from maskbench.analysing import analyse
        from maskbench.question import Question

        question = Question(
            run=run,
            data=data,
            images=images,
            truth=truth,
            reference=reference,
            strategy=strategy,
            device=device,
            max_bad=max_bad,
        )
        found = analyse(question, Store(runs), out, progress)
    if as_json:
        told = {"folder": str(found.folder), "reused": found.reused, "found": found.content}
        render.as_json(told)
    else:
        studied.studied(found.folder, found.content, reused=found.reused)
