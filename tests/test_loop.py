"""The loop and a strategy: every hook counts, and what goes wrong is said to be the strategy's."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from conftest import make_job
from torch import Tensor, nn

from maskbench.errors import DivergedError, StrategyError
from maskbench.job import Job
from maskbench.mask import Mask
from maskbench.strategy import Batch, Context, DataView, MaskStrategy, Outcome
from maskbench.train import train


def nothing(*_: Any) -> None:
    """Nobody logs, nobody looks."""


class Plain(MaskStrategy):
    """Hides the first patches; the tests below add one habit each."""

    def mask(self, batch: Batch, context: Context) -> Mask:
        scores = -torch.arange(context.grid.patches).float()
        return Mask.from_scores(scores.expand(len(batch.images), -1), context.grid)


class Joint(Plain):
    def setup(self, context: Context, data: DataView) -> None:
        self.layer = nn.Linear(4, 4)
        nn.init.ones_(self.layer.weight)
        nn.init.ones_(self.layer.bias)

    def joint_parameters(self) -> list[nn.Parameter]:
        return list(self.layer.parameters())

    def extra_loss(self, batch: Batch, outcome: Outcome, context: Context) -> Tensor:
        return sum((p**2).sum() for p in self.layer.parameters()) * outcome.latent.square().mean()


class Ordered(Plain):
    def order(self, epoch: int, images: int, context: Context) -> Tensor:
        self.told = [*getattr(self, "told", []), (epoch, context.progress)]
        return torch.randperm(images, generator=context.generator("order"))


def test_extra_loss_trains_joint_parameters_and_reaches_the_model() -> None:
    job, plain = make_job(Joint()), make_job(Plain())
    for one in (job, plain):
        train(one, nothing, nothing)
    strategy: Any = job.strategy
    assert (strategy.layer.weight < 1).all()
    assert not torch.equal(job.model.norm.weight, plain.model.norm.weight)


def test_joint_biases_are_not_decayed() -> None:
    job = make_job(Joint())
    strategy: Any = job.strategy
    decays = {
        id(p): group["weight_decay"]
        for group in job.optimizer.param_groups
        for p in group["params"]
    }
    assert decays[id(strategy.layer.weight)] == 0.05
    assert decays[id(strategy.layer.bias)] == 0


def test_an_order_knows_its_epoch_and_how_far_the_run_is() -> None:
    job = make_job(Ordered(), budget="4ep", images=10, batch=8)
    train(job, nothing, nothing)
    strategy: Any = job.strategy
    assert [epoch for epoch, _ in strategy.told] == [0, 1, 2, 3]
    shares = [share for _, share in strategy.told]
    assert shares == sorted(set(shares))
    orders = {tuple(job.order(epoch).tolist()) for epoch in range(4)}
    assert len(orders) == 4


def test_the_loops_own_numbers_cannot_be_overwritten() -> None:
    class Liar(Plain):
        def after_step(self, *_: Any) -> Mapping[str, Tensor | float]:
            return {"loss": -1.0, "images": 0, "mine": torch.tensor(2.5)}

    rows: list[Any] = []
    train(make_job(Liar()), rows.append, nothing)
    assert all(row["loss"] > 0 and row["mine"] == 2.5 for row in rows)
    assert [row["images"] for row in rows] == [8, 16, 24, 32, 40, 48]


def test_a_number_of_the_strategy_that_is_not_finite_stops_the_run() -> None:
    class Broken(Plain):
        def after_step(self, *_: Any) -> Mapping[str, Tensor | float]:
            return {"mine": torch.tensor(float("nan"))}

    with pytest.raises(DivergedError, match="mine is nan at step 1"):
        train(make_job(Broken()), nothing, nothing)


def test_scores_that_are_not_finite_are_no_mask() -> None:
    class Broken(Plain):
        def mask(self, batch: Batch, context: Context) -> Mask:
            scores = torch.full((len(batch.images), context.grid.patches), float("nan"))
            return Mask.from_scores(scores, context.grid)

    with pytest.raises(StrategyError, match=r"Broken failed in mask: .*finite"):
        train(make_job(Broken()), nothing, nothing)


def raising(method: str) -> Job:
    def fail(*_: Any) -> Any:
        raise RuntimeError("boom")

    return make_job(type("Raises", (Plain,), {method: fail})())


@pytest.mark.parametrize("method", ["setup", "mask", "extra_loss", "after_step", "order"])
def test_whatever_a_strategy_raises_is_named(method: str) -> None:
    with pytest.raises(StrategyError, match=f"Raises failed in {method}: RuntimeError: boom"):
        train(raising(method), nothing, nothing)


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (torch.arange(39), "40 int64 positions"),
        (torch.arange(40).float(), "float32"),
        (torch.arange(1, 41), r"0\.\.39"),
    ],
)
def test_a_wrong_order_is_named(order: Tensor, says: str) -> None:
    strategy = type("Wrong", (Plain,), {"order": lambda *_: order})()
    with pytest.raises(StrategyError, match=f"Wrong failed in order: .*{says}"):
        train(make_job(strategy), nothing, nothing)


class Reads:
    """Counts how often the host asks for a value that a device would have to finish first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("item", "tolist", "__float__", "__int__", "__bool__", "__index__"):
            monkeypatch.setattr(Tensor, name, self.counted(getattr(Tensor, name)))

    def counted(self, method: Any) -> Any:
        def read(tensor: Tensor, *rest: Any) -> Any:
            self.count += tensor.is_floating_point()
            return method(tensor, *rest)

        return read


@pytest.mark.parametrize("name", ["random", "clmae", "clmae-fast", "hpm", "ratio+adamae"])
def test_nothing_is_read_from_the_device_between_two_lines(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting costs no synchronisation: losses and logged numbers are read once per line."""
    job = make_job(name, budget="2000step")
    lines: list[Any] = []
    reads = Reads(monkeypatch)
    seen: list[int] = []
    train(job, lines.append, lambda step: seen.append(reads.count), steps=range(12, 29))
    between = [after - before for before, after in pairwise(seen)]
    assert [line["step"] for line in lines] == [20, 29]
    assert max(n for step, n in enumerate(between, 12) if (step + 1) % 10) <= 1
    assert between[19 - 12] >= 1
