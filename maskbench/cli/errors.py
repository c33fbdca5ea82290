"""Exceptions become one paragraph and an exit code here, and nowhere else."""

import sys
import textwrap

import typer

from maskbench.errors import BUG, OK, MaskbenchError
from maskbench.trust import plain

_state = {"debug": False}


def set_debug(value: bool) -> None:
    """Remember whether tracebacks are wanted."""
    _state["debug"] = value


def guarded(app: typer.Typer) -> int:
    """Run the command line and return its exit code; no traceback unless ``--debug``."""
    try:
        app()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else OK
    except MaskbenchError as error:
        return _tell(str(error), error, error.exit_code)
    except Exception as error:
        text = f"unexpected {type(error).__name__}: {error}. This is a bug; --debug shows where."
        return _tell(text, error, BUG)
    return OK


def _tell(text: str, error: BaseException, code: int) -> int:
    if _state["debug"]:
        import traceback

        traceback.print_exception(error)
    first, *rest = plain(text, lines=True).split("\n")
    print("\n".join([textwrap.fill(f"maskbench: {first}", 96), *rest]), file=sys.stderr)
    return code
