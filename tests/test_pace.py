"""What a budget stops, and what the schedules follow: images, FLOPs, seconds."""

import copy
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from conftest import make_job
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskbench import registry
from maskbench.budget import Budget, Plan
from maskbench.clock import Clock
from maskbench.context import DataView
from maskbench.errors import UsageError
from maskbench.forecast import Speed, calibrate, settle
from maskbench.job import Job
from maskbench.ledger import Ledger
from maskbench.masks import MaskTape
from maskbench.optim import Schedule
from maskbench.pace import FlopPace, Pace, Prices, TimePace, Turn
from maskbench.strategy import Batch, Context, Grid, Mask, MaskStrategy, ModelShape, Outcome
from maskbench.train import train

SPEED = Speed(0.01, 8, 1, {"host": 0, "device": None})


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


@given(st.integers(1, 10**5), st.integers(1, 500), st.integers(1, 10**4))
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
    assert walk(flops(total * price, batch, lambda progress: price)) == walk(
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


class Hand:
    """A clock's hand that moves when it is told."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def timed(total: float, durations: Callable[[int], float], pause: float = 0.0) -> tuple[Any, ...]:
    """Turns of a budget of seconds, its pace and its clock."""
    hand = Hand()
    clock = Clock(hand)
    plan = Plan.expecting(Budget(Fraction(total), "s"), 1000, 8, 800)
    pace = TimePace(plan, clock, durations(0), torch.device("cpu"))
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


def test_a_step_that_grows_slower_still_ends_decayed() -> None:
    turns, _, clock = timed(100, lambda n: 0.5 + n / 50)
    assert 95 < clock.seconds <= 100 + 4
    assert turns[-1].progress > 0.98


# Paces of real jobs


def priced(strategy: MaskStrategy | str, amount: int, **changes: Any) -> Job:
    """A job under a budget of so many FLOPs."""
    return paced(make_job(strategy, **changes), Budget(Fraction(amount), "flop"))


def paced(job: Job, budget: Budget, speed: Speed | None = None) -> Job:
    plan = Plan.expecting(budget, job.plan.train_images, job.plan.batch, job.plan.images)
    return settle(replace(job, pace=Pace(plan)), speed, 8e-3, 0.05)


def spend(job: Job) -> dict[str, Any]:
    train(job, lambda row: None, lambda step: None)
    return Ledger(job).now()


def weights(job: Job) -> bytes:
    return b"".join(value.numpy().tobytes() for value in job.model.state_dict().values())


@pytest.mark.parametrize("name", ["random", "clmae", "hpm", "ratio+adamae"])
def test_as_many_flops_as_a_run_used_are_that_run(name: str) -> None:
    """The same strategy under its own cost: bit-identical, where the price is constant."""
    one = make_job(name, budget="77img")
    used = spend(one)
    other = priced(name, used["flops_total"], budget="77img")
    again = spend(other)
    assert 0 <= used["flops_total"] - again["flops_total"] < max(other.flops(1).values()) * 2
    if name != "ratio+adamae":
        assert weights(one) == weights(other)
        assert again["flops"] == used["flops"]
        assert again["images"] == 77


@pytest.mark.parametrize(
    "name", ["random", "clmae", "adios", "hpm", "amt", "ratio", "prototypes+clmae"]
)
def test_no_strategy_exceeds_a_budget_of_flops_by_more_than_a_step(name: str) -> None:
    job = make_job(name)
    step = 8 * sum(job.flops(4).values())
    amount = 11 * step + 12345 + job.beside()
    found = spend(priced(name, amount))
    last = step + (40 * step // 8 if name == "amt" else 0)
    assert amount - step < found["flops_total"] <= amount + last
    if name != "amt":
        assert found["flops_total"] <= amount


def test_setup_that_costs_more_than_the_budget_is_refused() -> None:
    class Costly(Slow):
        def spent(self) -> dict[str, int]:
            return {"feature extraction": 10**12}

        def cost(self, grid: Grid, shape: ModelShape) -> dict[str, int]:
            return {}

    with pytest.raises(UsageError, match=r"less than one step of 8 images, .*1,000,000,000,000"):
        priced(Costly(), 10**10)


class Slow(MaskStrategy):
    """Moves a clock's hand instead of working; remembers what it was told."""

    hand: Hand
    told: list[tuple[float, float]]

    def setup(self, context: Context, data: DataView) -> None:
        self.told = []

    def mask(self, batch: Batch, context: Context) -> Mask:
        return Mask.from_scores(context.uniform("mask", batch), context.grid)

    def after_step(self, batch: Batch, outcome: Outcome, context: Context) -> dict[str, Any]:
        self.told.append((context.progress, context.learning_rate))
        self.hand.at += 1.0
        return {}


def slow_job(seconds: float, hand: Hand) -> Job:
    strategy = Slow()
    strategy.hand = hand
    job = replace(make_job(strategy), clock=Clock(hand))
    return paced(job, Budget(Fraction(seconds), "s"), replace(SPEED, image=1 / 8))


def test_a_budget_of_seconds_pauses_for_looks_and_ends_decayed() -> None:
    hand = Hand()
    job = slow_job(40, hand)
    tape = MaskTape(job, job.feed._split)

    def moment(step: int) -> None:
        with job.clock.on("checkpoint"):
            hand.at += 100.0
        tape(step)

    train(job, lambda row: None, moment)
    told: Any = job.strategy.told
    assert len(told) == 40
    assert job.clock.seconds == 40
    assert job.clock.parts["checkpoint"] == 4100
    assert job.clock.parts["strategy"] == 40
    assert [round(share * 39) for share, _ in told] == list(range(40))
    rates = [rate for _, rate in told]
    assert max(rates) == max(rates[:12])
    assert rates[-1] < 0.01 * max(rates)
    assert len(tape._shares) == 9
    assert tape._shares[-1] == 1


def test_a_resumed_run_goes_on_with_its_clock() -> None:
    """Stopped after 15 of 40 seconds, it takes 25 more, with the same progress at every step."""
    hand = Hand()
    whole = slow_job(40, hand)
    train(whole, lambda row: None, lambda step: None)
    stopped = slow_job(40, hand)
    train(stopped, lambda row: None, lambda step: None, steps=range(15))
    state = copy.deepcopy({"pace": stopped.pace.state_dict(), "clock": stopped.clock.state_dict()})
    hand.at += 1000
    resumed = slow_job(40, hand)
    resumed.clock.load_state_dict(state["clock"])
    resumed.pace.load_state_dict(state["pace"])
    train(resumed, lambda row: None, lambda step: None, steps=range(15, 10**6))
    told: Any = resumed.strategy.told
    assert len(told) == 25
    assert told == whole.strategy.told[15:]
    assert resumed.clock.seconds == 40


def test_a_budget_of_seconds_below_one_step_is_refused() -> None:
    with pytest.raises(UsageError, match=r"less than one step of 8 images.* take at least 1s"):
        slow_job(0.5, Hand())


# Calibration


def test_a_calibration_leaves_the_job_alone() -> None:
    """The same end to the bit, with and without; global streams and the data's record untouched."""
    state = torch.get_rng_state()
    plain, watched = make_job("prototypes+clmae"), make_job("prototypes+clmae")
    speed = calibrate(watched)
    assert (speed.batch, speed.steps >= 1, speed.image > 0) == (8, True, True)
    assert not watched.feed.seen.any()
    assert watched.pace.steps == 0
    spend(plain)
    spend(watched)
    assert weights(plain) == weights(watched)
    assert torch.equal(state, torch.get_rng_state())


def test_a_strategy_that_cannot_be_copied_is_told_so() -> None:
    class Stuck(Slow):
        def __deepcopy__(self, memo: Any) -> "Stuck":
            raise TypeError("no copies of me")

    strategy = Stuck()
    strategy.hand = Hand()
    with pytest.raises(Exception, match=r"Stuck failed in copy\.deepcopy.*no copies of me"):
        calibrate(make_job(strategy))


def test_the_warm_up_has_a_floor_in_steps_whatever_the_budget_counts() -> None:
    job = priced("random", 40 * 8 * sum(make_job().flops(12).values()))
    assert job.plan.steps == 40
    assert job.schedule == Schedule.of(8e-3, 8, 0.05, 40)
    assert job.schedule.warmup == 0.25


def test_the_tape_of_masks_needs_no_step_count() -> None:
    job = priced("ratio", 30 * 8 * sum(make_job().flops(12).values()))
    tape = MaskTape(job, job.feed._split)
    train(job, lambda row: None, tape)
    assert len(tape._shares) == 9
    assert tape._shares == sorted(tape._shares)
    assert (tape._shares[0], tape._shares[-1]) == (0, 1)


def test_ratio_is_part_of_the_price() -> None:
    """A schedule that shows more at first takes fewer steps of the same FLOPs."""
    amount = 30 * 8 * sum(make_job().flops(12).values())
    plain, ratio = spend(priced("random", amount)), spend(priced("ratio", amount))
    assert ratio["images"] < plain["images"] == 240
    assert abs(ratio["flops_total"] - plain["flops_total"]) < amount / 240 * 2
    assert registry.load("ratio").says_cost()


def test_order_and_positions_do_not_depend_on_what_is_counted() -> None:
    one, other = make_job("random"), priced("random", 10**9)
    first: list[Tensor] = [one.batch(0).images, other.batch(0).images]
    assert torch.equal(*first)
