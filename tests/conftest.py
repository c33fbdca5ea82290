"""Shared pieces: small models, jobs and data; nothing here trains for more than a few steps."""

import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import chromium, made, page, visit

from maskbench import runner
from maskbench.cli import app
from maskbench.cli.errors import guarded
from maskbench.contract import SMALL, make_job, noise_split
from maskbench.data.folder import open_folder
from maskbench.data.source import Images
from maskbench.figures.picture import Picture

__all__ = ["SHARED", "SMALL", "chromium", "cli", "made", "make_job", "noise_split", "page", "visit"]


EMPTY = '<svg viewBox="0 0 1 1"></svg>'
SHARED = Path(__file__).resolve().parents[2] / "shared"

# One worker per core: a second thread of each, or of the commands they start, only gets in the way.
os.environ["OMP_NUM_THREADS"] = "1"
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


@pytest.fixture(scope="module", autouse=True)
def no_study(request: pytest.FixtureRequest) -> Generator[None]:
    """Runs of this process end without a study of their masks, but in modules with ``STUDIES``.

    It takes some seconds, and hundreds of tests ask about other things.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "STUDIES", False):
            patch.setattr(runner, "at_end", lambda session: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def no_drawing(request: pytest.FixtureRequest) -> Generator[None]:
    """Pages of this process hold empty figures with their labels, but in modules with ``DRAWS``.

    Drawing is most of a page's time, and hundreds of tests ask for its words and numbers.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "DRAWS", False):
            patch.setattr(Picture, "_raw", EMPTY)
        yield


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
