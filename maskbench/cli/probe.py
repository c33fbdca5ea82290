"""``maskbench probe``: any encoder on any data set with classes."""

from pathlib import Path
from typing import Annotated

import typer

from maskbench.cli import options


def probe(
    encoder: Annotated[
        str,
        typer.Argument(
            help="A run (folder, name, or its beginning), timm:NAME, timm:NAME@FILE or mae:FILE."
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="scenes, folder:PATH or hf:NAME|PATH. Default: scenes, if a run had them."
        ),
    ] = None,
    probes: Annotated[
        str,
        typer.Option(
            help="Which, separated by commas: frozen (few-shot curve and nearest neighbours), "
            "logreg-full, attentive, linear-lars, finetune."
        ),
    ] = "frozen",
    protocol: Annotated[
        str,
        typer.Option(
            help="ours, or clmae: the CL-MAE paper's few-shot probe (SGD on CLS, three runs) "
            "instead of ours."
        ),
    ] = "ours",
    supervised: Annotated[
        bool,
        typer.Option(
            "--supervised",
            help="One more control: the run's encoder trained on the labels, for as many images.",
        ),
    ] = False,
    pool: Annotated[int, typer.Option(help="Images of each split that are used at most.")] = 10_000,
    draws: options.Draws = 10,
    epochs: Annotated[
        int | None, typer.Option(help="Of what is trained (not of frozen). Default: each its own.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is trained.")] = 0,
    side: Annotated[
        int | None,
        typer.Option(help="Input side, pixels; positions are interpolated. Default: its own."),
    ] = None,
    enlarge_from: Annotated[
        int | None,
        typer.Option(help="Keep images at this side, pixels, and enlarge them to the input."),
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", help="The run store.")] = Path("runs"),
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the findings. Default: the run's; else probes/."),
    ] = None,
    max_bad: options.MaxBad = 0.01,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Probe a run, or a checkpoint of others, on any data set with classes.

    Raw pixels and an untrained encoder are probed beside it. What was found is kept, and read when
    the same is asked again.

    Examples:
      maskbench probe random-nano --data folder:cifar10
      maskbench probe random-nano --probes frozen,logreg-full,attentive --supervised
      maskbench probe random-nano --protocol clmae
      maskbench probe timm:vit_small_patch16_224.dino@dino.pth --data folder:flowers
      maskbench probe mae:mae_pretrain_vit_base.pth --data folder:flowers
    """
    from maskbench.cli import bars, render
    from maskbench.data.kinds import check_kind
    from maskbench.errors import UsageError, unknown
    from maskbench.results import Store

    check_kind(data or "scenes")
    if protocol not in ("ours", "clmae"):
        raise UsageError(unknown("protocol", protocol, ("ours", "clmae")))
    kinds = [kind.strip() for kind in probes.split(",")]
    if protocol == "clmae":
        kinds = ["clmae-protocol", *(kind for kind in kinds if kind != "frozen")]
    with bars.watch() as progress:
        progress.message("starting (loading torch)")
        from maskbench.inquiry import Inquiry
        from maskbench.probing import probe as carry_out

        found = carry_out(
            Inquiry(
                encoder=encoder,
                data=data,
                kinds=tuple(dict.fromkeys(kinds)),
                pool=pool,
                draws=draws,
                seed=seed,
                epochs=epochs,
                side=side,
                stored=enlarge_from,
                supervised=supervised,
                device=device,
                max_bad=max_bad,
            ),
            Store(runs),
            out,
            progress,
        )
    if as_json:
        render.as_json({"file": str(found.path), "reused": found.reused, "found": found.content})
    else:
        render.probed(found.path, found.content, reused=found.reused)
