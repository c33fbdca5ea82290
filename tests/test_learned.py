"""What learned masks do, on a fixed autoencoder: partners make it easy, adversaries hard."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_job
from trained import gap_after, scenes_job

from maskbench import registry
from maskbench.mask import Grid
from maskbench.shape import PRESETS, ModelShape, step_flops
from maskbench.train import train


class Always(torch.nn.Module):
    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.answer


def module(name: str) -> Any:
    return sys.modules[registry.load(name).__module__]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "low", "high"),
    [
        ("cooperative", 120, -1.0, -0.01),
        ("neutral", 120, -0.012, 0.012),
        ("adversarial", 120, 0.01, 1.0),
    ],
)
def test_sign_of_the_factor(name: str, steps: int, low: float, high: float) -> None:
    """Factor +1: easier than random masks; -1: harder; 0: neither. (Weaker diversity: faster.)"""
    assert low < gap_after(name, steps, diversity=0.2) < high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "low", "high"), [(1.0, -1.0, -0.02), (0.0, -0.015, 0.015), (-1.0, 0.02, 1.0)]
)
def test_sign_of_the_factor_without_a_second_pass(first: float, low: float, high: float) -> None:
    assert low < gap_after("clmae-fast", 60, schedule="constant", first=first) < high


@pytest.mark.slow
def test_adios_makes_it_harder() -> None:
    assert gap_after("adios", 120) > 0.01


@pytest.mark.slow
def test_hpm_learns_which_patches_are_hard() -> None:
    """The teacher's order of patches agrees with the true losses, above chance and rising."""
    job = scenes_job("random+aux", budget="80step")
    rows: list[Any] = []
    train(job, rows.append, lambda step: None)
    early = sum(row["aux/agreement"] for row in rows[:10]) / 10
    late = sum(row["aux/agreement"] for row in rows[-10:]) / 10
    assert late > max(early, 0.5) + 0.03


# --- clmae-fast -----------------------------------------------------------------------------


def test_standardised_rows() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])
    ours = module("clmae-fast").standardise(values)
    assert torch.allclose(ours[0], torch.tensor([-1.2247, 0.0, 1.2247]), atol=1e-3)
    assert not ours[1].any()


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 1.0])
def test_a_patch_one_deviation_harder_is_drawn_exp_alpha_lambda_times_as_often(
    progress: float,
) -> None:
    """With one visible patch the draw is a softmax of strength x lambda x difficulty."""
    cls = registry.load("clmae-fast")
    job = make_job(cls(cls.Settings(strength=1.5)), hidden=15)  # type: ignore[call-arg]
    difficulty = torch.linspace(-1, 1, 16).expand(8, -1)
    job.strategy.net = Always(difficulty)
    batch = job.batch(0)
    contexts = [replace(job.context(0), progress=progress, step=step) for step in range(500)]
    shown = torch.stack([~job.strategy.mask(batch, context).hidden for context in contexts])
    z = module("clmae-fast").standardise(difficulty)[0]
    expected = (1.5 * (1 - 2 * progress) * z).softmax(0)
    assert (shown.float().mean((0, 1)) - expected).abs().max() < 0.02


def test_the_net_is_fitted_to_standardised_losses_of_hidden_patches() -> None:
    job = make_job("clmae-fast")
    batch, context = job.batch(0), job.context(3)
    outcome = job.model(batch.images, job.strategy.mask(batch, context))
    strategy: Any = job.strategy
    predicted = strategy.net(context.model.embed(batch.images))
    hidden = outcome.mask.hidden_positions
    target = module("clmae-fast").standardise(outcome.patch_loss)
    error = (predicted.gather(1, hidden) - target).square().mean()
    logged = strategy.after_step(batch, outcome, context)
    assert torch.allclose(logged["clmae-fast/unexplained"], error, atol=1e-6)


