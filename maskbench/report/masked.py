"""The part of the page about masks: what they hide, what they look like, how they move."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from maskbench import figures
from maskbench.figures import analysis as drawn
from maskbench.figures.panels import Panel, panels
from maskbench.report.drawings import shown
from maskbench.report.masks_words import (
    alarms,
    band,
    cell,
    covered,
    fewest,
    following,
    judged,
    missing,
    rising,
    three,
)
from maskbench.report.pictures import look
from maskbench.report.studied import Studied
from maskbench.report.together import Rows
from maskbench.report.views import Group

METRICS = {"auc": "AUC", "contrast": "contrast", "gap": "gap G"}
Texts = list[dict[str, str]]


def section(group: Group, found: Studied, name: str) -> dict[str, Any] | None:
    """Everything the template shows of a group's masks; None where no run has a study.

    Args:
        group: Runs that may be compared.
        found: The studies of its runs.
        name: Prefix of the ids in the page.
    """
    if not found.strategies:
        return None
    series = [(label, look(group, rank), found.of(label)) for label, rank, _ in found.strategies]
    banded = _banded(series, found)
    key = [(label, style) for label, style, _ in series]
    hides, looks, moves = (
        (drawn.saliency_panels(banded), f"AUC of masks at the end: {_ends(found, 'saliency')}."),
        (drawn.geometry_panels(banded), f"Masks at the end: {_ends(found, 'geometry')}."),
        (drawn.drift_panels(series), f"Change of masks at the end: {_ends(found, 'drift')}."),
    )
    return {
        "images": found.first.document.images,
        "band": band(found),
        "judged": judged(found),
        "seeds": covered(found),
        "missing": missing(found),
        "alarms": [line for label, _, own in found.strategies for line in alarms(label, own)],
        "hides": {**_drawn(hides, key, f"{name}-hides"), "rows": _hidden(found)},
        "looks": {**_drawn(looks, key, f"{name}-looks"), "rows": _quantities(found, "geometry")},
        "moves": {**_drawn(moves, key, f"{name}-moves"), "rows": _quantities(found, "drift")},
        "trends": [rising(found, label) for label, _, _ in found.strategies],
        "following": following(found),
        "trend_rows": _trends(found),
    }


def _drawn(
    of: tuple[Sequence[Panel], str], key: Sequence[tuple[str, figures.Look]], name: str
) -> dict[str, Any]:
    panes, label = of
    if not panes:
        return {"svg": Markup(""), "picture": None}
    return shown(name, partial(panels, panes, key), label)


Series = list[tuple[str, figures.Look, dict[str, Rows]]]


def _banded(series: Series, found: Studied) -> Series:
    """With the null band of the strategy with the fewest seeds, the widest, as that of all."""
    tables = found.of(fewest(found)[0])
    counts = {
        tuple(moment.hidden for moment in one.document.moments)
        for _, _, seeds in found.strategies
        for one in seeds
    }
    if len(counts) > 1:  # as many hidden in none of the bands
        tables = {table: [] for table in tables}
    of = {
        "saliency": (("moment", "source", "metric"), ("uniform_low", "uniform_high")),
        "geometry": (("moment", "name"), ("null_low", "null_high")),
    }
    label, style, first = series[0]
    changed = dict(first)
    for table, (keys, ends) in of.items():
        wide = {tuple(row[k] for k in keys): {e: row[e] for e in ends} for row in tables[table]}
        changed[table] = [{**r, **wide.get(tuple(r[k] for k in keys), {})} for r in first[table]]
    return [(label, style, changed), *series[1:]]


def moments(found: Studied) -> list[int]:
    """Start, middle and end of the budget; each once."""
    shares = found.first.shares
    middle = min(range(len(shares)), key=lambda moment: abs(shares[moment] - 0.5))
    return list(dict.fromkeys((0, middle, len(shares) - 1)))


def _at(found: Studied) -> list[tuple[int, str]]:
    """These moments with their shares in words."""
    return [(moment, f"{100 * found.first.shares[moment]:.3g} %") for moment in moments(found)]


def _n(row: Mapping[str, Any]) -> str:
    return f"{row['seeds']} × {row['images']:,}"


def _hidden(found: Studied) -> Texts:
    """AUC, contrast and gap of every strategy and source."""
    rows: Texts = []
    for label, _, _ in found.strategies:
        own = found.of(label)["saliency"]
        known = {(row["source"], row["metric"], row["moment"]): row for row in own}
        for source in dict.fromkeys(row["source"] for row in own):
            last = known.get((source, "auc", moments(found)[-1]))
            told = {"masks hide": f"{label}: {source}", "n": _n(last) if last else "–"}
            for metric, title in METRICS.items():
                for moment, share in _at(found):
                    told[f"{title}, {share}"] = cell(known.get((source, metric, moment)))
            rows.append(told)
    return rows


def at_end(found: Studied) -> Texts:
    """AUC at the end of the budget in percent, a row per source and a column per strategy."""
    last = len(found.first.shares) - 1
    known = {
        (row["strategy"], row["source"]): row
        for row in found.tables["saliency"]
        if row["moment"] == last and row["metric"] in ("auc", "")
    }
    labels = [label for label, _, _ in found.strategies]
    return [
        {"hidden is...": source, **{name: _percent(known.get((name, source))) for name in labels}}
        for source in dict.fromkeys(source for _, source in known)
    ]


def _percent(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "–"
    half = "" if row["low"] is None else f"±{50 * (row['high'] - row['low']):.1f}"
    return f"{100 * row['value']:.1f}{half}"


def _ends(found: Studied, table: str) -> str:
    """The numbers of a figure at the end of the budget, strategy by strategy; for its alt text."""
    key = {"saliency": "source", "geometry": "name"}.get(table, "quantity")
    names: Mapping[str, str] = {"geometry": drawn.SHAPES, "drift": drawn.DRIFTS}.get(table, {})
    last = len(found.first.shares) - 1
    told = []
    for label, _, _ in found.strategies:
        parts = [
            f"{names.get(row[key], row[key])} {cell(row)}"
            for row in found.of(label)[table]
            if row["moment"] == last
            and row["value"] is not None
            and (row["metric"] == "auc" if table == "saliency" else row[key] in names)
        ]
        told.append(f"{label}: {', '.join(parts) or 'not known'}")
    return "; ".join(told)


def _quantities(found: Studied, table: str) -> Texts:
    """Numbers of whole sets of masks, with what random ones would show."""
    titles, key = (drawn.SHAPES, "name") if table == "geometry" else (drawn.DRIFTS, "quantity")
    rows: Texts = []
    for label, _, _ in found.strategies:
        own = {(row[key], row["moment"]): row for row in found.of(label)[table]}
        for name, title in titles.items():
            course = [row for (which, _), row in own.items() if which == name]
            if not any(row["value"] is not None for row in course):
                continue
            cells = {share: cell(own.get((name, moment))) for moment, share in _at(found)}
            null = course[-1]["null"]
            random = "–" if null is None else three(null)
            rows.append(
                {"masks": f"{label}: {title}", **cells, "random": random, "n": _n(course[-1])}
            )
    return rows


def _trends(found: Studied) -> Texts:
    """All trends with their p-values."""
    return [
        {
            "trend": f"{row['strategy']}: {row['of']}",
            "kind": row["kind"] if row["seed"] is None else f"{row['kind']}, seed {row['seed']}",
            "value": cell(row),
            "p": _p(row["p"]),
            "adjusted p": _p(row["q"]),
            "n": _n(row),
        }
        for row in found.tables["trends"]
    ]


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
