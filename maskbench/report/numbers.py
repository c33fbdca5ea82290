"""Everything a report says as numbers: one JSON document, and tidy tables as CSV."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from maskbench.report import costs, provenance
from maskbench.report.alarms import alarms
from maskbench.report.board import leaderboard
from maskbench.report.frame import PIXELS, TRAINED, UNTRAINED, Run
from maskbench.report.frontier import standing
from maskbench.report.judge import judge
from maskbench.report.merging import origin
from maskbench.report.reach import reaches
from maskbench.report.studied import numbered
from maskbench.report.verdict import verdict
from maskbench.report.views import Group
from maskbench.report.words import matched
from maskbench.results import plain_json

if TYPE_CHECKING:
    from maskbench.report.page import Report

Rows = list[dict[str, Any]]
SCHEMA = 1
DRAWN_BY = ("maskbench", "jinja2", "matplotlib", "numpy", "pillow", "scipy", "tabulate")
"""What decides the bytes of a page."""
FROM = ("maskbench", "torch", "commit", "benchmark", "started")
"""Of where a run comes from, what the table of runs says beside its machine."""
DIGITS = 10
"""Of every number in a file: further ones differ between processors."""


def made_with() -> dict[str, str]:
    """Versions of what decides the bytes of a page."""
    found = {}
    for name in DRAWN_BY:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a checkout that is not installed
            found[name] = "not known"
    return found


def document(report: "Report") -> dict[str, Any]:
    """All numbers of a report."""
    return {
        "schema": SCHEMA,
        "made_with": made_with(),
        "rows": _boards(report),
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
        "left_out": [provenance.left_out(item) for item in report.left_out],
    }


def masks(report: "Report") -> dict[str, Rows]:
    """What is known of masks, by table."""
    return numbered(report.studies)


def portable(told: Mapping[str, Any]) -> dict[str, Any]:
    """A document without what names this machine's folders: a file is the same anywhere."""
    placed = {
        "not_compared": {"here"},
        "missing_views": {"here"},
        "left_out": set(provenance.PLACES),
    }
    rows = {
        key: [
            {name: value for name, value in row.items() if name not in names} for row in told[key]
        ]
        for key, names in placed.items()
    }
    return {**told, **rows}


def _boards(report: "Report") -> Rows:
    """The leaderboards, a row per group and strategy, with all that is known of it."""
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


def tables(report: "Report", told: Mapping[str, Any]) -> dict[str, Rows]:
    """Tidy tables by name; a row per strategy, or per run and what was measured of it.

    Args:
        report: The report.
        told: Its document.
    """
    return {
        "leaderboard": _even(_flat(row) for row in told["rows"]),
        "runs": [row for n, group in enumerate(report.groups, 1) for row in _runs(n, group)],
        "few-shot": [row for n, group in enumerate(report.groups, 1) for row in _shots(n, group)],
        "over-epochs": [row for n, g in enumerate(report.groups, 1) for row in _moments(n, g)],
        "accuracy-against-cost": _even(_flat(row) for row in told["accuracy_against_cost"]),
        "left-out": _even(item.plain() for item in report.left_out),
        **{f"masks-{name}": rows for name, rows in masks(report).items()},
    }


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key; lists as words."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            found[prefix + key] = " ".join(map(str, value))
        else:
            found[prefix + key] = value
    return found


def _even(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """All with the same keys; a part that is unknown as a whole leaves no column of its own."""
    found = list(rows)
    keys = list(dict.fromkeys(key for row in found for key in row))
    kept = [key for key in keys if not any(other.startswith(f"{key}.") for other in keys)]
    return [{key: row.get(key) for key in kept} for row in found]


def _runs(number: int, group: Group) -> Rows:
    """What every run reached and consumed."""
    return [
        {
            **_named(number, entry.label, run),
            "fs_aulc": run.aulc(group.shots) if group.shots else None,
            "knn20": run.neighbours.get(TRAINED),
            "images": run.cost("images"),
            "flops_total": run.cost("flops_total"),
            "seconds_total": run.cost("seconds_total"),
            "machine": run.machine,
            **{name: value for name, value in origin(run.record).items() if name in FROM},
        }
        for entry in group.entries
        for run in entry.runs
    ]


def _shots(number: int, group: Group) -> Rows:
    """Few-shot accuracy of every run and its controls; mean over draws."""
    return [
        {**_named(number, entry.label, run), "feature": feature, "shots": shots, "accuracy": value}
        for entry in group.entries
        for run in entry.runs
        for feature in (TRAINED, UNTRAINED, PIXELS)
        for shots, value in run.scores.get(feature, {}).items()
    ]


def _moments(number: int, group: Group) -> Rows:
    """Few-shot accuracy during training, of runs that were probed then."""
    return [
        {
            **_named(number, entry.label, run),
            "images": moment.images,
            "flops": moment.flops,
            "seconds": moment.seconds,
            "shots": shots,
            "accuracy": value,
        }
        for entry in group.entries
        for run in entry.runs
        if len(run.moments) > 1
        for moment in run.moments
        for shots, value in moment.scores.items()
    ]


def _named(number: int, label: str, run: Run) -> dict[str, Any]:
    return {"group": number, "strategy": label, "run": run.id, "seed": run.seed}


def rounded(value: Any) -> Any:
    """Numbers with ten digits, what is no number as null; for files."""
    if isinstance(value, float):
        return plain_json(float(f"{value:.{DIGITS}g}"))
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
