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


@pytest.fixture(scope="session")
def replicas() -> dict[str, Pair]:
    """Every strategy trained by two processes, started once for all of them."""
    return pairs(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("clause", HERE, ids=lambda clause: clause.name)
def test_clause(name: str, clause: Clause, request: pytest.FixtureRequest) -> None:
    if clause.name == "processes":
        subject(name).pair = request.getfixturevalue("replicas")[name]
    verdict = judge(clause, subject(name))
    if verdict.skipped:
        pytest.skip(verdict.skipped)
    if verdict.error:
        raise verdict.error
    assert verdict.passed, f"{name}: expected {verdict.expected}; seen: {verdict.seen}"
