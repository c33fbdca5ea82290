"""``maskbench compare``: runs side by side, in the terminal and in one HTML page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskbench.cli.options import AsJson, Debug

if TYPE_CHECKING:
    from maskbench.report.frontier import Frontier
    from maskbench.report.means import Mean
    from maskbench.report.page import Report
    from maskbench.report.reading import Unranked
    from maskbench.report.views import Group

LEFT_OUT = 3
PAIRS = 8


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
    """Compare runs: tables here, and one self-contained report.html.

    Runs are ranked together only where they consumed the same: equal images, equal FLOPs or equal
    time on one kind of machine. Which pairs cannot be compared is said, with the reason.

    Exit code 3 says that the page was made but something was left out of it: an unfinished,
    failed, repeated or unreadable run, one whose ledger lacks something (listed, unranked), a
    trial of a tuning, or a missing file. The page and the table name it.

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
        from maskbench.cli import render

        _tables(report)
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


def _tables(report: "Report") -> None:
    from maskbench.cli import render

    for group in report.groups:
        _group(group)
    if report.differing:
        apart = f"{len(report.groups)} groups that differ in {', '.join(report.differing)}"
        render.line(f"The runs fall into {apart}: nothing is compared across groups.\n")
    for found in report.frontiers:
        _against_cost(found)
    _apart(report)
    if report.unranked:
        render.table("unranked", [_unranked(item) for item in report.unranked])
    rest = [item.plain() for item in report.left_out if item not in report.unranked]
    if rest:
        render.table("left out, and why", rest)


def _unranked(item: "Unranked") -> dict[str, Any]:
    from maskbench.cli.accuracies import percent

    return {
        "run": item.run,
        f"{item.shots or 'n'}-shot %": percent(item.accuracy),
        "why": item.reason,
    }


def _group(group: "Group") -> None:
    """A leaderboard, its verdict and what the strategies cost."""
    from maskbench.cli import render
    from maskbench.report import across, costs
    from maskbench.report.alarms import alarms
    from maskbench.report.board import learning_rates
    from maskbench.report.reach import reaches
    from maskbench.report.verdict import verdict
    from maskbench.report.words import matched, views

    facts = group.conditions
    where = f"{facts['data']}, {facts['model'].partition(' (')[0]}"
    equal = f"equal {views(group.views)}: " if len(group.entries) > 1 else ""
    render.table(f"{where}, {equal}{', '.join(matched(group))}", _rows(group))
    render.line(verdict(group))
    for warning in alarms(group):
        render.line(f"warning  {warning}")
    _differences(group)
    if any(run.trials for run in group.runs):
        render.line(learning_rates(group))
    spent = [
        {"strategy": label, **{n: costs.said(n, c) for n, c in numbers.items()}}
        for label, numbers in costs.relative(group)
    ]
    render.table("cost, and as a multiple of random's", spent)
    rows = across.reached(reaches(group))
    if rows:
        render.table("epochs to random's final accuracy", rows)
    render.line()


def _differences(group: "Group") -> None:
    """What is known of paired differences, and of runs that did not finish."""
    from maskbench.cli import render
    from maskbench.report import differences

    for sentence in differences.unfinished(group):
        render.line(sentence)
    rows = differences.differences(group)
    if rows:
        render.table("differences to random in FS-AULC, points", rows)
    for sentence in differences.power(group):
        render.line(sentence)
    if differences.tested(group):
        render.table("other endpoints, exploratory", differences.exploratory(group))


def _against_cost(found: "Frontier") -> None:
    from maskbench.cli import render
    from maskbench.report import across

    title = f"accuracy against cost, {found.shots}-shot %; non-dominated by FLOPs and by time"
    rows = [
        {name: cell for name, cell in point.items() if name != "seeds"}
        for point in across.points(found)
    ]
    render.table(title, rows)


def _apart(report: "Report") -> None:
    """Views that nothing fills, and the first pairs that cannot be compared."""
    from maskbench.cli import render

    for view in report.missing_views:
        render.line(f"{view.why}\n  {view.here}" if view.here else view.why)
    if report.missing_views:
        render.line()
    if report.not_compared:
        render.line("what cannot be compared, and why")
    for pair in report.not_compared[:PAIRS]:
        render.line(f"  {pair.a} with {pair.b}: {pair.why}")
        if pair.here:
            render.line(f"    {pair.here}")
    more = len(report.not_compared) - PAIRS
    if more > 0:
        render.line(f"  and {more} more pairs: the page and --json have them all")
    if report.not_compared:
        render.line()


def _rows(group: "Group") -> list[dict[str, Any]]:
    """The leaderboard, short enough for a terminal."""
    from maskbench.report.board import leaderboard
    from maskbench.report.judge import judge

    rows = [
        {
            "strategy": row.strategy,
            "runs": row.runs.told,
            "rank": row.rank or "–",
            "FS-AULC": _tight(row.fs_aulc, survivors=row.runs.flagged),
            f"{row.shots or 'n'}-shot\n%": _tight(row.accuracy, survivors=row.runs.flagged),
            "20-NN\n%": _tight(row.knn20, survivors=row.runs.flagged),
            "FLOPs\nper\nimage": f"{'' if row.flops_known else '≥'}{row.flops_relative:.2f}x",
            "time\nper\nimage": _multiple(row.seconds_relative),
            "min": row.training_seconds / 60,
        }
        for row in leaderboard(group)
    ]
    blank = dict.fromkeys(rows[0], "–")
    lost = judge(group).none_finished
    return rows + [{**blank, "strategy": one.strategy, "runs": one.told} for one in lost]


def _multiple(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}x"


def _tight(mean: "Mean | None", *, survivors: bool) -> str:
    from maskbench.report.words import share

    return share(mean).replace(" ", "") + ("*" if survivors else "")
