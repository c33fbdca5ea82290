"""The contract every registered strategy passes by existing; ``maskbench check`` runs the same."""

from functools import cache

import pytest
import torch

from maskbench import registry
from maskbench.contract import CLAUSES, Clause, Pair, Subject, judge, pairs

REGISTERED = [entry.name for entry in registry.entries()]
COMPOSED = [
    name
    for name in ("prototypes+clmae", "ratio+random", "random+aux")
    if set(name.split("+")) <= set(REGISTERED)
]
NAMES = REGISTERED + COMPOSED
HERE = [clause for clause in CLAUSES if clause.name != "gpu" or torch.cuda.is_available()]

subject = cache(Subject)
"""One per name, so that the clauses share what they can."""


PAIRED = ["random", "hpm"]
"""Trained by two processes in the fast suite; the others in the slow one."""
SIBLINGS = ["adversarial", "cooperative", "neutral", "prototypes+clmae"]
"""clmae's class with other numbers, or beside another: in the slow suite."""


def _slow(clause: Clause, name: str) -> bool:
    return name in SIBLINGS or (clause.name == "processes" and name not in PAIRED)


CASES = [
    pytest.param(
        clause,
        name,
        id=f"{clause.name}-{name}",
        marks=[pytest.mark.slow] if _slow(clause, name) else [],
    )
    for clause in HERE
    for name in NAMES
]


@cache
def replicas(few: bool) -> dict[str, Pair]:
    """Strategies trained by two processes, started once for all of them."""
    return pairs([name for name in NAMES if (name in PAIRED) == few])


@pytest.mark.parametrize(("clause", "name"), CASES)
def test_clause(clause: Clause, name: str) -> None:
    if clause.name == "processes":
        subject(name).pair = replicas(name in PAIRED)[name]
    verdict = judge(clause, subject(name))
    if verdict.skipped:
        pytest.skip(verdict.skipped)
    if verdict.error:
        raise verdict.error
    assert verdict.passed, f"{name}: expected {verdict.expected}; seen: {verdict.seen}"
