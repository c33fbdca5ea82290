"""What ``maskbench reproduce`` shows in the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from maskbench.cli import render

if TYPE_CHECKING:
    from maskbench.reproduce.report import Outcome
    from maskbench.reproduce.schema import Benchmark
    from maskbench.reproduce.verdict import Finding


def listed(files: Mapping[str, "Benchmark"]) -> None:
    """The figures that come with maskbench."""
    table = Table(title="figures: maskbench reproduce NAME", title_justify="left")
    for column in ("name", "claim", "source"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for name, file in files.items():
        table.add_row(name, render.escape(file.claim), render.escape(file.source))
    Console().print(table)


def outcome(found: "Outcome", folder: Path) -> None:
    """The claim, the numbers, and the verdict."""
    asked = found.bench.asked
    render.line(f"claim     {asked.claim}")
    render.line(f"expected  {asked.expected}")
    table = Table(caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("difference", "found", "95 % interval", "least", "seeds", "verdict"):
        table.add_column(name, overflow="fold", no_wrap=name == "95 % interval")
    for one in found.findings:
        mark = "*" if one.decisive else " "
        table.add_row(
            f"{mark} {render.escape(one.what)}",
            _number(one.value),
            f"{_number(one.low)} to {_number(one.high)}" if one.low is not None else "-",
            f"{one.smallest:g}",
            str(one.seeds),
            render.escape(_said(one)),
        )
    table.caption = (
        "* decides; the others are listed only. least: the smallest difference of interest"
    )
    Console().print(table)
    for one in found.findings:
        if one.value is None:
            render.line(f"missing  {one.what}: {one.why}")
    for lost in found.failed:
        render.line(f"failed  {lost['arm']}, seed {lost['seed']}: {lost['why']}")
    render.line(f"verdict   {found.verdict}: {found.why}")
    render.line(f"found     {folder} (figure.svg, figure.png, verdict.json, numbers.csv)")


def _said(one: "Finding") -> str:
    if not one.decisive:
        return "-"
    return one.verdict if one.p_holm is None else f"{one.verdict}; Holm p = {one.p_holm:.2g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3g}"
