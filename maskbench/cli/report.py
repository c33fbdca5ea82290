"""``maskbench report``: make a report again from the runs it names, or check that it is theirs."""

from pathlib import Path
from typing import Annotated

import typer

from maskbench.cli.options import Debug


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a report.")] = Path("reports/latest"),
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Run folders or stores; default: those the report names."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: compare every file, byte by byte.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Make a report again from the runs it was made of; or check that it is what they give.

    The same runs give the same bytes, where the libraries that draw are of the same versions.
    Where they are not, --check compares the numbers (of report.json and the CSV files) and says so.

    Exit code 6 says that a file is not what the runs give; it is named.

    Examples:
      maskbench report reports/example
      maskbench report reports/example --check
    """
    from maskbench.cli import render
    from maskbench.cli.stores import chosen
    from maskbench.errors import DIFFERS
    from maskbench.report import page, writing

    folders = chosen(runs, folder) if runs else writing.runs_of(folder)
    with render.busy("making the report again"):
        made = page.make(folders)
        if not check:
            path, _ = writing.write(made, folder, writing.kinds_of(folder))
            render.line(f"report  {path} (replaced)")
            return
        found, others = writing.check(made, folder)
    if others:
        render.line(f"Drawn by other versions ({'; '.join(others)}): only numbers are compared.")
    for one in found:
        render.line(f"{folder / one.file}  {one.state}")
    if found:
        raise typer.Exit(DIFFERS)
    render.line(f"{folder}: the same from its {len(folders)} runs")