def test_the_price_of_the_curriculum() -> None:
    """Closed form at ViT-B: next to nothing, where clmae pays for a second, full pass."""
    ratio = {name: price(name) for name in ("clmae", "clmae-fast", "hpm", "attmask", "adamae")}
    assert ratio["clmae-fast"] < 1.05
    assert ratio["clmae"] == pytest.approx(3.55, rel=0.05)
    assert ratio["hpm"] == pytest.approx(2.33, rel=0.03)
    assert ratio["attmask"] == pytest.approx(1.60, rel=0.05)
    assert ratio["adamae"] == pytest.approx(1.15, rel=0.07)


def price(name: str) -> float:
    """FLOPs per image relative to random's, ViT-B/16, three quarters hidden."""
    shape = PRESETS["vit_base"].shape
    grid = Grid(14, 14, 147)
    own = registry.load(name)().cost(grid, shape)
    return 1 + sum(own.values()) / sum(step_flops(shape, grid.visible).values())


def test_the_table_in_the_docs_says_what_they_cost() -> None:
    text = (Path(__file__).parents[1] / "docs" / "strategies.md").read_text()
    rows = re.findall(r"^\| (`[^|]+) \| [^|]+ \| [^|]+ \| ([\d.]+)[^|]* \|$", text, re.MULTILINE)
    told = {name: float(cost) for names, cost in rows for name in re.findall("`([^`]+)`", names)}
    known = {entry.name for entry in registry.entries()}
    assert known - {"aux", "ratio"} <= set(told) <= known | {"random+aux"}
    assert all(cost == pytest.approx(price(name), abs=0.006) for name, cost in told.items())


# --- ADIOS ----------------------------------------------------------------------------------


def test_soft_masks_share_every_patch() -> None:
    job = make_job("adios")
    strategy: Any = job.strategy
    masks, one = strategy.chosen(job.batch(0), job.context(0))
    assert masks.shape == (8, 6, 16)
    assert torch.allclose(masks.sum(1), torch.ones(8, 16), atol=1e-6)
    assert all((masks[i] == one[i]).all(1).any() for i in range(8))


def test_every_channel_is_drawn() -> None:
    job = make_job("adios", budget="60step")
    strategy: Any = job.strategy
    batch = job.batch(0)
    drawn = []
    for step in range(60):
        masks, one = strategy.chosen(batch, job.context(step))
        drawn += (masks == one.unsqueeze(1)).all(2).float().argmax(1).tolist()
    assert sorted(set(drawn)) == list(range(6))


def test_area_penalty_forbids_nothing_and_everything() -> None:
    penalty = module("adios").area_penalty

    def two(area: float) -> float:
        return float(penalty(torch.stack([torch.full((1, 8), a) for a in (area, 1 - area)], 1)))

    assert two(0.5) == pytest.approx(2.0)
    assert two(0.2) == pytest.approx(two(0.8))
    assert two(0.01) > 50
    assert two(0.3) > two(0.4) > two(0.5)


@pytest.mark.parametrize("side", [2, 3, 4, 5, 7, 8, 14])
def test_the_unet_fits_every_grid(side: int) -> None:
    job = make_job("adios", shape=ModelShape(side * 4, 4, 24, 1, 4, 16, 1, 4), hidden=1)
    mask = job.strategy.mask(job.batch(0), job.context(0))
    mask.check(8, job.grid)


# --- schedules ------------------------------------------------------------------------------


def test_lambda_per_epoch_as_published() -> None:
    """1 - 2e/T in the first half, 1 - 2(e+1)/T in the second: +1, then a jump over 0, then -1."""
    cls = registry.load("clmae")
    strategy: Any = cls(cls.Settings(schedule="epoch"))  # type: ignore[call-arg]
    base = make_job("random").context(0)
    values = [strategy.factor(replace(base, epoch=e, epochs=8)) for e in range(8)]
    assert values == [1.0, 0.75, 0.5, 0.25, -0.25, -0.5, -0.75, -1.0]


def test_epochs_are_counted_from_images() -> None:
    job = make_job("random", budget="3ep")
    assert [job.context(step).epoch for step in (0, 4, 5, 14)] == [0, 0, 1, 2]
    assert {job.context(step).epochs for step in range(15)} == {3}
