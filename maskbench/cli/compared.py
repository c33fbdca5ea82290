"""What ``maskbench compare`` shows in the terminal."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskbench.report.datasets import Across
    from maskbench.report.frontier import Frontier
    from maskbench.report.means import Mean
    from maskbench.report.page import Report
    from maskbench.report.reading import Unranked
    from maskbench.report.studied import Studied
    from maskbench.report.views import Group

PAIRS = 8


def tables(report: "Report") -> None:
    """Everything that a report says, as far as it fits a terminal."""
    from maskbench.cli import render

    for group, across, studies in zip(report.groups, report.across, report.studies, strict=True):
        _group(group, across)
        _masks(studies)
    if report.differing:
        apart = f"{len(report.groups)} groups that differ in {', '.join(report.differing)}"
        render.line(f"The runs fall into {apart}: nothing is compared across groups.\n")
    for found in report.frontiers:
        _against_cost(found)
    _apart(report)
    if report.unranked:
        render.table("unranked", [_unranked(item) for item in report.unranked])
    _conflicts(report)
    conflicts = [item for item in report.left_out if item.differs]
    rest = [i for i in report.left_out if i not in report.unranked and i not in conflicts]
    if rest:
        render.table("left out, and why", [item.plain() for item in rest])
    _stores(report)


def _conflicts(report: "Report") -> None:
    """Runs of one name that are not the same: which counts, and in what they differ."""
    from maskbench.cli import render
    from maskbench.report.merging import in_words

    conflicts = [item for item in report.left_out if item.differs]
    if conflicts:
        render.line("conflicts: one name, two records")
    for item in conflicts:
        render.line(f"  {item.run}  {item.status}: {item.counted} counts, {item.folder} does not")
        render.line(f"    {in_words(item.differs)}")
    if conflicts:
        render.line()


def _stores(report: "Report") -> None:
    """Where the runs come from, if from several stores."""
    from maskbench.cli import render
    from maskbench.report import provenance

    if len({folder.parent for folder in report.folders}) > 1:
        render.table("stores", provenance.stores(report))


def _unranked(item: "Unranked") -> dict[str, Any]:
    from maskbench.cli.accuracies import percent

    return {
        "run": item.run,
        f"{item.shots or 'n'}-shot %": percent(item.accuracy),
        "why": item.reason,
    }


def _group(group: "Group", over: "Across") -> None:
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
    _data_sets(over)
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


def _data_sets(over: "Across") -> None:
    """The mean over data sets, or why there is none."""
    from maskbench.cli import render
    from maskbench.report import datasets

    if over.rows:
        render.table(datasets.title(over), datasets.texts(over))
        render.line(datasets.how(over))
    if over.note:
        render.line(over.note)


def _masks(found: "Studied") -> None:
    """What the masks hide at the end of the budget."""
    from maskbench.cli import render
    from maskbench.report import masked, masks_words

    if not found.strategies:
        return
    rows = masked.at_end(found)
    render.table("AUC of masks at the end, 50 = random (± half of 95 %)", rows)
    render.line(f"{masks_words.covered(found)}\n")


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
            f"{row.shots or 'n'}-\nshot": _tight(row.accuracy, survivors=row.runs.flagged),
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
