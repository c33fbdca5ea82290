"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

from maskbench.cli.errors import set_debug

StoreDir = Annotated[Path, typer.Option("--out", help="The run store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show tracebacks.", callback=set_debug, is_eager=True)
]

_RECIPE = "Recipe"
_MACHINE = "Machine"

_STRATEGY = typer.Option("--strategy", "-s", help="See 'maskbench ls strategies'; or mine.py:Mine.")
Strategy = Annotated[str, _STRATEGY]
MaybeStrategy = Annotated[str | None, _STRATEGY]
Amount = Annotated[
    str,
    typer.Option(
        "--budget",
        help="400ep, 200step, 1.5Mimg (epochs, steps, images), 350Tflop, 90min (s, min, h), "
        "or match:RUN:flop (:img, :s): as much as that run used.",
    ),
]
Data = Annotated[str, typer.Option(help="scenes (built in), folder:PATH or hf:NAME|PATH.")]
Model = Annotated[str, typer.Option(help="Preset: see 'maskbench ls models'.")]
Seed = Annotated[int, typer.Option(help="Weights, order, crops and masks.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the strategy; repeatable."),
]
Hidden = Annotated[
    int | None,
    typer.Option(
        help="Hidden patches per image. Default: three quarters.", rich_help_panel=_RECIPE
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch", help="Images per step. Default: the preset's.", rich_help_panel=_RECIPE
    ),
]
LearningRate = Annotated[
    str | None,
    typer.Option(
        help="Learning rate per 256 images of the batch, or tuned (what 'maskbench tune' found). "
        "Default: the preset's.",
        rich_help_panel=_RECIPE,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(help="Use at most this many training images.", rich_help_panel=_RECIPE),
]
Draws = Annotated[int, typer.Option(help="Few-shot subsets per shot.", rich_help_panel=_RECIPE)]
ProbeAt = Annotated[
    str,
    typer.Option(
        help="Probe during training, off the clock, too: 25,50,75,100% of the budget.",
        rich_help_panel=_RECIPE,
    ),
]
MaxBad = Annotated[
    float,
    typer.Option(help="Share of unusable files that is tolerated.", rich_help_panel=_RECIPE),
]
Every = Annotated[
    str,
    typer.Option(
        help="Time between two checkpoints: 30s, 10min, 1h. The same command goes on from the "
        "last one.",
        rich_help_panel=_MACHINE,
    ),
]
OnNonfinite = Annotated[
    str,
    typer.Option(
        help="What happens when the loss or a gradient is not finite: stop, or skip:K (up to K "
        "steps are skipped, and counted in the record).",
        rich_help_panel=_MACHINE,
    ),
]
Accumulate = Annotated[
    int,
    typer.Option(
        help="Compute every batch in this many pieces: the same step in less memory, for up to "
        "twice the time (what a piece keeps for its gradients is computed again).",
        rich_help_panel=_MACHINE,
    ),
]
Moments = Annotated[
    bool,
    typer.Option(
        "--moments/--no-moments",
        help="Keep model and strategy as they were at nine moments, so that 'maskbench masks' can "
        "mask other images (disk: see --dry-run).",
        rich_help_panel=_MACHINE,
    ),
]
Track = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="Tell the numbers to tensorboard, wandb, or both (tensorboard,wandb), too: "
        "pip install 'maskbench[wandb]'.",
        rich_help_panel=_MACHINE,
    ),
]
Processes = Annotated[
    int,
    typer.Option(
        "--nproc",
        help="Processes that share every batch: one per GPU, or per core. torchrun works, too.",
        rich_help_panel=_MACHINE,
    ),
]
_BENCHMARK = "Benchmark"
Benchmark = Annotated[
    str | None,
    typer.Argument(
        help="A benchmark to carry out: a shipped name ('maskbench ls benchmarks') or FILE.toml. "
        "None: one run of --strategy."
    ),
]
Tier = Annotated[
    str | None,
    typer.Option(help="A variant that the file names.", rich_help_panel=_BENCHMARK),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        help="Runs at a time. Default: one per GPU times --pack; one on a CPU.",
        rich_help_panel=_BENCHMARK,
    ),
]
Pack = Annotated[
    int,
    typer.Option(help="Runs that share a device at a time.", rich_help_panel=_BENCHMARK),
]
Only = Annotated[
    str | None,
    typer.Option(
        help="Carry out this run of the benchmark alone, in this process.",
        metavar="RUN",
        rich_help_panel=_BENCHMARK,
    ),
]
Launch = Annotated[
    str,
    typer.Option(help="here, or slurm: one job per run.", rich_help_panel=_BENCHMARK),
]
SlurmOptions = Annotated[
    str,
    typer.Option(
        "--slurm",
        help="Of every job: partition=gpu,time=2h,nodes=2,gpus-per-node=8, ...",
        rich_help_panel=_BENCHMARK,
    ),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait/--detach",
        help="Wait for the jobs and compare, or leave them to the cluster.",
        rich_help_panel=_BENCHMARK,
    ),
]
Reports = Annotated[
    Path,
    typer.Option("--reports", help="The report goes to its folder.", rich_help_panel=_BENCHMARK),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=_MACHINE)]
Precision = Annotated[
    str, typer.Option(help="auto, fp32 or bf16 (autocast).", rich_help_panel=_MACHINE)
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Use torch.compile.", rich_help_panel=_MACHINE)
]
