"""``maskbench compare``: runs side by side, in the terminal and in one HTML page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskbench.cli.options import AsJson, Debug

if TYPE_CHECKING:
    from maskbench.report.frame import Group
    from maskbench.report.means import Mean
    from maskbench.report.page import Report

LEFT_OUT = 3


def compare(
    context: typer.Context,
    runs: Annotated[
        list[str] | None, typer.Argument(help="Run folders, names or stores; default: all runs.")
    ] = None,
    store: Annotated[Path, typer.Option("--runs", help="The run store.")] = Path("runs"),
    out: Annotated[
        Path, typer.Option("--out", help="Folder for report.html; a run store is compared itself.")
    ] = Path("reports/latest"),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare runs: a table here, and one self-contained report.html.

    Exit code 3 says that the page was made but something was left out of it: an unfinished,
    failed, repeated or unreadable run, or a missing file. The page and the table name it.

    Examples:
      maskbench compare
      maskbench compare random-nano clmae-nano --out reports/first-look
      maskbench compare other/runs
    """
    from maskbench.report import page

    given = context.get_parameter_source("store")
    if not runs and (given is None or given.name == "DEFAULT") and folders_of(out):
        store = out
    report = page.make(chosen(runs or [], store))
    path, replaced = page.write(report, out)
    if as_json:
        _json(report, path, replaced=replaced)
    else:
        _tables(report)
        typer.echo(f"report  {path}{' (replaced)' if replaced else ''}")
    if report.left_out:
        raise typer.Exit(LEFT_OUT)


def folders_of(path: Path) -> list[Path]:
    """The runs in a store; none if it is not one."""
    from maskbench.results import Store

    return Store(path).folders()


def chosen(names: Sequence[str], store: Path) -> list[Path]:
    """The run folders that are meant, each once.

    Raises:
        UsageError: There is none, or a name fits no run or several.
    """
    from maskbench.errors import UsageError
    from maskbench.results import Store

    found: list[Path] = []
    for name in names:
        found += folders_of(Path(name)) or [Store(store).find(name)]
    if not names:
        found = folders_of(store)
    if not found:
        raise UsageError(
            f"no runs in {store}/: 'maskbench run --strategy random' makes one; "
            "--runs names another store."
        )
    return list({folder.resolve(): folder for folder in found}.values())


def _json(report: "Report", path: Path, *, replaced: bool) -> None:
    from dataclasses import asdict

    from maskbench.cli import render
    from maskbench.report.words import leaderboard

    rows = [
        {"group": number, **row.plain(), "conditions": dict(group.conditions)}
        for number, group in enumerate(report.groups, 1)
        for row in leaderboard(group)
    ]
    left_out = [asdict(item) for item in report.left_out]
    told = {"report": str(path), "replaced": replaced, "rows": rows, "left_out": left_out}
    render.as_json(told)


def _tables(report: "Report") -> None:
    from dataclasses import asdict

    from maskbench.cli import render
    from maskbench.report.words import verdict

    for group in report.groups:
        facts = group.conditions
        title = f"{facts['data']}, {facts['model'].partition(' (')[0]}, {facts['budget']}"
        render.table(title, _rows(group))
        typer.echo(f"{verdict(group)}\n")
    if report.differing:
        apart = f"{len(report.groups)} groups that differ in {', '.join(report.differing)}"
        typer.echo(f"The runs fall into {apart}: nothing is compared across groups.\n")
    if report.left_out:
        render.table("left out, and why", [asdict(item) for item in report.left_out])


def _rows(group: "Group") -> list[dict[str, Any]]:
    """The leaderboard, short enough for a terminal."""
    from maskbench.report.words import leaderboard

    return [
        {
            "strategy": row.strategy,
            "seeds": len(row.seeds),
            f"{row.shots or 'n'}-shot %": _tight(row.accuracy),
            "vs random": _tight(row.difference, sign=True),
            "20-NN %": _tight(row.knn20),
            "FLOPs": f"{row.flops_relative:.2f}x",
            "time": "–" if row.seconds_relative is None else f"{row.seconds_relative:.2f}x",
            "minutes": row.training_seconds / 60,
        }
        for row in leaderboard(group)
    ]


def _tight(mean: "Mean | None", *, sign: bool = False) -> str:
    from maskbench.report.words import share

    return share(mean, sign=sign).replace(" ", "")
