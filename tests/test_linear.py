"""Linear layers by another library: same numbers, gradients and FLOPs; taken where they pay."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from conftest import make_job
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from maskbench import linear as room
from maskbench import registry, seeds
from maskbench.contract import Subject
from maskbench.contract.resources import step_cost
from maskbench.linear import Linear, linear
from maskbench.mask import Grid, Mask
from maskbench.model import MaskedAutoencoder
from maskbench.optim import adamw, descent
from maskbench.shape import PRESETS, ModelShape

CURVE = ModelShape(32, 4, 48, 2, 4, 32, 2, 4)


@pytest.fixture
def convolving(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As on an AMD CPU with two threads, however small the layer."""
    libraries: Any = torch.backends
    if not libraries.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(room, "WORTH", 0)
    monkeypatch.setattr(room, "_mkl_is_slow", lambda: True)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield monkeypatch
    torch.set_num_threads(threads)


def normal(*shape: int) -> torch.Tensor:
    """The same numbers each time."""
    return torch.randn(shape, generator=seeds.generator(0, "numbers"))


def layer_of(inputs: int, outputs: int) -> Linear:
    """Known weights."""
    layer = Linear(inputs, outputs)
    layer.load_state_dict({"weight": normal(outputs, inputs), "bias": normal(outputs)})
    return layer


def near(mine: torch.Tensor, exact: torch.Tensor) -> bool:
    """But for rounding."""
    return float((mine - exact).norm()) < 1e-5 * float(exact.norm())


def counted(work: "partial[torch.Tensor]") -> tuple[dict[str, int], torch.Tensor]:
    """FLOPs by operation."""
    with FlopCounterMode(display=False) as counter:
        found = work()
    flops = counter.get_flop_counts()["Global"]
    return {str(name).rpartition(".")[2]: count for name, count in flops.items()}, found


@pytest.mark.usefixtures("convolving")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("lead", "inputs", "outputs"),
    [((700,), 40, 24), ((2, 350), 40, 64), ((60, 20), 30, 12), ((1, 1), 6, 6), ((2, 3, 4), 1, 2)],
)
def test_outputs_and_all_gradients_are_those_of_a_product(
    lead: tuple[int, ...], inputs: int, outputs: int, bias: bool
) -> None:
    """Against float64; also gradients of gradients, and of transposed views."""
    rng = seeds.generator(0, "linear", outputs)
    x = torch.randn(inputs, *lead, generator=rng).movedim(0, -1).requires_grad_()
    weight = torch.randn(inputs, outputs, generator=rng).t().requires_grad_()
    given = [x, weight] + [torch.randn(outputs, generator=rng, requires_grad=True)] * bias
    found = []
    for way, kind in ((linear, torch.float32), (functional.linear, torch.float64)):
        own = [value.detach().to(kind).requires_grad_() for value in given]
        out = way(*own, *([None] * (not bias)))
        slopes = torch.autograd.grad(out.sin().sum(), own, create_graph=True)
        bends = torch.autograd.grad(torch.stack([s.square().sum() for s in slopes]).sum(), own)
        found.append([out, *slopes, *bends])
        assert out.is_contiguous()
    with torch.no_grad():
        for mine, exact in zip(*found, strict=True):
            assert near(mine, exact)


@pytest.mark.parametrize("frozen", [True, False])
def test_it_convolves_and_leaves_out_gradients_of_what_is_frozen(
    convolving: pytest.MonkeyPatch, frozen: bool
) -> None:
    layer = layer_of(6, 9).requires_grad_(not frozen)
    x = normal(30, 6).requires_grad_()
    work = partial(lambda: torch.autograd.grad(layer(x * 1).sum(), x)[0])
    flops, slope = counted(work)
    once = 2 * 30 * 6 * 9
    products = {} if frozen else {"mm": once}
    assert flops == {"convolution": once, "convolution_backward": once, **products}
    convolving.setattr(room, "_mkl_is_slow", lambda: False)
    plain, same = counted(work)
    assert "convolution" not in plain
    assert near(slope, same)


