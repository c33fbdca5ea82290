"""Budgets of FLOPs and seconds on real jobs: what is spent, what goes on, what is refused."""

import copy
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from conftest import make_job
from hands import Hand
from torch import Tensor

from maskbench import registry
from maskbench.budget import Budget, Plan
from maskbench.calibration import Speed
from maskbench.clock import Clock
from maskbench.context import DataView
from maskbench.errors import UsageError
from maskbench.forecast import settle
from maskbench.job import Job
from maskbench.ledger import Ledger
from maskbench.masks import MaskTape
from maskbench.optim import Schedule
from maskbench.pace import Pace
from maskbench.strategy import Batch, Context, Grid, Mask, MaskStrategy, ModelShape, Outcome
from maskbench.train import train

NAMES = [entry.name for entry in registry.entries()]
SPEED = Speed(0.01, 8, 1, {"host": 0, "device": None})


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


@pytest.mark.parametrize("name", [*NAMES, "prototypes+clmae", "ratio+hpm"])
def test_no_strategy_exceeds_a_budget_of_flops_by_more_than_a_step(name: str) -> None:
    """Not even with looks at the whole data set; and every one ends fully decayed."""
    job = make_job(name)
    first = job.grid_at(0.0).hidden
    image = sum(job.flops(first).values())
    amount = 11 * 8 * image + 12345 + job.beside()
    job = priced(name, amount)
    rows: list[Any] = []
    train(job, rows.append, lambda step: None)
    found = Ledger(job).now()
    assert amount - 8 * image < found["flops_total"] <= amount
    assert found["flops_total"] == sum(found["flops"].values())
    assert rows[-1]["lr"] < 0.2 * max(row["lr"] for row in rows)
    assert rows[-1]["progress"] > 1 - 1.1 / len(rows)


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
    reference: Any = whole.strategy.told
    assert len(told) == 25
    assert told == reference[15:]
    assert resumed.clock.seconds == 40


def test_a_budget_of_seconds_below_one_step_is_refused() -> None:
    with pytest.raises(UsageError, match=r"less than one step of 8 images.* take at least 1s"):
        slow_job(0.5, Hand())


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


@pytest.mark.parametrize(
    ("images", "advice"), [(0.5, ""), (3.5, ", or a smaller --batch (about 3)")]
)
def test_a_budget_below_a_step_is_told_what_would_do(images: float, advice: str) -> None:
    """A smaller batch only where one image fits; the amount readable, exact, and enough."""
    image = sum(make_job().flops(12).values())
    with pytest.raises(UsageError) as caught:
        priced("random", int(images * image))
    told = str(caught.value)
    found = re.search(r"at least (\S+flop) \(exactly (\d+)flop\), which is 1step(.*)\.$", told)
    assert found, told
    readable, exact, rest = found.groups()
    assert int(exact) == 8 * image
    assert 8 * image <= Budget.parse(readable).amount < 8.1 * image
    assert len(readable) <= len("71.6Mflop")
    assert rest == advice
    assert priced("random", int(Budget.parse(readable).amount)).plan.steps == 1
