"""How long a report of many runs takes: the page, and its files with all figures.

    uv run python benchmarks/speed/report.py [--runs 200] [--strategies 12] [--sets 5] [--json]

Runs are made up (``store.py``), so that nothing but the report itself is timed. Prints seconds of
the clock and of the processor, the peak of the host's memory and the size of the page.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import store

from maskbench.figures.picture import KINDS
from maskbench.machine import peak_memory
from maskbench.provenance import provenance


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What work gives, with seconds of the clock and of the processor."""
    start, used = time.perf_counter(), time.process_time()
    found = work()
    seconds = {"clock_s": time.perf_counter() - start, "processor_s": time.process_time() - used}
    return found, {name: round(value, 2) for name, value in seconds.items()}


def measured(folders: list[Path], out: Path) -> dict[str, Any]:
    """A report made and written; for a process of its own, whose memory is measured."""
    from maskbench.report import page, writing

    report, made = timed(lambda: page.make(folders))
    _, written = timed(lambda: writing.write(report, out, KINDS))
    return {
        "page": made,
        "files": written,
        "figures": len(report.pictures),
        "page_bytes": len(report.html.encode()),
        "peak_memory_bytes": peak_memory("cpu")["host"],
    }


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--strategies", type=int, default=12)
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--no-studies", action="store_true", help="runs without masks")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    plan = store.Plan(given.runs, given.strategies, given.sets, not given.no_studies)
    with tempfile.TemporaryDirectory() as scratch:
        folders = store.make(Path(scratch) / "runs", plan)
        with get_context("spawn").Pool(1) as pool:
            found = pool.apply(measured, (folders, Path(scratch) / "report"))
    told = {**vars(plan), **found, "provenance": provenance("cpu")}
    if given.json:
        print(json.dumps(told))
        return
    page, files = found["page"], found["files"]
    print(
        f"{plan.runs} runs x {plan.strategies} strategies x {plan.sets} data sets: page "
        f"{page['clock_s']} s ({page['processor_s']} s of processor), files with "
        f"{found['figures']} figures {files['clock_s']} s ({files['processor_s']} s); page "
        f"{found['page_bytes'] / 1e6:.2f} MB, peak {found['peak_memory_bytes'] / 2**30:.2f} GiB"
    )


if __name__ == "__main__":
    main()
