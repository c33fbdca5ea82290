"""``--compile`` on a GPU launches graphs, whose outputs the next step overwrites.

Without a GPU a forward pass stands in that spoils what it gave, and the gradients of it, when it is
called again: whoever keeps a tensor beyond its step has other numbers than without it.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import make_job
from torch import Tensor

from maskbench import registry, train
from maskbench.errors import DivergedError
from maskbench.guard import Guard
from maskbench.job import Job
from maskbench.strategy import Batch, Context, Mask, MaskStrategy, Outcome

NAMES = [*(entry.name for entry in registry.entries()), "prototypes+clmae", "ratio+hpm"]
SPOILT = ("loss", "patch_loss", "latent", "prediction")


def spoiling(model: Any) -> Any:
    """In place of ``torch.compile``: outputs and gradients hold for a step."""
    static: list[Tensor] = []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: static.append(p.grad))

    def forward(images: Tensor, mask: Mask) -> Outcome:
        for tensor in static:
            tensor.data.fill_(math.nan if tensor.is_floating_point() else 0)
        static.clear()
        outcome: Outcome = model(images, mask)
        static.extend(getattr(outcome, name) for name in SPOILT)
        static.append(mask._order)  # computed inside
        return outcome

    return forward


def rows_of(job: Job, *, every: int = 1, guard: Guard | None = None) -> list[dict[str, Any]]:
    """The lines of a run."""
    rows: list[dict[str, Any]] = []
    line = train.Line(job, lambda row: rows.append(dict(row)))
    line._every = every
    train.train(job, line, lambda step: None, guard=guard)
    return rows


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_kept_beyond_its_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", spoiling)
    found = []
    for compile_ in (False, True):
        job = replace(make_job(name, budget="12step"), compile=compile_)
        found.append((rows_of(job, every=5), job.strategy.state_dict(), job.model.state_dict()))
    assert found[0][0] == found[1][0] != []
    for plain, spoilt in zip(*(each[2].values() for each in found), strict=True):
        assert torch.equal(plain, spoilt)
    for key, plain in found[0][1].items():
        if isinstance(plain, Tensor):
            assert torch.equal(plain, found[1][1][key]), key


class Keeper(MaskStrategy):
    """Hides at random; logs a part of the outcome itself, and of the step before if it may."""

    kept: Tensor | None = None

    def __init__(self, *, keeps: bool, fails: int = -1) -> None:
        super().__init__()
        self.keeps, self.fails = keeps, fails

    def mask(self, batch: Batch, context: Context) -> Mask:
        return Mask.from_scores(context.uniform("mask", batch), context.grid)

    def extra_loss(self, batch: Batch, outcome: Outcome, context: Context) -> Tensor | None:
        return outcome.loss * math.nan if context.step == self.fails else None

    def after_step(self, batch: Batch, outcome: Outcome, context: Context) -> dict[str, Tensor]:
        now = outcome.patch_loss.detach()[0, 0]
        before = now if self.kept is None else self.kept
        self.kept = now if self.keeps else None
        return {"now": now, "before": before}


def test_a_strategy_that_keeps_an_outcome_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", spoiling)
    with pytest.raises(DivergedError, match="before is nan"):
        rows_of(replace(make_job(Keeper(keeps=True)), compile=True))


def test_numbers_of_the_last_sound_step_outlive_a_skipped_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The line at the end of a skipped step has the numbers of the step before."""
    monkeypatch.setattr(torch, "compile", spoiling)
    found = []
    for compile_ in (False, True):
        job = replace(make_job(Keeper(keeps=False, fails=2)), compile=compile_)
        found.append(rows_of(job, every=3, guard=Guard(job, tolerated=1)))
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_the_rest_of_a_budget_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step with another batch is not worth a minute of compiling, nor a graph."""
    batches: list[int] = []

    def counting(model: Any) -> Any:
        def forward(images: Tensor, mask: Mask) -> Outcome:
            batches.append(len(images))
            outcome: Outcome = model(images, mask)
            return outcome

        return forward

    monkeypatch.setattr(torch, "compile", counting)
    job = replace(make_job(budget="36img"), compile=True)
    assert len(rows_of(job)) == 5
    assert batches == [8, 8, 8, 8]


ON_A_GPU = ["random", "ratio", "hpm", "clmae", "clmae-fast", "adios", "adamae", "prototypes"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs of CUDA need a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ON_A_GPU)
def test_graphs_give_the_loss_curve_of_eager_steps(name: str, precision: str) -> None:
    """Equal seeds, equal curves: float32 by rounding, bfloat16 by the order of its roundings.

    The budget ends with an incomplete batch, and ``ratio`` changes the shapes: each has its graphs.
    """
    curves = []
    for compile_ in (False, True):
        torch.compiler.reset()
        job = make_job(name, budget="124img", device="cuda", precision=precision)
        job = replace(job, compile=compile_)
        curves.append([row["loss"] for row in rows_of(job)])
        assert (job.clock.parts["compilation"] > 0) == compile_
    torch.compiler.reset()
    assert len(curves[0]) == 16
    assert curves[1] == pytest.approx(curves[0], rel={"fp32": 1e-4, "bf16": 2e-2}[precision])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs of CUDA need a GPU")
def test_graphs_of_pieces_give_the_loss_curve_of_whole_batches() -> None:
    """What ``--accumulate`` cuts is recomputed inside the graph."""
    curves = []
    for pieces in (1, 2):
        torch.compiler.reset()
        job = replace(make_job(budget="12step", device="cuda"), compile=True)
        job.model.pieces = pieces
        curves.append([row["loss"] for row in rows_of(job)])
    torch.compiler.reset()
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
