"""The contract every registered strategy passes by existing; ``maskbench check`` runs the same."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch
from conftest import SMALL, make_job

from maskbench import registry, seeds
from maskbench.compose import Composite, overrides
from maskbench.contract import CLAUSES, Clause, Pair, Subject, judge, pairs
from maskbench.model import MaskedAutoencoder

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


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def orders_nothing(name: str) -> bool:
    cls = registry.load(name)
    parts = [part for _, part in cls.classes] if issubclass(cls, Composite) else [cls]
    return not any(overrides(part, "order") for part in parts)


def test_all_strategies_share_weights_order_and_crops() -> None:
    """What the strategy does not decide is the same for all of them."""
    jobs = [make_job(name) for name in NAMES if orders_nothing(name)]
    first = jobs[0]
    fresh = MaskedAutoencoder(SMALL, seeds.generator(0, "init")).state_dict()
    for job in jobs:
        assert same(fresh, job.model.state_dict())
        for step in (0, 4, 5):
            assert torch.equal(job.batch(step).images, first.batch(step).images)
            assert torch.equal(job.batch(step).positions, first.batch(step).positions)
