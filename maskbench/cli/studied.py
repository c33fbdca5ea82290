"""Tables of what a study of masks found."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box, markup
from rich.console import Console
from rich.table import Table

from maskbench.trust import plain

SHAPES = {
    "moran": "Moran's I",
    "visible_components": "components",
    "low_frequency": "low frequencies",
    "hamming": "between images",
    "same_image": "between two draws",
    "position_share": "position share",
    "anisotropy": "anisotropy",
    "score_entropy": "score entropy",
}
DRIFTS = {
    "difficulty gap": "difficulty gap",
    "difficulty frozen gap": "  frozen model",
    "turnover": "turnover",
    "map drift": "map drift, bits",
    "lambda": "lambda",
}
Q = 0.05
LOOK: dict[str, Any] = {"box": box.SIMPLE_HEAD, "pad_edge": False, "padding": (0, 1, 0, 0)}


def studied(folder: Path, found: Mapping[str, Any], *, reused: bool) -> None:
    """What ``maskbench masks`` found, in three tables; the numbers of every moment are in files."""
    console = Console()
    chosen = _moments(found["moments"])
    shares = [f"{100 * found['moments'][moment]['share']:.3g} %" for moment in chosen]
    grid = found["grid"]
    title = (
        f"{found['run']}: {found['images']:,} images of {found['data']}, "
        f"{grid['hidden']} of {grid['rows'] * grid['columns']} patches hidden"
    )
    console.print(_saliency(found, title, chosen, shares))
    console.print(_shapes(found, chosen, shares))
    for text in _texts(folder, found, reused=reused):
        console.print(markup.escape(plain(text)), highlight=False, soft_wrap=True)


def _saliency(
    found: Mapping[str, Any], title: str, chosen: Sequence[int], shares: Sequence[str]
) -> Table:
    table = Table(
        title=markup.escape(plain(title)), title_justify="left", caption_justify="left", **LOOK
    )
    table.caption = (
        "AUC in %: chance that a hidden patch is more salient than a visible one, 50 for random "
        "masks; ±: half of the last one's 95 % interval over images (one run: nothing about other "
        f"seeds). Adjusted p below {Q}: u not as random masks, t not as the same masks shifted, i "
        "not as on other images"
    )
    table.add_column("hidden is...", no_wrap=True)
    for name in (*shares, "±"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = found["tables"]["saliency"]
    for source in dict.fromkeys(row["source"] for row in rows):
        own = {
            row["moment"]: row for row in rows if row["source"] == source and row["metric"] == "auc"
        }
        cells = [_auc(own[moment]) if moment in own else "-" for moment in chosen]
        last = own.get(chosen[-1])
        half = f"{50 * (last['high'] - last['low']):.1f}" if last and last["high"] else "-"
        table.add_row(markup.escape(plain(source)), *cells, half)
    return table


def _auc(row: Mapping[str, Any]) -> str:
    below = {
        mark: (row[f"q_{test}"] is not None and row[f"q_{test}"] < Q)
        for mark, test in (("u", "uniform"), ("t", "torus"), ("i", "shuffle"))
    }
    marks = "".join(mark for mark, low in below.items() if low)
    return f"{100 * row['value']:.1f} {marks:3}"


def _shapes(found: Mapping[str, Any], chosen: Sequence[int], shares: Sequence[str]) -> Table:
    table = Table(caption_justify="left", **LOOK)
    table.caption = (
        "random: expected of uniformly random masks. components: of visible patches; between "
        "images: share of patches that differ; between two draws: that over its expectation"
    )
    table.add_column("masks", no_wrap=True)
    for share in shares:
        table.add_column(share, justify="right", no_wrap=True)
    table.add_column("random", justify="right")
    tables = found["tables"]
    for name, label in SHAPES.items():
        rows = [row for row in tables["geometry"] if row["name"] == name]
        if any(row["value"] is not None for row in rows):
            own = {row["moment"]: row for row in rows}
            table.add_row(label, *_cells(own, chosen), _number(rows[0]["null"]))
    for name, label in DRIFTS.items():
        own = {row["moment"]: row for row in tables["drift"] if row["quantity"] == name}
        if own:
            null = next((row["null"] for row in own.values()), None)
            table.add_row(label, *_cells(own, chosen), _number(null))
    return table


def _cells(own: Mapping[int, Mapping[str, Any]], chosen: Sequence[int]) -> list[str]:
    return [_number(own[moment]["value"]) if moment in own else "-" for moment in chosen]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"


def _moments(moments: Sequence[Any]) -> list[int]:
    """At most five of them, evenly spread, first and last among them."""
    last = len(moments) - 1
    return sorted({round(last * part / 4) for part in range(5)})


def _grouped(alarms: Sequence[str]) -> Iterator[str]:
    """Alarms that differ in numbers only, once: the last, and how often."""
    kinds: dict[str, list[str]] = {}
    for alarm in alarms:
        kinds.setdefault(re.sub(r"[-+.\d]+", "", alarm), []).append(alarm)
    for same in kinds.values():
        often = f" ({len(same)} moments, first {same[0].partition(':')[0]})"
        yield f"{same[-1]}{often if len(same) > 1 else ''}"


def _texts(folder: Path, found: Mapping[str, Any], *, reused: bool) -> Iterator[str]:
    for row in found["tables"]["trends"]:
        if row["kind"] == "spearman" and row["value"] is not None:
            yield f"{row['of']}: Spearman {row['value']:+.2f} over {row['n']} moments of one run"
    for note in dict.fromkeys(
        f"{row['source']}: {row['note']}" for row in found["tables"]["saliency"] if row["note"]
    ):
        yield f"note  {note}"
    for note in found.get("notes", ()):
        yield f"note  {note}"
    if found["reference"] == "own":
        yield "difficulty and attention are those of the run's own final model"
    elif found["reference"]:
        yield f"difficulty and attention are those of {found['reference']}"
    for alarm in _grouped(found["alarms"]):
        yield f"alarm  {alarm}"
    if reused:
        yield f"this was found before; remove {folder} to study it again"
    yield f"found  {folder} (tables as CSV and JSON, figures)"
