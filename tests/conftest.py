"""Shared pieces: small models, jobs and data; nothing here trains for more than a few steps."""

import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskbench import registry, seeds
from maskbench.budget import Budget, Plan
from maskbench.cli import app
from maskbench.cli.errors import guarded
from maskbench.data.folder import open_folder
from maskbench.data.source import Images, Split
from maskbench.job import Job
from maskbench.mask import Grid
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule
from maskbench.shape import ModelShape
from maskbench.strategy import MaskStrategy

SHARED = Path(__file__).resolve().parents[2] / "shared"
SMALL = ModelShape(16, 4, 24, 2, 4, 16, 1, 4)

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded numbers and images; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the checkout: recorded numbers and images are missing")
    return SHARED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, Any]:
    """A test that needs ../shared must not be skipped where ../shared exists."""
    report = yield
    if report.skipped and item.get_closest_marker("shared") and SHARED.is_dir():
        report.outcome = "failed"
        report.longrepr = f"skipped although {SHARED} exists: {report.longrepr}"
    return report


def noise_split(count: int, side: int = 16, seed: int = 0) -> Split:
    """Smooth random images without classes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, side // 4, side // 4, 3), dtype=np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)
    return Split(images, None, [f"train/{i}" for i in range(count)])


def make_job(
    strategy: MaskStrategy | str = "random",
    *,
    budget: str = "6step",
    seed: int = 0,
    images: int = 40,
    batch: int = 8,
    hidden: int = 12,
    shape: ModelShape = SMALL,
) -> Job:
    """A job on noise, ready to train."""
    contestant = registry.load(strategy)() if isinstance(strategy, str) else strategy
    split = noise_split(images, shape.image)
    plan = Plan.of(Budget.parse(budget), images, batch)
    device = torch.device("cpu")
    model = MaskedAutoencoder(shape, seeds.generator(seed, "init"))
    schedule = Schedule.of(8e-3, batch, 0.05, plan.steps)
    return Job.of(
        model,
        contestant,
        split,
        plan=plan,
        schedule=schedule,
        grid=Grid(shape.side, shape.side, hidden),
        weight_decay=0.05,
        seed=seed,
        device=device,
    )


def cli(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command line in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["maskbench", *words])
    return guarded(app)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "my data"


@pytest.fixture
def opened(data: Path, tmp_path: Path) -> Callable[..., Images]:
    def call(max_bad: float = 0.01, side: int = 32, path: Path = data) -> Images:
        return open_folder(path, side, tmp_path / "cache", max_bad)

    return call
