"""Budgets mean what they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskbench.budget import Budget, Plan
from maskbench.errors import UsageError


@pytest.mark.parametrize(
    ("text", "images", "steps"),
    [
        ("2ep", 2000, 32),
        ("200step", 200 * 64, 200),
        ("1.5kimg", 1500, 24),
        ("0.5ep", 500, 8),
        ("2e3img", 2000, 32),
        ("1img", 1, 1),
    ],
)
def test_units(text: str, images: int, steps: int) -> None:
    plan = Plan.of(Budget.parse(text), train_images=1000, batch=64)
    assert (plan.images, plan.steps) == (images, steps)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0ep", "larger than zero"),
        ("-3ep", "larger than zero"),
        ("1.5step", "whole number"),
        ("0.5img", "whole number"),
        ("10epoch", "Did you mean 'ep'"),
        ("12", "no unit"),
        ("ep", "amount and a unit"),
        ("nanep", "amount and a unit"),
        ("1 2ep", "amount and a unit"),
        ("", "amount and a unit"),
    ],
)
def test_bad_budgets_say_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Budget.parse(text)


def test_batch_and_tiny_budgets_are_refused() -> None:
    with pytest.raises(UsageError, match="between 1 and 100"):
        Plan.of(Budget.parse("1ep"), train_images=100, batch=101)
    with pytest.raises(UsageError, match="less than one image"):
        Plan.of(Budget.parse("0.001ep"), train_images=100, batch=10)


@given(st.integers(1, 10**6), st.integers(1, 5000), st.integers(1, 10**5))
def test_progress_runs_from_zero_to_one(images: int, batch: int, total: int) -> None:
    batch = min(batch, total)
    plan = Plan.of(Budget.parse(f"{images}img"), total, batch)
    assert (plan.steps - 1) * batch < images <= plan.steps * batch
    assert plan.progress(0) == 0
    assert plan.progress(plan.steps - 1) == (1 if plan.steps > 1 else 0)
    assert plan.progress(plan.steps) == 1
    assert 0 < plan.middle(0) <= plan.middle(plan.steps - 1) < 1
