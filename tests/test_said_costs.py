"""What a strategy may say to cost: known parts, whole numbers, nothing below zero."""

from types import MappingProxyType
from typing import Any

import pytest
from conftest import make_job

from maskbench import registry
from maskbench.compose import compose
from maskbench.errors import StrategyError
from maskbench.ledger import Ledger
from maskbench.strategy import Batch, Context, Grid, Mask, MaskStrategy, ModelShape, said_flops

ODD = [
    ({"foo": -60_000_000}, r"says -60000000 for 'foo', which is no part .*mask generator"),
    ({"teacher": -1}, r"says -1 for 'teacher'; the contract wants .*int, 0 or more"),
    ({"teacher": 1.5}, r"says 1\.5 for 'teacher'"),
    ({"teacher": True}, r"says True for 'teacher'"),
    (5, r"returned 5; the contract wants a mapping of parts \(encoder, "),
]


class Odd(MaskStrategy):
    """Says what it is told to say."""

    said: Any = MappingProxyType({})
    beside: Any = MappingProxyType({})

    def mask(self, batch: Batch, context: Context) -> Mask:
        return Mask.from_scores(context.uniform("mask", batch), context.grid)

    def cost(self, grid: Grid, shape: ModelShape) -> Any:
        return self.said

    def spent(self) -> Any:
        return self.beside


@pytest.mark.parametrize(("said", "message"), ODD)
def test_a_cost_that_cannot_be_is_refused(said: Any, message: str) -> None:
    strategy = Odd()
    strategy.said = said
    with pytest.raises(StrategyError, match=r"strategy Odd: cost\(\) " + message):
        make_job(strategy).flops(12)


@pytest.mark.parametrize(("said", "message"), ODD)
def test_so_is_what_was_spent(said: Any, message: str) -> None:
    strategy = Odd()
    strategy.beside = said
    job = make_job(strategy)
    with pytest.raises(StrategyError, match=r"strategy Odd: spent\(\) " + message):
        job.beside()
    with pytest.raises(StrategyError, match=r"spent\(\)"):
        Ledger(job)._flops()


def test_a_part_of_a_composite_is_named() -> None:
    """A negative cost does not hide behind the other part's."""

    class Less(MaskStrategy):
        modifier = True

        def cost(self, grid: Grid, shape: ModelShape) -> dict[str, int]:
            return {"encoder": -1}

    both = compose("less+random", [("less", Less), ("random", registry.load("random"))])()
    with pytest.raises(StrategyError, match=r"strategy Less: cost\(\) says -1 for 'encoder'"):
        make_job(both).flops(12)


def test_prior_pretraining_is_spent_but_no_cost() -> None:
    prior = {"prior pretraining": 7}
    assert said_flops(Odd(), "spent", prior) == prior
    with pytest.raises(StrategyError, match="no part that is known"):
        said_flops(Odd(), "cost", prior)
