"""``--compile`` on a GPU replays graphs: the same numbers, whatever a strategy does around them.

Without a GPU stand-ins for torch's graphs show that what is recorded is what is replayed.
"""

from collections.abc import Callable
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


class Recording:
    """In place of CUDA graphs: work is done again, on the tensors of then, into those of then."""

    def __init__(self) -> None:
        self.now: list[Callable[[], Any]] | None = None
        self.passes: list[int] = []

    def recorded(
        self, work: Callable[[], Any], place: Any = None
    ) -> tuple[Any, Callable[[], None]]:
        """As ``graphs.recorded``."""
        done: list[Callable[[], Any]] = []
        self.now = done
        first = work()
        self.now = None
        if place is not None:
            self.passes.append(len(first))

        def replay() -> None:
            for each in done:
                each()
            with torch.enable_grad():
                fresh = () if done else work()
            with torch.no_grad():
                for old, new in zip(first or (), fresh or (), strict=True):
                    if old is not None:
                        old.data.copy_(new)

        return first, replay

    def watch(self, optimizer: torch.optim.Optimizer) -> None:
        """Its step is not taken while it is recorded, and replayed with the options of then."""
        step = optimizer.step

        def noted(*_: Any) -> None:
            if self.now is None:
                step()
                return
            then = [dict(group) for group in optimizer.param_groups]
            assert all(group["capturable"] for group in then)
            held = [p.grad for group in then for p in group["params"]]

            def again() -> None:
                now = [dict(group) for group in optimizer.param_groups]
                for mine, yours in zip(held, (p for g in now for p in g["params"]), strict=True):
                    assert mine.data_ptr() == yours.grad.data_ptr()
                for group, old in zip(optimizer.param_groups, then, strict=True):
                    group["lr"] = float(old["lr"])
                step()
                for group, new in zip(optimizer.param_groups, now, strict=True):
                    group.update(new)

            self.now.append(again)

        optimizer.step = noted  # type: ignore[assignment]


def at_single_precision(optimizer: torch.optim.Optimizer) -> graphs.Descend:
    """A rate that is recorded is a float32."""
    descend = descent(optimizer)
    return lambda rate: descend(float(torch.tensor(rate)))


def as_compiled(passing: Callable[..., Any]) -> Callable[..., Any]:
    """In place of ``torch.compile``: what is inside is not seen, only what comes out."""
    return lambda *rows: tuple(tensor.view_as(tensor) for tensor in passing(*rows))


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Graphs without a GPU."""
    found = Recording()
    monkeypatch.setattr(graphs, "recorded", found.recorded)
    monkeypatch.setattr(graphs.Place, "of", lambda parameters: graphs.Place(0, 0, ()))
    monkeypatch.setattr(torch, "compile", as_compiled)
    for room in (graphs, train):
        monkeypatch.setattr(room, "descent", at_single_precision)
    monkeypatch.setattr(train, "compiled", lambda model, device: graphs.Passes(model))
    monkeypatch.setattr(train, "updates", lambda optimizer, device: graphs.Updates(optimizer))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_run_by_graphs_is_the_run_by_steps(name: str, recording: Recording) -> None:
    """Lines, weights and the strategy's state, though outputs are overwritten by the next step."""
    found = []
    for compile_ in (False, True):
        job = replace(make_job(name, budget="100img"), compile=compile_)
        recording.watch(job.optimizer)
        found.append((rows_of(job, every=5), job.strategy.state_dict(), job.model.state_dict()))
    assert found[0][0] == found[1][0] != []
    for plain, replayed in zip(*(each[2].values() for each in found), strict=True):
        assert torch.equal(plain, replayed)
    for key, plain in found[0][1].items():
        if isinstance(plain, Tensor):
            assert torch.equal(plain, found[1][1][key]), key
    assert len(recording.passes) >= 2  # forward and back
    assert (len(recording.passes) > 2) == ("ratio" in name)


def of(job: Job) -> list[Tensor]:
    """Copies of the gradients of a job's model."""
    return [p.grad.clone() for p in job.model.parameters() if p.grad is not None]


def gradients(job: Job, loss: Callable[[Outcome], Tensor], forward: Any) -> list[Tensor]:
    """Of five steps: by the loss alone, then by something else, too, then by it alone again."""
    found = []
    for step, other in enumerate((False, False, True, True, False)):
        outcome = forward(job.batch(step).images, job.mask(job.batch(step), job.context(step)))
        total = outcome.loss + loss(outcome) if other else outcome.loss
        total.backward()
        found += of(job)
        job.model.zero_grad()
    return found


@pytest.mark.parametrize(
    "loss",
    [
        lambda outcome: outcome.latent.square().mean(),
        lambda outcome: outcome.prediction.mean() + outcome.patch_loss[0, 0],
    ],
)
def test_gradients_may_flow_through_other_parts_later(loss: Any, recording: Recording) -> None:
    """They did not when it was recorded: the step is taken without a recording, then made anew."""
    job = make_job()
    plain = gradients(job, loss, job.model)
    replayed = gradients(job, loss, graphs.Passes(job.model))
    assert len(recording.passes) == 4
    for mine, yours in zip(plain, replayed, strict=True):
        assert torch.equal(mine, yours)


def test_gradients_of_two_passes_add_up(recording: Recording) -> None:
    """And so do those that came another way before."""
    job = make_job()
    forward, found = graphs.Passes(job.model), []
    for way in (job.model, forward):
        for step in range(4):
            job.model.zero_grad()
            job.model.mask_token.sum().backward()  # type: ignore[no-untyped-call]
            for _ in range(2):
                batch = job.batch(step)
                way(batch.images, job.mask(batch, job.context(step))).loss.backward()
        found.append(of(job))
    for mine, yours in zip(*found, strict=True):
        assert torch.allclose(mine, yours, atol=1e-7)
    assert len(recording.passes) == 2


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
def test_updates_are_recorded_where_gradients_stay(moving: bool, recording: Recording) -> None:
    weights = []
    for graphed in (False, True):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        optimizer = adamw(layer, [], 0.05)
        recording.watch(optimizer)
        updates = graphs.Updates(optimizer)
        stepped(optimizer, updates if graphed else descent(optimizer), moving=moving)
        weights.append([p.detach() for p in layer.parameters()])
        assert len(updates._replays) == (graphed and not moving)
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