def test_it_convolves_only_where_that_pays(convolving: pytest.MonkeyPatch) -> None:
    x, weight = normal(4, 8), normal(16, 8)

    def convolved(x: torch.Tensor, weight: torch.Tensor) -> bool:
        return "convolution" in counted(partial(linear, x, weight, None))[0]

    assert convolved(x, weight)
    assert not convolved(x.double(), weight.double())
    assert not convolved(x[0], weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not convolved(x, weight)
    convolving.setattr(torch.backends.mkldnn, "enabled", False)
    assert not convolved(x, weight)
    convolving.setattr(torch.backends.mkldnn, "enabled", True)
    torch.set_num_threads(1)
    assert not convolved(x, weight)
    torch.set_num_threads(2)
    convolving.setattr(room, "WORTH", 4 * 8 * 16)
    assert convolved(x, weight)
    convolving.setattr(room, "WORTH", 4 * 8 * 16 + 1)
    assert not convolved(x, weight)


@pytest.mark.usefixtures("convolving")
def test_the_kernels_are_onednns_and_what_comes_out_may_be_changed_in_place() -> None:
    x, layer = normal(60, 20, 30).requires_grad_(), layer_of(30, 12)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        layer(x).mul_(2).sum().backward()
    calls = {event.key for event in seen.key_averages()}
    assert "aten::mkldnn_convolution" in calls
    assert not {call for call in calls if "slow_conv" in call or call == "aten::addmm"}
    assert x.grad is not None
    assert near(x.grad, 2 * layer.weight.detach().sum(0).expand_as(x))


@pytest.mark.usefixtures("convolving")
def test_every_product_of_the_model_and_of_cl_maes_net_is_a_convolution() -> None:
    job = make_job(registry.load("clmae")())
    batch, context = job.batch(0), job.context(0)
    mask = job.strategy.mask(batch, context)
    allowed = {"convolution", "_scaled_dot_product_flash_attention_for_cpu"}
    assert {*counted(partial(lambda: job.model(batch.images, mask).loss))[0]} <= allowed
    tokens = normal(len(batch), job.grid.patches, job.model.shape.width)
    strategy: Any = job.strategy
    assert {*counted(partial(lambda: strategy.net.blocks(tokens)))[0]} <= allowed


def test_a_compiled_pass_keeps_torchs_own(convolving: pytest.MonkeyPatch) -> None:
    convolving.setattr(torch.compiler, "is_compiling", lambda: True)
    assert (
        "convolution" not in counted(partial(linear, torch.ones(2, 3), torch.ones(4, 3), None))[0]
    )


@pytest.mark.usefixtures("convolving")
@pytest.mark.parametrize("name", ["random", "clmae", "hpm", "adios"])
def test_it_costs_what_the_closed_form_says(name: str) -> None:
    """So no gradient is found that nobody asked for: the soft pass needs none of weights."""
    step_cost(Subject(name), "nano", PRESETS["nano"].shape)


def curve(steps: int = 30) -> list[float]:
    """Losses of the plain step; 64 images, for with few torch's convolution is not oneDNN's."""
    model, rng = MaskedAutoencoder(CURVE, seeds.generator(0, "init")), seeds.generator(0, "noise")
    optimizer, losses = adamw(model, [], 0.05), []
    images = torch.randn(64, 3, 32, 32, generator=rng)
    for _ in range(steps):
        mask = Mask.from_scores(torch.rand(64, 64, generator=rng), Grid(8, 8, 48))
        loss = model(images, mask).loss
        loss.backward()
        descent(optimizer)(1e-3)
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def test_loss_curves_are_equal_and_repeat_bit_by_bit(convolving: pytest.MonkeyPatch) -> None:
    mine, again = curve(), curve()
    assert mine == again
    convolving.setattr(room, "_mkl_is_slow", lambda: False)
    assert curve() == pytest.approx(mine, rel=1e-4)
    assert mine[-1] < 0.98 * mine[0]


@pytest.mark.usefixtures("convolving")
def test_the_soft_pass_leaves_parameters_as_they_were_also_in_pieces() -> None:
    job = make_job(registry.load("clmae")())
    job.model.mask_token.requires_grad = False
    images, slopes = job.batch(0).images, []
    keep = normal(len(images), job.grid.patches).sigmoid().requires_grad_()
    for job.model.pieces in (1, 3):
        loss = job.context(0).model.soft_patch_loss(images, keep).sum()
        (slope,) = torch.autograd.grad(loss, keep, retain_graph=True)
        torch.autograd.backward(loss)  # by who forgets to ask for gradients of his own alone
        slopes.append(slope)
        held = {n for n, p in job.model.named_parameters() if not p.requires_grad}
        assert held == {"mask_token"}
        assert all(p.grad is None for p in job.model.parameters())
    assert slopes[0].abs().sum() > 0
    assert near(slopes[0], slopes[1])
