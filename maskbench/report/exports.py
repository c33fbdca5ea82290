"""Leaderboards to paste into a paper, a README or a spreadsheet."""

import re
from collections.abc import Mapping, Sequence

from tabulate import LATEX_ESCAPE_RULES, tabulate

from maskbench.findings import table as csv
from maskbench.report import costs
from maskbench.report.board import leaderboard
from maskbench.report.judge import judge
from maskbench.report.views import Group
from maskbench.report.words import band, matched, p_value, share, signed, views
from maskbench.statistics import Contrast
from maskbench.trust import plain

KINDS = ("markdown", "latex", "csv")
MATHS = {
    "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "≥": r"$\geq$", "–": "--", "λ": r"$\lambda$",
}  # fmt: skip
Texts = Sequence[Mapping[str, str]]


def leaderboard_as(group: Group, kind: str) -> str:
    """A group's leaderboard as text.

    Args:
        group: Runs that may be compared.
        kind: One of ``KINDS``.
    """
    rows = texts(group)
    if kind == "csv":
        return csv([dict(row) for row in rows])
    if kind == "latex":
        return _latex(rows, caption(group))
    return f"{_markdown(rows)}\n\n{caption(group)}\n"


def texts(group: Group) -> list[dict[str, str]]:
    """The rows: accuracy with its interval, paired difference to random, cost, seeds, failures."""
    judged = judge(group)
    spent = dict(costs.relative(group))
    rows = []
    for row in leaderboard(group):
        primary, tried = judged.primary.get(row.strategy), judged.attempts[row.strategy]
        star = "*" if row.runs.flagged else ""
        rows.append(
            {
                "Strategy": row.strategy,
                "Seeds": str(tried.ok),
                "Failed": f"{tried.failed} of {tried.started}",
                "Rank": row.rank or "–",
                "FS-AULC, %": share(row.fs_aulc) + star,
                "− random, points": paired(primary),
                "Holm p": p_value(primary.p_adjusted if primary else None),
                f"{row.shots or 'n'}-shot, %": share(row.accuracy) + star,
                "20-NN, %": share(row.knn20) + star,
                **{
                    f"{name} (× random)": " ".join(_cost(name, spent[row.strategy][name]))
                    for name in ("images", "FLOPs", "time")
                },
            }
        )
    blank = dict.fromkeys(rows[0], "–")
    for one in judged.none_finished:
        lost = {"Seeds": "0", "Failed": f"{one.failed} of {one.started}"}
        rows.append({**blank, "Strategy": one.strategy, **lost})
    return rows


def paired(one: Contrast | None) -> str:
    """``+1.3 [0.2, 2.4]``; no interval below three seeds."""
    return "–" if one is None else f"{signed(one.value)} {band(one.band)}".strip()


def _cost(name: str, cost: costs.Cost) -> tuple[str, str]:
    value, times = costs.said(name, cost)
    return value, f"({times})"


def caption(group: Group) -> str:
    """What the numbers are, in a sentence or two."""
    equal = f"equal {views(group.views)}: " if group.views else ""
    record = group.runs[0].record
    flagged = any(one.flagged for one in judge(group).attempts.values())
    return plain(
        f"{record['data']['name']}, {record['model']['preset']}, {equal}{', '.join(matched(group))}"
        ". ± and brackets: 95 % t-intervals over seeds, from three seeds on; differences are "
        f"paired by seed.{' *: over survivors, more than a fifth failed.' if flagged else ''}"
    )


def _markdown(rows: Texts) -> str:
    """A pipe table; a pipe in a cell is escaped."""
    safe = [{key: _shielded(value) for key, value in row.items()} for row in rows]
    sides = _sides(rows)
    return str(
        tabulate(safe, headers="keys", tablefmt="pipe", disable_numparse=True, colalign=sides)
    )


def _shielded(text: str) -> str:
    """A text that Markdown shows as it is, in a cell."""
    return re.sub(r"([\\|<`])", r"\\\1", text)


def _latex(rows: Texts, text: str) -> str:
    """A table that needs the package booktabs."""
    body = tabulate(
        [list(row.values()) for row in rows],
        headers=list(rows[0]),
        tablefmt="latex_booktabs",
        disable_numparse=True,
        colalign=_sides(rows),
    )
    escaped = "".join(LATEX_ESCAPE_RULES.get(letter, letter) for letter in text)
    whole = f"\\begin{{table}}\n\\caption{{{escaped}}}\n{body}\n\\end{{table}}\n"
    for sign, maths in MATHS.items():
        whole = whole.replace(sign, maths)
    return whole


def _sides(rows: Texts) -> list[str]:
    return ["left", *["right"] * (len(rows[0]) - 1)]
