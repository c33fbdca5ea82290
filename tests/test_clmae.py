"""CL-MAE against its recorded numbers, its equations, and its curriculum's meaning."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_job
from safetensors.torch import load_file
from test_model import REFERENCE, reference_model

from maskbench import registry
from maskbench.mask import Grid, Mask
from maskbench.strategy import ModelView
from maskbench.train import train

CLMAE = registry.load("clmae")
MODULE: Any = __import__("sys").modules[CLMAE.__mro__[1].__module__]


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, torch.Tensor]:
    return load_file(shared / "reference" / "clmae_reference.safetensors")


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.detach() - theirs.view_as(ours)).norm() / theirs.norm())


@pytest.mark.shared
def test_recorded_mask_step(recorded: dict[str, torch.Tensor]) -> None:
    """Keep-probabilities, four losses, and gradients for lambda = +1, 0, -1, to 1e-4."""
    net = MODULE.MaskingNet(REFERENCE, depth=5)  # its initial weights are replaced
    prefix = "weights.masking_net."
    weights = {n.removeprefix(prefix): v for n, v in recorded.items() if n.startswith(prefix)}
    positions = weights.pop("pos_embed")
    assert not positions.any()
    net.load_state_dict(weights)
    view = ModelView(reference_model(recorded))
    keep = net(view.embed(recorded["input"]))
    assert relative(keep, recorded["mask.probs"]) < 1e-4
    strategy: Any = CLMAE()
    patch_loss = view.soft_patch_loss(recorded["input"], keep)
    parts = strategy.losses(keep, patch_loss, Grid(8, 8, 48))
    names = ("mask.loss_recon", "mask.loss_gauss", "mask.loss_kl", "mask.loss_div")
    for part, name in zip(parts, names, strict=True):
        assert relative(part, recorded[name]) < 1e-4, name
    for factor in ("+1", "+0", "-1"):
        total = float(factor) * parts[0] + parts[1] + parts[2] + parts[3]
        assert relative(total, recorded[f"mask.total.lambda={factor}"]) < 1e-4
        for name in ("mlp_head.1.weight", "blocks.0.attn.qkv.weight"):
            (gradient,) = torch.autograd.grad(total, net.get_parameter(name), retain_graph=True)
            theirs = recorded[f"mask.grad.masking_net.{name}.lambda={factor}"]
            assert relative(gradient, theirs) < 1e-4, (name, factor)


@pytest.mark.shared
def test_recorded_hard_mask(recorded: dict[str, torch.Tensor]) -> None:
    """The 16 patches of highest keep-probability are the visible ones."""
    mask = Mask.from_scores(-recorded["mask.probs"], Grid(8, 8, 48))
    assert torch.equal(mask.hidden, recorded["mae.mask"].bool())


def test_raising_one_score_makes_the_patch_visible() -> None:
    job = make_job("clmae")
    batch = job.batch(0)
    strategy: Any = job.strategy
    position = int(strategy.mask(batch, job.context(0)).hidden_positions[0, 0])
    with torch.no_grad():
        strategy.net.mlp_head[1].bias[position] += 50
    assert not strategy.mask(batch, job.context(0)).hidden[:, position].any()


def at(progress: float, **rest: Any) -> Any:
    return replace(make_job().context(0), progress=progress, **rest)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "step"])
def test_lambda_goes_from_partner_to_adversary(schedule: str) -> None:
    strategy: Any = CLMAE(CLMAE.Settings(schedule=schedule))  # type: ignore[call-arg]
    values = [strategy.factor(at(step / 100)) for step in range(101)]
    assert values[0] == 1
    assert values[-1] == -1
    assert values == sorted(values, reverse=True)
    if schedule != "step":
        assert all(
            math.isclose(a, -b, abs_tol=1e-9) for a, b in zip(values, values[::-1], strict=True)
        )
    constant: Any = CLMAE(CLMAE.Settings(schedule="constant", first=-1.0))  # type: ignore[call-arg]
    assert {constant.factor(at(share / 10)) for share in range(11)} == {-1.0}


def test_terms_have_their_extremes_where_they_should() -> None:
    half, sure = torch.full((2, 8), 0.5), torch.tensor([[0.0] * 6 + [1.0] * 2] * 2)
    assert MODULE.gaussian(half) == pytest.approx(0.12 * math.sqrt(2 * math.pi))
    assert MODULE.gaussian(sure) < 1e-3
    assert MODULE.divergence(sure, 0.25).abs().max() < 1e-6
    assert MODULE.divergence(half, 0.25).min() > 0.1
    assert MODULE.diversity(sure) == pytest.approx(1.0)
    assert MODULE.diversity(torch.cat([sure[:1], 1 - sure[:1]])) < 1
    assert MODULE.diversity(sure[:1]) == 0


def test_vectorised_diversity_equals_the_double_loop() -> None:
    keep = torch.rand(7, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = [
        torch.exp(-0.1 * (keep[a] - keep[b]).norm()) for a in range(7) for b in range(a + 1, 7)
    ]
    assert torch.allclose(MODULE.diversity(keep), torch.stack(pairs).mean(), atol=1e-12)


def test_updates_alternate_and_touch_only_their_own() -> None:
    """(a) moves the autoencoder alone, (b) the mask network alone; no gradient is left behind."""
    job = make_job("clmae")
    strategy: Any = job.strategy
    batch = job.batch(0)
    net = {name: value.clone() for name, value in strategy.net.state_dict().items()}
    outcome = job.model(batch.images, strategy.mask(batch, job.context(3)))
    outcome.loss.backward()
    for group in job.optimizer.param_groups:
        group["lr"] = 1e-3
    job.optimizer.step()
    job.optimizer.zero_grad()
    assert all(torch.equal(value, strategy.net.state_dict()[name]) for name, value in net.items())
    weights = {name: value.clone() for name, value in job.model.state_dict().items()}
    strategy.after_step(batch, outcome, job.context(3))
    assert all(torch.equal(v, job.model.state_dict()[name]) for name, v in weights.items())
    assert all(p.grad is None for p in job.model.parameters())
    moved = [not torch.equal(v, strategy.net.state_dict()[name]) for name, v in net.items()]
    assert all(moved)


@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_sign_of_lambda_decides_who_is_hidden(factor: float) -> None:
    """On fixed losses the network learns to hide what is easy (+1) or what is hard (-1)."""
    settings = CLMAE.Settings(schedule="constant", first=factor)  # type: ignore[call-arg]
    job = make_job(CLMAE(settings), batch=16)
    strategy: Any = job.strategy
    optimizer = torch.optim.AdamW(strategy.net.parameters(), lr=2e-3)
    tokens = job.context(0).model.embed(job.batch(0).images)
    losses = torch.linspace(0.2, 1.8, 16).expand(len(tokens), -1)
    for _ in range(60):
        parts = strategy.losses(strategy.net(tokens), losses, job.grid)
        total = factor * parts[0] + parts[1] + parts[2]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    mask = Mask.from_scores(-strategy.net(tokens), job.grid)
    difference = float(losses[mask.hidden].mean() - losses.mean())
    assert difference * factor < -0.05


def test_published_target_ignores_the_grid() -> None:
    keep, losses = torch.full((2, 16), 0.5), torch.ones(2, 16)
    by_grid: Any = CLMAE()
    published: Any = CLMAE(CLMAE.Settings(target="published"))  # type: ignore[call-arg]
    half = Grid(4, 4, 8)
    assert by_grid.losses(keep, losses, half)[2] < 1e-6 < published.losses(keep, losses, half)[2]


def test_learning_rate_schedule_of_the_network() -> None:
    for schedule, expected in (("constant", "peak"), ("model", "model")):
        job = make_job(CLMAE(CLMAE.Settings(lr_schedule=schedule, lr=0.5)), budget="400step")  # type: ignore[call-arg]
        strategy: Any = job.strategy
        context = job.context(380)
        batch = job.batch(0)
        outcome = job.model(batch.images, strategy.mask(batch, context))
        strategy.after_step(batch, outcome, context)
        rate = context.peak_learning_rate if expected == "peak" else context.learning_rate
        assert strategy.private.optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * rate)


def test_training_logs_the_curriculum() -> None:
    rows: list[Any] = []
    train(make_job("clmae", budget="12step"), rows.append, lambda step: None)
    assert [row["clmae/lambda"] for row in rows][:: len(rows) - 1] == [1.0, -1.0]
