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
