"""What a budget stops, and what the schedules follow: images, FLOPs, seconds."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from hands import Hand
from hypothesis import given, settings
from hypothesis import strategies as st

from maskbench.budget import Budget, Plan
from maskbench.clock import Clock
from maskbench.pace import FlopPace, Pace, Prices, TimePace, Turn


def images(budget: str, train_images: int = 1000, batch: int = 64) -> Pace:
    return Pace(Plan.of(Budget.parse(budget), train_images, batch))


def flops(amount: int, batch: int, prices: Callable[[float], int], beside: int = 0) -> FlopPace:
    """A pace whose price per image depends on how far it is; "hidden" stands for the price."""
    plan = Plan.expecting(Budget(Fraction(amount), "flop"), 1000, batch, amount // prices(0))
    return FlopPace(plan, Prices(prices, lambda hidden: hidden, lambda: beside))


def walk(pace: Pace) -> list[Turn]:
    """All turns, each taken."""
    turns = []
    while (turn := pace.turn(pace.steps)).images:
        turns.append(turn)
        hidden = pace._prices.hidden(turn.progress) if isinstance(pace, FlopPace) else 12
        pace.took(turn, hidden)
    assert (turn.share, turn.progress) == (1, 1)
    return turns


# Images


@settings(deadline=None)
@given(st.integers(1, 10**4), st.integers(1, 500), st.integers(1, 10**4))
def test_progress_runs_from_zero_to_one(amount: int, batch: int, total: int) -> None:
    batch = min(batch, total, amount)
    pace = images(f"{amount}img", total, batch)
    plan = pace.plan
    assert (plan.steps - 1) * batch < amount <= plan.steps * batch
    assert pace.turn(0).progress == 0
    assert pace.turn(plan.steps - 1).progress == (1 if plan.steps > 1 else 0)
    assert pace.turn(plan.steps).images == 0
    assert pace.turn(plan.steps).progress == 1
    assert 0 < pace.turn(0).middle <= pace.turn(plan.steps - 1).middle < 1
    assert sum(pace.turn(step).images for step in range(plan.steps)) == amount


# FLOPs


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 16), st.integers(1, 5000), st.integers(0, 15))
def test_a_budget_of_flops_is_met_to_within_one_image(
    steps: int, batch: int, price: int, rest: int
) -> None:
    amount = steps * batch * price + rest % batch * price + price // 2
    pace = flops(amount, batch, lambda progress: price)
    turns = walk(pace)
    assert amount - price < pace.flops() <= amount
    assert turns[0].progress == 0
    assert turns[-1].progress == (1 if len(turns) > 1 else 0)
    shares = [turn.progress for turn in turns]
    assert shares == sorted(shares)


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(1, 16), st.integers(1, 10**9), st.integers(0, 15))
def test_flops_of_a_constant_price_are_images_in_other_words(
    steps: int, batch: int, price: int, rest: int
) -> None:
    """Bit by bit: the same schedules, the same batches."""
    total = steps * batch - rest % batch
    turns = walk(flops(total * price, batch, lambda progress: price))
    assert turns[-1].flops_left == 0
    assert [replace(turn, flops_left=math.inf) for turn in turns] == walk(
        images(f"{total}img", 10**6, batch)
    )


def test_a_price_that_changes_ends_fully_decayed_all_the_same() -> None:
    pace = flops(10**6, 8, lambda progress: 300 if progress < 0.5 else 100)
    turns = walk(pace)
    half = next(i for i, turn in enumerate(turns) if turn.share >= 0.5)
    assert abs(8 * half * 300 - 10**6 / 2) <= 8 * 300
    assert len(turns) > 3 * half
    assert 10**6 - 100 < pace.flops() <= 10**6
    assert turns[-1].progress == 1


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 16),
    st.lists(st.integers(1, 400), min_size=1, max_size=6),
    st.integers(0, 10**4),
)
def test_progress_never_falls_and_ends_at_one_whatever_the_price_does(
    steps: int, batch: int, levels: list[int], rest: int
) -> None:
    def price(progress: float) -> int:
        return levels[min(int(progress * len(levels)), len(levels) - 1)]

    amount = steps * batch * levels[0] + rest
    pace = flops(amount, batch, price)
    turns = walk(pace)
    shares = [turn.progress for turn in turns]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == (1 if len(turns) > 1 else 0)
    assert pace.flops() <= amount
    if len(turns) > 1:
        assert amount - pace.flops() < levels[-1]
    again = flops(amount, batch, price)
    again.load_state_dict({**pace.state_dict(), "images": {}, "steps": 0, "progress": 0.0})
    assert walk(again) == turns


def test_setup_is_paid_and_the_schedules_run_over_the_rest() -> None:
    pace = flops(10_000, 10, lambda progress: 10, beside=4000)
    turns = walk(pace)
    assert len(turns) == 60
    assert (turns[0].progress, turns[0].share, turns[-1].progress) == (0, 0, 1)
    assert pace.flops() == 10_000


def test_only_the_coming_turn_of_a_live_budget_is_known() -> None:
    pace = flops(1000, 5, lambda progress: 10)
    assert pace.turn(0) is pace.turn(0)
    with pytest.raises(LookupError, match="coming"):
        pace.turn(1)


# Seconds


def timed(
    total: float,
    durations: Callable[[int], float],
    pause: float = 0.0,
    step: float | None = None,
) -> tuple[Any, ...]:
    """Turns of a budget of seconds, its pace and its clock."""
    hand = Hand()
    clock = Clock(hand)
    plan = Plan.expecting(Budget(Fraction(total), "s"), 1000, 8, 800)
    expected = durations(0) if step is None else step
    pace = TimePace(plan, clock, expected, torch.device("cpu"))
    clock.start()
    turns = []
    while (turn := pace.turn(pace.steps)).images:
        with clock.on("paused"):
            hand.at += pause
        turns.append(turn)
        with clock.on("step"):
            hand.at += durations(pace.steps)
        pace.took(turn, 12)
    return turns, pace, clock


@settings(deadline=None)
@given(st.floats(0.01, 2), st.integers(2, 80), st.floats(0, 1), st.floats(0, 50))
def test_steady_steps_fill_a_budget_of_seconds_without_exceeding_it(
    step: float, steps: int, rest: float, pause: float
) -> None:
    total = step * (steps + 0.01 + 0.9 * rest)
    turns, _, clock = timed(total, lambda n: step, pause)
    assert abs(len(turns) - steps) <= 0
    assert clock.seconds <= total * (1 + 1e-9)
    assert clock.parts["paused"] == pytest.approx(pause * steps)
    assert turns[0].progress == 0
    assert turns[-1].progress > 0.97 - 1 / steps
    shares = [turn.progress for turn in turns]
    assert shares == sorted(shares)


def test_one_slow_step_at_the_end_is_all_that_can_exceed() -> None:
    turns, _, clock = timed(10, lambda n: 5.0 if n == 9 else 1.0)
    assert len(turns) == 10
    assert clock.seconds == 14


def test_a_slow_first_step_does_not_stop_the_run_early() -> None:
    """The calibration said a second; the first step compiles for ten."""
    turns, pace, clock = timed(16, lambda n: 10.0 if n == 0 else 1.0, step=1.0)
    assert len(turns) == 7
    assert clock.seconds == 16
    assert turns[-1].progress == 1
    assert pace.state_dict()["expected"] == 1


def test_a_live_budget_counts_the_images_it_saw() -> None:
    _, pace, _ = timed(4, lambda n: 0.25)
    assert pace.seen(16) == 16 * 8  # not the 800 that were expected
    known = images("100img", batch=8)
    assert [known.seen(step) for step in (0, 2, 12, 13)] == [0, 16, 96, 100]


def test_a_step_that_grows_slower_still_ends_decayed() -> None:
    turns, _, clock = timed(100, lambda n: 0.5 + n / 50)
    assert 95 < clock.seconds <= 100 + 4
    assert turns[-1].progress > 0.98
