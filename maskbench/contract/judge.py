"""Judge a strategy by every clause, in a fixed order."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from maskbench.contract import conduct, identity, masks, resources, training
from maskbench.contract.clause import Broken, Clause, Skipped, Verdict
from maskbench.contract.subject import Subject
from maskbench.errors import StrategyError, UsageError, unknown

CLAUSES: tuple[Clause, ...] = (
    Clause.of(identity.identity),
    Clause.of(identity.settings),
    Clause.of(masks.count, gate=True),
    Clause.of(training.order, gate=True),
    Clause.of(training.trains, gate=True),
    Clause.of(masks.keys),
    Clause.of(masks.place),
    Clause.of(masks.hidden_pixels),
    Clause.of(conduct.batch),
    Clause.of(conduct.model),
    Clause.of(conduct.randomness),
    Clause.of(conduct.looking),
    Clause.of(training.repeatable),
    Clause.of(training.resume),
    Clause.of(training.one_image),
    Clause.of(training.bfloat16),
    Clause.of(resources.cost),
    Clause.of(resources.gpu),
    Clause.of(resources.processes),
)
"""Cheap and fundamental ones first."""


def check(name: str, clauses: Sequence[str] | None = None) -> Iterator[Verdict]:
    """Judge a strategy; verdicts come as they are reached.

    After a broken gate (illegal masks or orders, a training that does not run) the rest is skipped.

    Args:
        name: What ``--strategy`` takes.
        clauses: Names of clauses (default: all).

    Raises:
        UsageError: No such strategy or clause.
        StrategyError: The strategy's file cannot be imported.
    """
    known = [clause.name for clause in CLAUSES]
    for asked in clauses or ():
        if asked not in known:
            raise UsageError(unknown("clause", asked, known))
    subject = Subject(name)
    closed = ""
    for clause in CLAUSES:
        if clauses is not None and clause.name not in clauses:
            continue
        if closed:
            yield Verdict(clause.name, clause.meaning, passed=False, skipped=closed)
            continue
        verdict = judge(clause, subject)
        if verdict.failed and clause.gate:
            closed = f"not tried: {clause.name} is not kept"
        yield verdict


def judge(clause: Clause, subject: Subject) -> Verdict:
    """Try one clause; whatever the strategy raises breaks it.

    On one thread: tiny matrices are many times slower on several.
    """
    begun, threads = time.perf_counter(), torch.get_num_threads()
    torch.set_num_threads(1)
    verdict = Verdict(clause.name, clause.meaning, passed=False)
    try:
        clause.test(subject)
    except Broken as broken:
        verdict = replace(verdict, expected=broken.expected, seen=broken.seen)
    except Skipped as skipped:
        verdict = replace(verdict, skipped=str(skipped))
    except (Exception, SystemExit) as error:
        verdict = replace(verdict, expected="no exception", seen=told(error), error=error)
    else:
        verdict = replace(verdict, passed=True)
    finally:
        torch.set_num_threads(threads)
    return replace(verdict, seconds=time.perf_counter() - begun)


def told(error: BaseException) -> str:
    """An exception in one line."""
    if isinstance(error, StrategyError):
        return " ".join(str(error).removesuffix(". --debug shows where.").split())
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:300]}{'...' * (len(words) > 300)}"
