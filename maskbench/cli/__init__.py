"""The command line: one verb per file; torch is imported only inside verbs that need it."""

import io
import sys

import typer

from maskbench.cli import (
    check,
    compare,
    ls,
    masks,
    probe,
    report,
    reproduce,
    run,
    show,
    status,
    tune,
)
from maskbench.cli.errors import guarded

app = typer.Typer(
    name="maskbench",
    help="Which masking strategy is worth its cost? Pretrain, probe, compare at equal budgets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 a bug or a broken strategy, 2 wrong usage, 3 something left "
    "out, 4 data, 5 the loss diverged, 6 a report is not what its runs give, 69 no Slurm or it "
    "refuses, 74 input/output, 75 in use, 76 a process was lost, 130 Ctrl-C, 143 SIGTERM.",
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"maskbench {version('maskbench')}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Which masking strategy is worth its cost?"""


app.command("run")(run.run)
app.command("status")(status.status)
app.command("tune")(tune.tune)
app.command("probe")(probe.probe)
app.command("masks")(masks.masks)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("reproduce")(reproduce.reproduce)
app.command("check")(check.check)
app.command("ls")(ls.ls)
app.command("show")(show.show)


def main() -> None:
    """Entry point of the ``maskbench`` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(guarded(app))
