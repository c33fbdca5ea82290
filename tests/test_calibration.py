"""What is timed before a run, what is expected from it, and that the run does not notice."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import make_job
from hands import Hand
from test_spending import SPEED, Slow, paced, slow_job, spend, weights

from maskbench import calibration
from maskbench.budget import Budget, Plan
from maskbench.calibration import TIMED, calibrated
from maskbench.cli.planned import plan_rows
from maskbench.clock import Clock
from maskbench.errors import StrategyError
from maskbench.events import Silent
from maskbench.forecast import forecast
from maskbench.job import Job
from maskbench.midway import Midway
from maskbench.pace import Pace, TimePace, Turn
from maskbench.strategy import Grid
from maskbench.train import COMPILING, train


def test_a_calibration_leaves_the_job_alone() -> None:
    """The same end to the bit, with and without; global streams and the data's record untouched."""
    state = torch.get_rng_state()
    plain, watched = make_job("prototypes+clmae"), make_job("prototypes+clmae")
    speed = calibrated(watched)
    assert speed
    assert (speed.batch, speed.steps >= 1, speed.image > 0) == (8, True, True)
    assert not watched.feed.seen.any()
    assert watched.pace.steps == 0
    spend(plain)
    spend(watched)
    assert weights(plain) == weights(watched)
    assert torch.equal(state, torch.get_rng_state())


class Stuck(Slow):
    """Cannot be copied."""

    hand = Hand()

    def __deepcopy__(self, memo: Any) -> "Stuck":
        raise TypeError("no copies of me")


def test_a_strategy_that_cannot_be_copied_has_no_budget_of_seconds() -> None:
    job = make_job(Stuck())
    plan = Plan.expecting(Budget(Fraction(9), "s"), 40, 8, 80)
    with pytest.raises(StrategyError, match=r"Stuck failed in copy\.deepcopy.*no copies of me"):
        calibrated(replace(job, pace=Pace(plan)))


def test_where_nothing_can_be_timed_the_time_is_unknown(tmp_path: Path) -> None:
    job = make_job(Stuck())
    assert calibrated(job) is None
    found = forecast(job, None, tmp_path)
    assert (found.images, found.seconds, found.speed) == (48, None, None)
    assert "cannot be copied" in found.warnings[0]
    told = plan_rows(found)
    assert (told["time"], told["memory"]) == ("time unknown", "memory unknown")
    train(job, lambda row: None, lambda step: None)
    assert job.pace.steps == 6


def test_steps_that_compile_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the first three of a compiled run compile and record; here they take a second."""
    monkeypatch.setattr(torch, "compile", lambda model: model)
    monkeypatch.setitem(COMPILING, "cpu", 3)
    marks = iter([0.0, 9.0, 18.0, 27.0, *(27 + 0.1 * n for n in range(1, 100))])
    monkeypatch.setattr(calibration, "time", SimpleNamespace(perf_counter=lambda: next(marks)))
    for compile_ in (True, False):
        trial = replace(make_job(budget="400img"), compile=compile_)
        image, steps = calibration._time(trial, 8)
        assert image == pytest.approx(0.1 / 8)
        assert steps == TIMED
        marks = iter([0.0, 9.0, *(9 + 0.1 * n for n in range(1, 100))])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_calibration_leaves_nothing_compiled(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The run compiles on its own clock what it would have compiled without, none for any shape."""
    compiled: list[bool] = []
    plain = torch.compile
    request.addfinalizer(torch.compiler.reset)

    def backend(graph: Any, inputs: list[Any]) -> Any:
        compiled.append(any(isinstance(value, torch.SymInt) for value in inputs))
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda model: plain(model, backend=backend))
    seen = []
    for timed in (False, True):
        torch.compiler.reset()
        job = replace(make_job(batch=32, budget="64img"), compile=True)
        if timed:
            calibrated(job)
            assert compiled
        compiled.clear()
        train(job, lambda row: None, lambda step: None)
        assert job.clock.parts["compilation"] > 0
        seen.append(list(compiled))
    assert seen[0] == seen[1] != []


def test_images_for_seconds_follow_a_schedule_of_the_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the time at 4 images a second and half at 1 is 2.5 a second, not 1.6 or 1."""

    class Dearer(Slow):
        def hidden(self, progress: float, grid: Grid) -> int:
            return 12 if progress < 0.5 else 11

    strategy = Dearer()
    strategy.hand = Hand()
    job = replace(make_job(strategy), clock=Clock(strategy.hand))
    monkeypatch.setattr(Job, "flops", lambda self, hidden: {"encoder": {12: 10, 11: 40}[hidden]})
    job = paced(job, Budget(Fraction(100), "s"), replace(SPEED, image=1 / 4))
    assert job.plan.images == pytest.approx(250, abs=1)
    found = forecast(job, SPEED, Path())
    assert found.seconds == 100


def test_the_epoch_is_what_was_seen() -> None:
    """Ten images a second were expected, and twice as many fit."""
    hand = Hand()
    job = slow_job(40, hand)
    job = replace(job, pace=TimePace(job.plan, job.clock, 1.0, torch.device("cpu")))
    strategy: Any = job.strategy
    strategy.hand = Hand()  # the steps take no time at all
    epochs: list[int] = []

    def moment(step: int) -> None:
        if job.turn(step).images:
            epochs.append(job.context(step).epoch)

    train(job, lambda row: None, moment, steps=range(12))
    assert epochs == [step * 8 // 40 for step in range(12)]


def test_what_a_gpu_has_queued_is_waited_for_on_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe during training must not be charged with the steps before it, nor they with it."""
    hand = Hand()
    clock = Clock(hand)
    clock.start()
    told: Any = SimpleNamespace(
        device=torch.device("cuda"), clock=clock, turn=lambda step: Turn(step, 8, 0.5, 0.5, 0.5)
    )
    wanted: Any = SimpleNamespace(draws=1, probe_at=(0.5,))
    nothing: Any = None
    midway = Midway(told, nothing, nothing, wanted, Silent())

    def wait() -> None:
        hand.at += 7

    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    monkeypatch.setattr(midway, "_probe", lambda turn: None)
    midway(3)
    assert (clock.training, clock.parts["paused"]) == (7, 0)
