"""``--compile`` on a GPU replays graphs: the same numbers, whatever a strategy does around them.

Without a GPU stand-ins for torch's graphs show that what is recorded is what is replayed.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import make_job
from torch import Tensor, nn

from maskbench import graphs, registry, train
from maskbench.guard import Guard
from maskbench.job import Job
from maskbench.mask import Mask
from maskbench.optim import adamw, descent
from maskbench.strategy import Outcome

NAMES = [*(entry.name for entry in registry.entries()), "prototypes+clmae", "ratio+hpm"]


def rows_of(job: Job, *, every: int = 1, guard: Guard | None = None) -> list[dict[str, Any]]:
    """The lines of a run."""
    rows: list[dict[str, Any]] = []
    line = train.Line(job, lambda row: rows.append(dict(row)))
    line._every = every
    train.train(job, line, lambda step: None, guard=guard)
    return rows


class Replayed:
    """In place of a CUDA graph: what was done while it was recorded, on the tensors of then."""

    now: "Replayed | None" = None

    def __init__(self) -> None:
        self.work: list[Callable[[], Any]] = []

    def replay(self) -> None:
        for each in self.work:
            each()


@contextmanager
def recording(graph: Replayed) -> Iterator[None]:
    Replayed.now = graph
    yield
    Replayed.now = None


def recordable(optimizer: torch.optim.Optimizer) -> None:
    """Its step is not taken while a graph is recorded, and taken with the options of then."""
    step = optimizer.step

    def noted(*_: Any) -> None:
        if Replayed.now is None:
            step()
            return
        then = [dict(group) for group in optimizer.param_groups]
        assert all(group["capturable"] for group in then)
        held = [p.grad for group in then for p in group["params"]]

        def again() -> None:
            now = [dict(group) for group in optimizer.param_groups]
            assert [p.grad.data_ptr() for g in now for p in g["params"]] == [
                g.data_ptr() for g in held
            ]
            for group, old in zip(optimizer.param_groups, then, strict=True):
                group["lr"] = float(old["lr"])
            step()
            for group, new in zip(optimizer.param_groups, now, strict=True):
                group.update(new)

        Replayed.now.work.append(again)

    optimizer.step = noted  # type: ignore[assignment]


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Graphs without a GPU; told are the shapes of what is recorded."""
    told: list[tuple[int, ...]] = []

    def graphed(passing: nn.Module, rows: tuple[Tensor, ...], pool: Any) -> None:
        told.append((len(rows[0]), rows[2].shape[1]))
        eager, static = passing.forward, [row.clone() for row in rows]

        def forward(*given: Tensor) -> tuple[Tensor, ...]:
            for mine, yours in zip(static, given, strict=True):
                mine.copy_(yours)  # another shape is refused
            found: tuple[Tensor, ...] = eager(*static)
            for old in passing.__dict__.pop("outputs", ()):
                old.data.fill_(torch.nan)  # whoever keeps what the last call gave has no number
            passing.__dict__["outputs"] = found
            return found

        passing.forward = forward

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", graphed)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Replayed)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch, "compile", lambda passing: passing)
    return told


