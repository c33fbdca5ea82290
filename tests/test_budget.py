"""Budgets mean what they say."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskbench.budget import UNITS, Budget, Match, Plan, one_kind, parse
from maskbench.errors import UsageError


@pytest.mark.parametrize(
    ("text", "images", "steps"),
    [
        ("2ep", 2000, 32),
        ("200step", 200 * 64, 200),
        ("1.5kimg", 1500, 24),
        ("0.5ep", 500, 8),
        ("2e3img", 2000, 32),
        ("64img", 64, 1),
    ],
)
def test_units(text: str, images: int, steps: int) -> None:
    plan = Plan.of(Budget.parse(text), train_images=1000, batch=64)
    assert (plan.images, plan.steps) == (images, steps)


@pytest.mark.parametrize(
    ("text", "amount", "unit", "shown"),
    [
        ("2e18flop", 2 * 10**18, "flop", "2Eflop"),
        ("350Tflop", 350 * 10**12, "flop", "350Tflop"),
        ("1.2Eflop", 12 * 10**17, "flop", "1.2Eflop"),
        ("123456789flop", 123456789, "flop", "123456.789kflop"),
        ("1.5h", 5400, "s", "90min"),
        ("90min", 5400, "s", "90min"),
        ("7200s", 7200, "s", "2h"),
        ("0.5s", Fraction(1, 2), "s", "0.5s"),
        ("12345678901234567flop", 12345678901234567, "flop", "12345678901234.567kflop"),
        ("0.00001ep", Fraction(1, 10**5), "ep", "0.00001ep"),
        ("123456789.123456789s", Fraction(123456789123456789, 10**9), "s", "123456789.123456789s"),
        (" 3 ep ", 3, "ep", "3ep"),
    ],
)
def test_flops_and_times(text: str, amount: Fraction, unit: str, shown: str) -> None:
    budget = Budget.parse(text)
    assert (budget.amount, budget.unit, str(budget)) == (amount, unit, shown)
    assert Budget.parse(str(budget)) == budget


@given(st.sampled_from(["img", "step", "flop", "s", "ep"]), st.integers(1, 10**15))
def test_what_is_printed_is_read_back_exactly(unit: str, amount: int) -> None:
    budget = Budget.parse(f"{amount if unit != 's' else amount % 10**9 + 1}{unit}")
    assert Budget.parse(str(budget)) == budget
    assert len(budget.short()) <= max(len(str(budget)), 12)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("0.12345678s", "0.1235s"),
        ("12345.678s", "3.429h"),
        ("100.123456s", "1.669min"),
        ("90min", "90min"),
        ("123456789flop", "123.5Mflop"),
        ("123456789img", "123.5Mimg"),
    ],
)
def test_a_short_form_for_every_unit(text: str, short: str) -> None:
    assert Budget.parse(text).short() == short


@given(st.sampled_from(["s", "ep"]), st.fractions(Fraction(1, 10**6), 10**6))
def test_decimals_are_read_back_exactly(unit: str, amount: Fraction) -> None:
    budget = Budget(Fraction(round(amount * 10**9), 10**9), unit)
    assert Budget.parse(str(budget)) == budget
    assert budget.short()


def test_match_names_a_run_and_a_unit() -> None:
    assert parse("match:random-nano-2ep-s0-1a2b:flop") == Match("random-nano-2ep-s0-1a2b", "flop")
    assert parse("match:some/folder:s") == Match("some/folder", "s")
    assert parse("2ep") == Budget(Fraction(2), "ep")
    for text in ("match:", "match:flop", "match::flop", "matchrun:flop"):
        with pytest.raises(UsageError, match="match:RUN:flop"):
            parse(text)
    with pytest.raises(UsageError, match="Did you mean 'flop'"):
        parse("match:run:flops")


def test_budgets_of_one_benchmark_count_one_thing() -> None:
    one_kind(["2ep", "200step", "1kimg", "match:a:img"])
    one_kind(["2Tflop", "match:a:flop"])
    one_kind(["2h", "90min", "match:a:s"])
    with pytest.raises(UsageError, match=r"mix images \(2ep\) and seconds \(1h\)"):
        one_kind(["2ep", "3ep", "1h"])
    with pytest.raises(UsageError, match="cannot be ranked together"):
        one_kind(["2ep", "match:a:flop"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0ep", "larger than zero"),
        ("-3ep", "larger than zero"),
        ("1.5step", "whole number"),
        ("0.5img", "whole number"),
        ("10epoch", "Did you mean 'ep'"),
        ("1.5flop", "whole number"),
        ("350TFLOP", "Did you mean 'Tflop'"),
        ("2e18flops", "Did you mean 'flop'"),
        ("10m", "Did you mean 'min'"),
        ("3hours", "Did you mean 'h'"),
        ("2kmin", "unknown budget unit"),
        ("2Tep", "unknown budget unit"),
        ("1e31flop", "more than"),
        ("1e99s", "more than"),
        ("infs", "amount and a unit"),
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
    with pytest.raises(UsageError, match=r"less than one step of 10: take 1step \(10img\)"):
        Plan.of(Budget.parse("0.05ep"), train_images=100, batch=10)
    with pytest.raises(UsageError, match=r"take 1step \(10img\)\.$"):
        Plan.of(Budget.parse("0.001ep"), train_images=100, batch=10)


def test_every_unit_is_explained() -> None:
    assert set(UNITS) == {"ep", "step", "img", "flop", "h", "min", "s"}
