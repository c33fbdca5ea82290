"""``maskbench compare``: runs side by side, in the terminal and in one HTML page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskbench.cli.options import AsJson, Debug

if TYPE_CHECKING:
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
    """Compare runs: tables here, one self-contained report.html, and numbers of masks as CSV.

    Runs are ranked together only where they consumed the same: equal images, equal FLOPs or equal
    time on one kind of machine. Which pairs cannot be compared is said, with the reason.

    Exit code 3 says that the page was made but something was left out of it: an unfinished,
    failed, repeated or unreadable run, one whose ledger lacks something (listed, unranked), a
    trial of a tuning, a missing file, or an unreadable one of probes. The page and the table
    name it.

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
        from maskbench.cli import compared, render

        compared.tables(report)
        render.line(f"report  {path}{' (replaced)' if replaced else ''}")
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
    from maskbench.report.alarms import alarms
    from maskbench.report.judge import judge
    from maskbench.report.reach import reaches
    from maskbench.report.studied import numbered
    from maskbench.report.verdict import verdict

    told = {
        "report": str(path),
        "replaced": replaced,
        "rows": _json_rows(report),
        "accuracy_against_cost": [
            {"shots": found.shots, "conditions": dict(found.conditions), **point.plain()}
            for found in report.frontiers
            for point in found.points
        ],
        "epochs_to_baseline": [
            {"group": number, **asdict(reach)}
            for number, group in enumerate(report.groups, 1)
            for reach in reaches(group)
        ],
        "over_data_sets": [
            {"group": number, **asdict(found)}
            for number, found in enumerate(report.across, 1)
            if found.rows or found.note
        ],
        "not_compared": [asdict(pair) for pair in report.not_compared],
        "missing_views": [asdict(view) for view in report.missing_views],
        "runs_started": [
            {"group": number, **tried.plain()}
            for number, group in enumerate(report.groups, 1)
            for tried in judge(group).attempts.values()
        ],
        "exploratory": [
            {"group": number, "endpoint": endpoint, "strategy": strategy, **asdict(found)}
            for number, group in enumerate(report.groups, 1)
            for (endpoint, strategy), found in judge(group).secondary.items()
        ],
        "verdicts": [
            {"group": number, "verdict": verdict(group), "warnings": alarms(group)}
            for number, group in enumerate(report.groups, 1)
        ],
        "masks": numbered(report.studies),
        "left_out": [item.plain() for item in report.left_out],
    }
    render.as_json(told)


def _json_rows(report: "Report") -> list[dict[str, Any]]:
    """The leaderboards, a row per group and strategy, with all that is known of it."""
    from maskbench.report import costs
    from maskbench.report.board import leaderboard
    from maskbench.report.frontier import standing
    from maskbench.report.words import matched

    rows = []
    for number, group in enumerate(report.groups, 1):
        spent = dict(costs.relative(group))
        for row, entry in zip(leaderboard(group), group.entries, strict=True):
            more = {
                "conditions": dict(group.conditions),
                "views": list(group.views),
                "matched": matched(group),
                "cost": {name: cost.plain() for name, cost in spent[entry.label].items()},
                "non_dominated": standing(report.frontiers, entry),
            }
            rows.append({"group": number, **row.plain(), **more})
    return rows
