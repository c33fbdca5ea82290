"""``maskbench compare``: runs side by side: in the terminal, in one HTML page, for programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskbench.cli.options import AsJson, Debug

if TYPE_CHECKING:
    from maskbench.report.page import Report

LEFT_OUT = 3
MANY, AUTO, NONE = 30, "auto", "none"
"""PNG and PDF of more figures take minutes, and nobody prints them all."""


def compare(
    context: typer.Context,
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Run folders, names, stores, folders of stores; default: all runs."),
    ] = None,
    store: Annotated[Path, typer.Option("--runs", help="The run store.")] = Path("runs"),
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the report; a run store is compared itself.")
    ] = Path("reports/latest"),
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="On stdout: table; or the leaderboards as markdown, latex or csv; or all numbers "
            "as json. What is not the table is for programs: no report is written then, unless "
            "--out, --records or kinds of --figures ask for one.",
        ),
    ] = "table",
    figures: Annotated[
        str,
        typer.Option(
            help="Files for papers: any of svg,png,pdf, or none. Default: all three; svg alone "
            "where a report has more than 30 figures."
        ),
    ] = AUTO,
    copies: Annotated[
        bool,
        typer.Option(
            "--records",
            help="Copy what the report reads of the runs beside it, to be published with it.",
        ),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare runs: tables here, and a report: one self-contained page, numbers, figures.

    With --json or another --format than the table nothing but that is made; --out writes the
    report, too.

    Runs are ranked together only where they consumed the same: equal images, equal FLOPs or equal
    time on one kind of machine. Which pairs cannot be compared is said, with the reason.

    The folder then holds report.html (open it from disk, send it), report.json, the tables as CSV,
    and figures/ for papers. 'maskbench report --check' makes it again and compares.

    Several stores are merged: a copy of a run counts once; of two records of one name the one that
    was started first counts, and what they differ in is named, in whatever order they are given.

    Exit code 3 says that the page was made but something was left out of it: an unfinished,
    failed, repeated or unreadable run, one whose ledger lacks something (listed, unranked), a
    trial of a tuning, a missing file, or an unreadable one of probes. The page and the table
    name it. A copy of a run that counts is named, too, but is no reason.

    Examples:
      maskbench compare
      maskbench compare random-nano clmae-nano --out reports/first-look
      maskbench compare other/runs --format latex
      maskbench compare runs from-alice/ from-bob/
      maskbench compare --records --out reports/published
    """
    form = "json" if as_json else form
    kinds = _kinds(form, figures)
    from maskbench.cli import render
    from maskbench.cli.stores import chosen, folders_of

    if not runs and not _given(context, "store") and folders_of(out):
        store = out
    drawn = figures not in (AUTO, NONE)
    written = form == "table" or copies or drawn or _given(context, "out")
    with render.busy("reading the runs" + " and drawing the report" * written):
        from maskbench.report import merging, page

        folders = chosen(runs or [], store)
        report = page.make(_copied(folders, out) if copies else folders)
        put = _write(report, out, kinds, some=figures == AUTO) if written else None
    _tell(report, form, put)
    if any(item.status != merging.COPY for item in report.left_out):
        raise typer.Exit(LEFT_OUT)


def _given(context: typer.Context, name: str) -> bool:
    """Whether an option was named, not left as it is."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _copied(folders: Sequence[Path], out: Path) -> Sequence[Path]:
    from maskbench.report import records

    return records.copy(folders, out)


def _write(report: "Report", out: Path, kinds: list[str], *, some: bool) -> tuple[Path, bool]:
    """The report's page, and whether it replaced one; ``some``: many figures are SVG alone."""
    from maskbench.report import writing

    many = some and len(report.pictures) > MANY
    return writing.write(report, out, ["svg"] if many else kinds)


def _kinds(form: str, figures: str) -> list[str]:
    """The kinds of files for figures; also refuses an unknown form.

    Raises:
        UsageError: One is unknown.
    """
    from maskbench.errors import UsageError, unknown
    from maskbench.figures.picture import KINDS
    from maskbench.report import exports

    forms = ("table", *exports.KINDS, "json")
    if form not in forms:
        raise UsageError(unknown("format", form, forms))
    if figures == AUTO:
        return list(KINDS)
    wanted = [] if figures == NONE else [kind.strip() for kind in figures.split(",")]
    for kind in wanted:
        if kind not in KINDS:
            raise UsageError(unknown("kind of figure", kind, [*KINDS, NONE, AUTO]))
    return list(dict.fromkeys(wanted))


def _tell(report: "Report", form: str, put: tuple[Path, bool] | None) -> None:
    """The report on stdout; where it lies, too, or on stderr where stdout is for a program.

    Args:
        report: What is told.
        form: How.
        put: Its page, and whether it replaced one; None where it was not written.
    """
    from maskbench.cli import compared, render
    from maskbench.report import numbers, provenance
    from maskbench.report.exports import leaderboard_as

    path, replaced = put or (None, None)
    if form == "json":
        told = {"report": path and str(path), "replaced": replaced, **numbers.document(report)}
        runs = provenance.rows(report)
        render.as_json({**told, "masks": numbers.masks(report), "runs": runs})
        return
    said = f"report  {path}{' (replaced)' if replaced else ''}"
    if form == "table":
        compared.tables(report)
        render.line(said)
        return
    render.line("\n".join(leaderboard_as(group, form) for group in report.groups).rstrip())
    if put:
        render.say(said)
