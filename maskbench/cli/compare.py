"""``maskbench compare``: runs side by side, in the terminal and in one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from maskbench.cli.options import AsJson, Debug


def compare(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Run folders, names or stores; default: all runs.")
    ] = None,
    store: Annotated[Path, typer.Option("--runs", help="The run store.")] = Path("runs"),
    out: Annotated[
        Path, typer.Option("--out", help="Folder for report.html; a run store is compared itself.")
    ] = Path("reports/latest"),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare runs: a table here, and one self-contained report.html.

    Examples:
      maskbench compare
      maskbench compare random-nano clmae-nano --out reports/first-look
      maskbench compare other/runs
    """