def on_stand_ins(job: Job) -> Job:
    """As on a GPU."""
    recordable(job.optimizer)
    return replace(job, compile=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_by_graphs_is_the_run_by_steps(
    name: str, stand_ins: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines, weights and the strategy's state, though outputs are overwritten by the next step."""
    monkeypatch.setattr(train, "compiled", lambda model, device: graphs.Passes(model))
    monkeypatch.setattr(train, "updates", lambda optimizer, device: graphs.Updates(optimizer))
    found = []
    for change in (lambda job: job, on_stand_ins):
        job = change(make_job(name, budget="100img"))
        found.append((rows_of(job, every=5), job.strategy.state_dict(), job.model.state_dict()))
    assert found[0][0] == found[1][0] != []
    for plain, replayed in zip(*(each[2].values() for each in found), strict=True):
        assert torch.equal(plain, replayed)
    for key, plain in found[0][1].items():
        if isinstance(plain, Tensor):
            assert torch.equal(plain, found[1][1][key]), key
    assert len(stand_ins) == len(set(stand_ins)) > ("ratio" in name)
    assert {images for images, _ in stand_ins} == {8}


def failing(*_: Any, **__: Any) -> Any:
    """What torch says."""
    raise RuntimeError("CUDA error: no\nmore about it")


TOLD = r"^{} are not recorded as CUDA graphs \(CUDA error: no\): numbers are the same"


def test_passes_that_cannot_be_recorded_are_compiled(
    stand_ins: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "compiled", lambda model, device: graphs.Passes(model))
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", failing)
    plain = rows_of(make_job(budget="100img"))
    with pytest.warns(RuntimeWarning, match=TOLD.format("passes")) as told:
        assert rows_of(replace(make_job(budget="100img"), compile=True)) == plain
    assert len(told) == 1


def test_updates_that_cannot_be_recorded_are_made_one_by_one(
    stand_ins: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", failing)
    weights = []
    for way in (descent, graphs.Updates):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        optimizer = adamw(layer, [], 0.05)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            stepped(optimizer, way(optimizer), moving=False)
        assert [str(each.message)[:7] for each in told] == ["updates"] * (way is graphs.Updates)
        assert not any(group["capturable"] for group in optimizer.param_groups)
        weights.append(layer.weight.detach())
    assert torch.equal(*weights)


def stepped(optimizer: torch.optim.Optimizer, descend: graphs.Descend, *, moving: bool) -> None:
    """Ten steps at falling rates; gradients lie where they lay, or anywhere."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    rng = torch.Generator().manual_seed(0)
    held = [torch.zeros_like(p) for p in parameters]
    kept = []
    for step in range(10):
        for parameter, own in zip(parameters, held, strict=True):
            fresh = torch.rand(own.shape, generator=rng)
            parameter.grad = fresh if moving else own.copy_(fresh)
            kept.append(fresh)
        descend(0.1 / (1 + step))
        optimizer.zero_grad()


@pytest.mark.parametrize("moving", [False, True])
def test_updates_are_recorded_where_gradients_stay(
    moving: bool, stand_ins: list[tuple[int, ...]]
) -> None:
    weights = []
    for graphed in (False, True):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        optimizer = adamw(layer, [], 0.05)
        recordable(optimizer)
        updates = graphs.Updates(optimizer)
        stepped(optimizer, updates if graphed else descent(optimizer), moving=moving)
        weights.append([p.detach() for p in layer.parameters()])
        assert len(updates._graphs) == (graphed and not moving)
        assert not any(group["capturable"] for group in optimizer.param_groups)
        assert {type(group["lr"]) for group in optimizer.param_groups} == {float}
    for plain, replayed in zip(*weights, strict=True):
        assert torch.allclose(plain, replayed, atol=1e-7)
    assert not torch.allclose(weights[0][0], layer.weight * 0)


def test_a_sign_of_bad_numbers_is_part_of_what_is_recorded() -> None:
    """Where the sign lies elsewhere, the graph that looks at the old one is not replayed."""
    layer = nn.Linear(3, 2)
    optimizer = adamw(layer, [], 0.05)
    updates = graphs.Updates(optimizer)
    before = updates._addresses()
    optimizer.found_inf = torch.zeros(())  # type: ignore[attr-defined]
    assert updates._addresses() != before


def test_the_sign_of_bad_numbers_stays_where_it_is() -> None:
    job = make_job()
    guard = Guard(job)
    guard._eager = False
    places = set()
    for step in range(3):
        guard.passes(step, {"the loss": torch.ones(())}, job.model.parameters())
        places.add(job.optimizer.found_inf.data_ptr())  # type: ignore[attr-defined]
    assert len(places) == 1


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
