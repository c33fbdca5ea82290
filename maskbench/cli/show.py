"""``maskbench show``: one run in full."""

from pathlib import Path
from typing import Annotated

import typer

from maskbench.cli.options import AsJson, Debug, StoreDir


def show(
    run: Annotated[str, typer.Argument(help="A run folder, its name, or the beginning of it.")],
    out: StoreDir = Path("runs"),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show one run: probes beside controls, cost, settings, where it came from.

    Examples:
      maskbench show random-nano
      maskbench show runs/random-nano-8ep-s0-1234abcd --json
    """
    from maskbench.cli import render
    from maskbench.results import Store, read_record

    folder = Store(out).find(run)
    record = read_record(folder)
    if as_json:
        render.as_json(record)
    else:
        render.run_table(folder, record, details=True)
