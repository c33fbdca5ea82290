"""Tables of what probes found."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import markup
from rich.table import Table

from maskbench.results import mean_accuracy
from maskbench.trust import plain

SHOTS = (1, 2, 4, 8, 16)
FEATURES = {
    "patchmean": "trained encoder",
    "cls": "  its CLS",
    "cls+patchmean": "  both",
    "supervised": "supervised encoder",
    "untrained": "untrained encoder",
    "pixels": "raw pixels",
}
CURVES = ("logreg", "ncm", "knn1", "knn20")


def percent(value: float | None) -> str:
    """0.123 as 12.3; a dash for nothing."""
    return "-" if value is None else f"{100 * value:.1f}"


def accuracies(
    rows: Sequence[Mapping[str, Any]], title: str, facts: Mapping[str, Any] | None = None
) -> Table:
    """Few-shot curves and nearest neighbours of an encoder and its controls, in percent.

    Args:
        rows: Of probes and controls.
        title: Above the table.
        facts: A record's ``probing``: which layer was chosen on which classes.
    """
    known = [dict(row) for row in rows if row["probe"] in CURVES]
    draws = len({row["draw"] for row in known if (row["shots"] or 0) > 1})
    classes = next((row["classes"] for row in known if row["feature"] == "patchmean"), None)
    table = Table(title=markup.escape(plain(title)), title_justify="left", caption_justify="left")
    table.caption = f"% correct, n labelled images per class, draws: {draws} (n=1: all); one seed"
    table.add_column("features")
    shots = [n for n in SHOTS if any(row["shots"] == n for row in known)]
    for name in [*(f"n={n}" for n in shots), "1-NN", "20-NN"]:
        table.add_column(name, justify="right")

    def add(label: str, feature: str, style: str | None = None) -> None:
        """A line, if there is anything."""
        own = [row for row in known if row["feature"] == feature]
        if own:
            cells = [percent(mean_accuracy(own, "logreg", n, feature)) for n in shots]
            cells += [percent(mean_accuracy(own, f"knn{k}", None, feature)) for k in (1, 20)]
            table.add_row(label, *cells, style=style)

    for feature, label in FEATURES.items():
        add(label, feature, "bold" if feature == "patchmean" else None)
    if classes:
        table.add_row("chance", *[percent(1 / classes)] * (len(shots) + 2), style="dim")
    held = len((facts or {}).get("development_classes") or ())
    if classes and held:
        table.add_section()
        block, left = (facts or {}).get("best_layer"), f"{classes - held} classes"
        best = next((row for row in known if row["feature"] == "patchmean@best"), {})
        if str(best.get("layer")).endswith(f"-of-{block}"):
            add(f"last block*, {left}", "patchmean@last")
        else:
            add(f"block {block}*, {left}", "patchmean@best")
            add(f"last block, {left}", "patchmean@last")
        table.caption += f"\n* chosen from all blocks on {held} other classes"
    return table


def others(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lines for probes that are no curve: their full names and accuracies, mean over draws."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["probe"] not in CURVES and not row["probe"].startswith("logreg-C"):
            shots = f" n={row['shots']}" if row["shots"] else ""
            found.setdefault(f"{row['metric']}{shots}", []).append(row)
    return [
        {
            "probe": name,
            "% correct": percent(sum(row["accuracy"] for row in same) / len(same)),
            "draws": len(same),
            "labelled images": same[0]["n_train"],
        }
        for name, same in found.items()
    ]
