"""``maskbench check``: does a strategy keep the contract?"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from maskbench.cli.options import AsJson, Debug
from maskbench.errors import StrategyError

if TYPE_CHECKING:
    from maskbench.contract import Verdict


def check(
    strategy: Annotated[
        str, typer.Argument(help="See 'maskbench ls strategies'; or mine.py:Mine.")
    ],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Try a strategy on tiny models: legal masks, keyed noise, resume, cost, two processes.

    Examples:
      maskbench check clmae
      maskbench check ./mine.py:Mine --debug
    """
    from maskbench.cli import render
    from maskbench.registry import check_name

    check_name(strategy)
    verdicts = []
    for verdict in _judged(strategy):
        verdicts.append(verdict)
        if not as_json:
            render.verdict(_row(verdict))
    failed = [verdict for verdict in verdicts if verdict.failed]
    skipped = [verdict.clause for verdict in verdicts if verdict.skipped]
    if as_json:
        rows = [_row(verdict) for verdict in verdicts]
        render.as_json({"strategy": strategy, "passed": not failed, "clauses": rows})
    left = f"; not tried: {', '.join(skipped[:2])}" if skipped else ""
    left += f" and {len(skipped) - 2} more" if len(skipped) > 2 else ""
    if failed:
        _refuse(strategy, failed, len(verdicts), left)
    kept = len(verdicts) - len(skipped)
    render.say(f"maskbench: {strategy} keeps the contract ({kept} clauses{left}).")


def _refuse(strategy: str, failed: Sequence["Verdict"], count: int, left: str) -> NoReturn:
    """End with exit code 1; the tracebacks, for --debug, are those of the strategy."""
    names = ", ".join(verdict.clause for verdict in failed)
    raised = [verdict.error for verdict in failed if verdict.error]
    is_ = "clause is" if len(failed) == 1 else "clauses are"
    raise StrategyError(
        f"{strategy} breaks the contract: {len(failed)} of {count} {is_} not kept: {names}{left}."
        f"{' --debug shows where it raised.' if raised else ''}"
    ) from (
        BaseExceptionGroup("raised in the clauses that are not kept", raised) if raised else None
    )


def _judged(strategy: str) -> Iterator["Verdict"]:
    """Verdicts as they come, under a spinner; what the strategy prints goes to stderr."""
    from maskbench.cli import render

    with render.busy("loading torch"):
        from maskbench import contract

        verdicts = contract.check(strategy)
    for clause in contract.CLAUSES:
        with render.busy(f"{clause.name}: {clause.meaning}"), redirect_stdout(sys.stderr):
            verdict = next(verdicts)
        yield verdict


def _row(verdict: "Verdict") -> dict[str, Any]:
    """A verdict as plain values."""
    names = ("clause", "meaning", "passed", "expected", "seen", "skipped")
    return {**{n: getattr(verdict, n) for n in names}, "seconds": round(verdict.seconds, 3)}
