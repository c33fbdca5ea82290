"""Reports of next to nothing and of very much."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from synthetic import html_of, plain, put, record

SPEED = Path(__file__).parent.parent / "benchmarks" / "speed"
LARGEST, MOST_MEMORY = 5_000_000, 2**30


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SPEED))
    return import_module("store")


def test_one_run_has_a_page(tmp_path: Path) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.5))
    text = plain(html_of(tmp_path))
    assert "random" in text
    assert "1 run" in text
    assert "Differences to random" not in text
    assert "Show all" not in text


def test_one_strategy_of_several_seeds_is_compared_with_nothing(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, f"clmae-{seed}", record("clmae", seed, 0.5 + seed / 100))
    text = plain(html_of(tmp_path))
    assert "3 runs" in text
    assert "Differences to random" not in text


def test_a_failed_run_alone_is_named(tmp_path: Path) -> None:
    put(tmp_path, "clmae-0", record("clmae", 0, 0.5, status="failed", error="out of memory"))
    text = plain(html_of(tmp_path))
    assert "There is no finished run to show." in text
    assert "clmae-0 failed out of memory" in text


def test_nothing_at_all_has_a_page(tmp_path: Path) -> None:
    assert "There is no finished run to show." in plain(html_of(tmp_path))


def test_runs_without_masks_say_so(tmp_path: Path) -> None:
    for name in ("random", "clmae"):
        put(tmp_path, f"{name}-0", record(name, 0, 0.5, masks={}), files=False)
    assert "No masks were recorded." in plain(html_of(tmp_path))


def test_runs_without_probes_have_a_page(tmp_path: Path) -> None:
    for name in ("random", "clmae"):
        put(tmp_path, f"{name}-0", record(name, 0, 0.5, probes=[], controls=[]))
    html = html_of(tmp_path)
    assert "clmae" in plain(html)
    assert "n labelled images per class: " not in plain(html)


def test_made_up_runs_are_read_whole(store: Any, tmp_path: Path) -> None:
    folders = store.make(tmp_path, store.Plan(runs=5, strategies=2, sets=1))
    text = plain(html_of(tmp_path))
    assert len(folders) == 5
    assert "Left out" not in text
    assert "What the masks hide" in text


def made(store: Any, path: Path, *plan: int) -> tuple[str, int]:
    """The page of so many runs, strategies and data sets, made by a process of its own; its peak
    memory in bytes."""
    store.make(path / "runs", store.Plan(*plan))
    code = (
        "import sys; from pathlib import Path; from maskbench.machine import peak_memory; "
        "from maskbench.report import page; "
        "folders = sorted(Path(sys.argv[1]).iterdir()); "
        "Path(sys.argv[2]).write_text(page.make(folders).html, encoding='utf-8'); "
        "print(peak_memory('cpu')['host'])"
    )
    out = path / "page.html"
    command: list[str | Path] = [sys.executable, "-c", code, path / "runs", out]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return out.read_text(encoding="utf-8"), int(told)


@pytest.mark.slow
def test_the_page_of_40_runs_stays_small(store: Any, tmp_path: Path) -> None:
    html, _ = made(store, tmp_path, 40, 12, 1)
    assert "data-player" in html
    assert "What the masks hide" in html
    assert len(html.encode()) < LARGEST


@pytest.mark.slow
def test_200_runs_are_told_apart_within_a_gigabyte(store: Any, tmp_path: Path) -> None:
    html, peak = made(store, tmp_path, 200, 12, 5)
    text = plain(html)
    assert all(f"strategy-{n}" in text for n in range(1, 12))
    assert all(f"set-{n}" in text for n in range(1, 6))
    assert "Show all" in text
    assert html.count('class="more chapter-more"') == 4
    assert len(html.encode()) < 5 * LARGEST
    assert peak < MOST_MEMORY
