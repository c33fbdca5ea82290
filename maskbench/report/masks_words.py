"""What a page says of masks, in words: which null, whose model, what is missing, what moved."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from maskbench.report.studied import Studied
from maskbench.report.study_file import Found
from maskbench.report.words import count
from maskbench.trust import plain

JUDGED = ("difficulty", "attention")
Q = 0.05
AT = re.compile(r"at (\S{1,12}) % of the budget: (.*)", re.DOTALL)
NUMBER = re.compile(r"[-+]?\d[\d.]*")


def fewest(found: Studied) -> tuple[str, int]:
    """The strategy with the fewest seeds, and how many."""
    label, _, own = min(found.strategies, key=lambda one: len(one[2]))
    return label, len(own)


def band(found: Studied) -> str:
    """Which null the grey band is."""
    images, seeds = found.first.document.images, fewest(found)[1]
    uneven = len({len(own) for _, _, own in found.strategies}) > 1
    note = ", the fewest of any strategy here" if uneven else ""
    runs = f" and {count(seeds, 'seed')}{note}" if seeds > 1 or uneven else ""
    return (
        f"Grey: where 95 % of the means of uniformly random masks lie, for {images:,} images{runs}."
    )


def judged(found: Studied) -> str:
    """Whose model says what is difficult and what is attended to."""
    sources = {row["source"] for row in found.tables["saliency"]}
    if not sources & set(JUDGED):
        return ""
    name = found.first.document.reference
    whose = "each run's own final model" if name == "own" else f"the final model of {name}"
    if name is None:
        return ""
    return plain(f"Difficulty and attention are those of {whose}.")


def covered(found: Studied) -> str:
    """What the intervals cover."""
    alone = [label for label, _, own in found.strategies if len(own) == 1]
    several = (
        "Intervals are 95 %: over seeds and images for what they hide, over seeds for the rest; "
        "drawn where at most four strategies are, the tables have them all."
    )
    if not alone:
        return several
    who = "one seed per strategy" if len(alone) == len(found.strategies) else "one seed of "
    who += "" if len(alone) == len(found.strategies) else ", ".join(alone)
    one = f"With {who}, intervals are over images only and say nothing about other seeds."
    return one if len(alone) == len(found.strategies) else f"{several} {one}"


def missing(found: Studied) -> list[str]:
    """Saliency sources that no image has, or only some, in words."""
    notes: dict[str, list[str]] = {}
    for row in found.tables["saliency"]:
        if row["note"]:
            own = notes.setdefault(f"{row['source']}: {row['note']}", [])
            own += [] if row["strategy"] in own else [row["strategy"]]
    every = len(found.strategies)
    return [
        plain(note if len(own) == every else f"{note} ({', '.join(own)})")
        for note, own in notes.items()
    ]


def alarms(label: str, own: Sequence[Found]) -> list[str]:
    """A strategy's alarms; of those that differ in numbers alone, one line with all moments."""
    kinds: dict[str, list[tuple[float, int, str]]] = {}
    other: list[str] = []
    for one in own:
        for text in one.document.alarms:
            found = AT.fullmatch(text)
            if found is None or not NUMBER.fullmatch(found[1]):
                other.append(f"{label}, seed {one.run.seed}: {text}")
                continue
            kind = NUMBER.sub("#", found[2])
            kinds.setdefault(kind, []).append((_number(found[1]), one.run.seed, found[2]))
    lines = []
    for each in kinds.values():
        shares, seeds = [share for share, _, _ in each], sorted({seed for _, seed, _ in each})
        low, high = min(shares), max(shares)
        when = f"at {low:.3g} %" if low == high else f"from {low:.3g} to {high:.3g} %"
        last = next(text for share, _, text in each if share == high)
        which = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        at_last = "" if low == high else f" (numbers of {high:.3g} %)"
        told = f"{last.rstrip('.')}{at_last}." if last.endswith(".") else f"{last}{at_last}"
        lines.append(f"{label}, {which}, {when} of the budget: {told}")
    return [plain(line) for line in [*lines, *dict.fromkeys(other)]]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def cell(row: Mapping[str, Any] | None) -> str:
    """A value with half of its interval."""
    if row is None or row["value"] is None:
        return "–"
    half = "" if row["low"] is None else f" ± {three((row['high'] - row['low']) / 2)}"
    return three(row["value"]) + half


def three(value: float) -> str:
    """A number with three decimals; a large one with three digits."""
    text = f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"
    return (text.replace("-", "") if text == "-0.000" else text).replace("-", "−")


def rising(found: Studied, label: str) -> str:
    """What a strategy comes to hide more or less, in a sentence."""
    slopes = [
        row
        for row in found.of(label)["trends"]
        if row["kind"] == "slope" and row["of"].startswith("auc, ") and row["value"] is not None
    ]
    if not slopes:
        return f"{label}: too few moments for a trend."
    moved = [row for row in slopes if row["q"] is not None and row["q"] < Q]
    parts = []
    for word, sign in (("rises", 1), ("falls", -1)):
        own = [row for row in moved if sign * row["value"] > 0]
        if own:
            parts.append(f"{word} for {', '.join(_change(row) for row in own)}")
    still = [row["of"].removeprefix("auc, ") for row in slopes if row not in moved]
    if still:
        parts.append(f"shows no trend for {', '.join(still)}")
    basis = "over images of one seed" if slopes[0]["seeds"] == 1 else "over seeds and images"
    return plain(f"{label}: AUC {'; '.join(parts)} ({basis}).")


def _change(row: Mapping[str, Any]) -> str:
    sign = "+" if row["value"] > 0 else ""
    return f"{row['of'].removeprefix('auc, ')} ({sign}{cell(row)})"


def following(found: Studied) -> list[str]:
    """How difficulty follows lambda, seed by seed, and on average."""
    lines = []
    for label, _, _ in found.strategies:
        rows = found.of(label)["trends"]
        for of in dict.fromkeys(row["of"] for row in rows if row["kind"] == "spearman"):
            own = [row for row in rows if row["of"] == of and row["kind"] == "spearman"]
            each = ", ".join(f"{_signed(row['value'])} (seed {row['seed']})" for row in own)
            mean = [row for row in rows if (row["of"], row["kind"]) == (of, "spearman, mean")]
            more = f"; mean {cell(mean[0])}" if mean else ""
            lines.append(plain(f"{label}, {of}: Spearman {each}{more}."))
    return lines


def _signed(value: float | None) -> str:
    return "not defined" if value is None else f"{value:+.2f}".replace("-", "−")
