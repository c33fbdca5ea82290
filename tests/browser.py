"""A report with everything in it, and the system's Chromium to open it in, without a network."""

import base64
import hashlib
import importlib.util
import io
import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file
from studies import add
from synthetic import EVIL, GRID, IMAGES, html_of, moment, put, used

SIDE, MOMENTS, COUNT, HIDDEN = 32, 3, 6, 12
EVIL_NAME = '<b onclick="x()">grid&amp;</b>'
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-default-apps"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
]
NAMES = ("random", "clmae", "grid", EVIL_NAME)


# The report


def pictures(name: str) -> NDArray[np.uint8]:
    """What a strategy's model paints: (moments, images, side, side, 3), a colour per patch."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
    colours = np.random.default_rng(seed).integers(0, 256, (MOMENTS, 7, GRID, GRID, 3), np.uint8)
    return np.repeat(np.repeat(colours, SIDE // GRID, axis=2), SIDE // GRID, axis=3)


def images() -> NDArray[np.uint8]:
    """The images under the masks: (images, side, side, 3)."""
    found: NDArray[np.uint8] = pictures("images")[0]
    return found


def masks(name: str) -> NDArray[np.bool_]:
    """(moments, images, rows, columns), other ones for every strategy and moment."""
    seed = 1 + len(name)
    scores = np.random.default_rng(seed).random((MOMENTS, IMAGES, GRID * GRID))
    hidden = scores.argsort(axis=2).argsort(axis=2) < HIDDEN
    return hidden.reshape(MOMENTS, IMAGES, GRID, GRID)


def taped(folder: Path, name: str) -> Path:
    """Masks with pictures in place of those that ``put`` writes, and a schedule."""
    tensors: dict[str, NDArray[Any]] = {
        "bits": np.packbits(masks(name).reshape(MOMENTS, IMAGES, -1), axis=2),
        "steps": np.array([0, 4, 10]),
        "positions": np.arange(IMAGES),
        "shown": images(),
    }
    if name != "grid":  # as older runs, it has none
        tensors["rebuilt"] = pictures(name)
    grid = json.dumps({"rows": GRID, "columns": GRID, "hidden": HIDDEN})
    save_file(tensors, folder / "masks.safetensors", metadata={"grid": grid})
    lines: list[dict[str, Any]] = [{"images": 4 * i, "loss": 2 / i} for i in range(1, 11)]
    if name == "clmae":
        own = [{"progress": i / 10, "clmae/lambda": 1 - i / 5} for i in range(11)]
        lines = [*lines, *own]
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return folder


def store(path: Path) -> Path:
    """Runs of every kind: three seeds, two budgets, equal FLOPs, failed, studied, hostile."""
    seen = hashlib.sha256(np.arange(IMAGES).tobytes()).hexdigest()
    for rank, name in enumerate(NAMES):
        for seed in range(3):
            clmae: dict[str, Any] = {"flops": 8e9, "seconds": 90.0} if name == "clmae" else {}
            run = used(name, seed, 0.5 + 0.02 * rank + seed / 100, **clmae)
            run["probes_during"] = [
                moment(share, 0.3 + 0.2 * share + 0.01 * seed + 0.02 * rank, run["ledger"])
                for share in (0.25, 0.5)
            ]
            folder = taped(put(path, f"r{rank}-{seed}", run), name)
            if name in ("random", "clmae") and seed < 2:
                add(folder, 10 * seed + rank, rank * (1.0 + seed), images_sha256=seen)
    for seed in range(3):
        long = used("random", seed, 0.53 + seed / 100, images=80, flops=8e9, seconds=5.0)
        put(path, f"long-{seed}", long, files=False)  # as many FLOPs as clmae's
    failed = used("grid", 3, 0.4, status="failed", error=EVIL)
    put(path, "failed", failed, files=False)
    other: dict[str, Any] = {"model": {**used("random", 0, 0)["model"], "hidden": 8}}
    for name in ("random", "clmae"):
        run = used(name, 0, 0.4, **other)
        taped(put(path, f"other-{name}", run), name)
    return path


@dataclass(frozen=True)
class Made:
    """A report on the disk.

    Args:
        file: The page.
        html: Its text.
    """

    file: Path
    html: str


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The report, made once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "browser"
    file = root / "report.html"
    root.mkdir(exist_ok=True)
    with FileLock(root / "lock"):
        if not file.exists():
            file.write_text(html_of(store(root / "runs")), encoding="utf-8")
    return Made(file, file.read_text(encoding="utf-8"))


# The browser


def program() -> str | None:
    """Where the system's Chromium is."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def chromium() -> Generator[Any]:
    """The browser; its tests are skipped where there is none."""
    for name in ("playwright", "axe_playwright_python"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"no {name}: uv sync --group browser (CI has it)")
    if program() is None:
        pytest.skip("no chromium: apt-get install chromium (CI has it)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Seen:
    """An open page and what went wrong in it.

    Args:
        page: Playwright's.
        asked: Addresses it asked for beside itself and data.
        said: What it wrote to the console, and errors that nothing caught.
    """

    page: Any
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@contextmanager
def opened(browser: Any, file: Path, at: str = "", **options: Any) -> Generator[Seen]:
    """The page in a context of its own, offline; ``options`` are those of a context."""
    options = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"} | options
    context = browser.new_context(offline=True, **options)
    context.set_default_timeout(10_000)
    try:
        seen = Seen(context.new_page())

        def route(way: Any) -> None:
            if (
                way.request.url.startswith("data:")
                or way.request.url.split("#")[0] == file.as_uri()
            ):
                way.continue_()
            else:
                seen.asked.append(way.request.url)
                way.abort()

        context.route("**/*", route)
        seen.page.on("console", lambda message: seen.said.append(message.text))
        seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
        seen.page.goto(file.as_uri() + at)
        yield seen
    finally:
        context.close()


@pytest.fixture
def visit(chromium: Any, made: Made) -> Generator[Callable[..., Any]]:
    """Opens the report; what it says or asks for in the end fails the test."""
    with ExitStack() as stack:
        every: list[Seen] = []

        def call(at: str = "", **options: Any) -> Any:
            every.append(stack.enter_context(opened(chromium, made.file, at, **options)))
            return every[-1].page

        yield call
        assert [seen.said for seen in every if seen.said] == []
        assert [seen.asked for seen in every if seen.asked] == []


@pytest.fixture
def page(visit: Callable[..., Any]) -> Any:
    """The report at 1280 × 800, light, without motion."""
    return visit()


def unfold(page: Any) -> None:
    """Open whatever can be opened."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    settle(page)


def settle(page: Any) -> None:
    """Wait for what was asked of the page to be drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 30)))")


def canvas(page: Any, rank: int = 0) -> NDArray[np.uint8]:
    """What a canvas of the first player holds: (height, width, 3)."""
    uri = page.evaluate(
        "(rank) => document.querySelectorAll('.player canvas')[rank].toDataURL('image/png')", rank
    )
    picture = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")
    return np.asarray(picture)


def tiles(picture: NDArray[np.uint8], gap: int = 4) -> NDArray[np.uint8]:
    """Patches of the images in a canvas: (images, rows, columns, cell, cell, 3)."""
    side = picture.shape[0]
    cell = side // GRID
    each = [picture[:, i * (side + gap) : i * (side + gap) + side] for i in range(COUNT)]
    parts = np.stack(each).reshape(COUNT, GRID, cell, GRID, cell, 3)
    return parts.transpose(0, 1, 3, 2, 4, 5)
