"""The run's clock: what is on it, what is off it, and that it can go on."""

from typing import Any

import pytest
from hands import Hand

from maskbench.clock import OFF, PARTS, Clock


def test_pauses_are_off_the_clock_and_counted_apart() -> None:
    hand = Hand()
    clock = Clock(hand, joules=lambda: 10 * hand.at)
    with clock.on("setup"):
        hand.at += 3
    hand.at += 50  # between setup and training: nobody's
    clock.start()
    for part, seconds in (("data", 1), ("paused", 20), ("step", 4), ("checkpoint", 7)):
        with clock.on(part):
            hand.at += seconds
    hand.at += 0.5  # the loop's own
    assert clock.training == 5.5
    assert clock.seconds == 8.5
    assert clock.joules == 55
    clock.stop()
    hand.at += 100
    with clock.on("probes"):
        hand.at += 9
    assert (clock.training, clock.seconds, clock.joules) == (5.5, 8.5, 55)
    wanted = {"setup": 3, "data": 1, "step": 4, "paused": 20, "checkpoint": 7, "probes": 9}
    assert clock.parts == {**dict.fromkeys(PARTS, 0), **wanted}


@pytest.mark.parametrize("part", OFF)
def test_training_goes_on_after_a_pause_that_failed(part: str) -> None:
    hand = Hand()
    clock = Clock(hand)
    clock.start()

    def fail() -> None:
        with clock.on(part):
            hand.at += 5
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    hand.at += 2
    assert clock.training == 2


def test_a_clock_goes_on_where_another_was() -> None:
    hand = Hand()
    one, other = Clock(hand, lambda: hand.at), Clock(hand, lambda: hand.at)
    one.start()
    with one.on("step"):
        hand.at += 4
    state: Any = one.state_dict()
    hand.at += 1000
    other.load_state_dict(state)
    other.start()
    with other.on("step"):
        hand.at += 2
    assert (other.training, other.joules, other.parts["step"]) == (6, 6, 6)
    assert one.parts["step"] == 4


def test_energy_is_unknown_where_nothing_reports_it() -> None:
    assert Clock().joules is None
