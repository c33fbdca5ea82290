"""The page's figures: numbers of a group into curves and pictures of masks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskbench import figures
from maskbench.errors import StoreError
from maskbench.figures import curves
from maskbench.figures import few_shot as drawn_few_shot
from maskbench.figures import masks as drawn
from maskbench.report.drawings import shown
from maskbench.report.frame import PIXELS, TRAINED, UNTRAINED, Run
from maskbench.report.means import mean
from maskbench.report.player import Reel
from maskbench.report.reading import LeftOut
from maskbench.report.studied import Studied
from maskbench.report.tape import Tape, read_masks
from maskbench.report.views import Entry, Group
from maskbench.report.words import share, signed
from maskbench.results import MASKS, METRICS, each_metric

SHOWN = 6
MOST_POINTS = 300
Z = 1.96
CONTROLS = ((UNTRAINED, "untrained encoder"), (PIXELS, "raw pixels"))


def few_shot(group: Group, name: str) -> dict[str, Any] | None:
    """The few-shot figure with its data table; None without probes.

    Args:
        group: Runs that may be compared.
        name: Of the picture.

    Returns:
        ``svg``, ``picture``, ``shots``, ``rows`` (label; seeds and a text per shot) and ``chance``.
    """
    shots = group.shots
    if not shots:
        return None
    panels, table = [], []
    for rank, entry in enumerate(group.entries):
        probed = [run for run in entry.runs if all(n in run.scores.get(TRAINED, {}) for n in shots)]
        means = [mean(run.accuracy(TRAINED, n) for run in probed) for n in shots]
        table.append((entry.label, str(len(probed)), [share(one) for one in means]))
        if probed:
            panels.append(_strategy(entry.label, look(group, rank), probed, shots))
    against = 1 if group.reference and len(panels) > 1 else 0
    others = [_grey(panel.curve) for panel in panels[:against]]
    for rank, (feature, label) in enumerate(CONTROLS):
        values = [group.control(feature, n) for n in shots]
        table.append((label, "–", ["–" if v is None else f"{100 * v:.1f}" for v in values]))
        known = [(n, v) for n, v in zip(shots, values, strict=True) if v is not None]
        if known:
            x, y = [n for n, _ in known], [v for _, v in known]
            others.append(curves.Curve(label, figures.control(rank), x, y))
    chance = 1 / next(run.classes for run in group.runs if run.classes)
    ends = ", ".join(f"{label} {cells[-1]} %" for label, _, cells in table)
    told = f"Test accuracy at {shots[-1]} labelled images per class: {ends}, chance "
    draw = partial(drawn_few_shot.few_shot, panels[against:], others, chance)
    found = shown(name, draw, f"{told}{100 * chance:.1f} %.")
    rows = [(label, [seeds, *cells]) for label, seeds, cells in table]
    return {**found, "shots": shots, "rows": rows, "chance": chance}


def _strategy(
    label: str, style: figures.Look, runs: Sequence[Run], shots: Sequence[int]
) -> drawn_few_shot.Panel:
    scores = [[run.scores[TRAINED][n] for n in shots] for run in runs]
    means = [mean(column) for column in zip(*scores, strict=True)]
    known = [one for one in means if one]
    band = [one.band for one in known] if known[0].half is not None else []
    dots = [(float(n), y) for row in scores for n, y in zip(shots, row, strict=True)]
    curve = curves.Curve(label, style, list(shots), [one.value for one in known], band)
    return drawn_few_shot.Panel(curve, dots if len(runs) > 1 else [], f"n = {len(runs)}")


def _grey(curve: curves.Curve) -> curves.Curve:
    """Random masking where it is what others are seen against."""
    return replace(curve, look=figures.Look(figures.CONTROL, "o", "-", 1.6), band=())


def look(group: Group, rank: int) -> figures.Look:
    """Of a place in a group: the reference in the text's colour, then colours from the first on."""
    return figures.look(rank if group.reference else rank + 1)


def losses(group: Group, name: str) -> dict[str, Any] | None:
    """Training loss of one run per strategy, with its data table; None where none has any."""
    lines, table = [], []
    grid = np.linspace(0.125, 1, 8)
    for rank, entry in enumerate(group.entries):
        run = entry.runs[0]
        x, y = _loss(run)
        if not len(x):
            continue
        thin = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).astype(int))
        lines.append(
            curves.Curve(entry.label, look(group, rank), x[thin].tolist(), y[thin].tolist())
        )
        table.append((entry.label, [f"{value:.3f}" for value in np.interp(grid, x, y)]))
    if not lines:
        return None
    ends = ", ".join(f"{label} {cells[-1]}" for label, cells in table)
    told = f"Training loss over the budget. At its end: {ends}."
    figure = shown(name, partial(curves.loss, lines), told)
    moments = [f"{100 * moment:g} %" for moment in grid]
    return {**figure, "moments": moments, "table": table}


def _loss(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the budget and loss, wherever both are numbers."""
    budget = run.cost("images") or 1
    pairs = filter(None, map(_pair, run.metrics))
    points = sorted((images / budget, loss) for images, loss in pairs)
    found = np.array(points, dtype=np.float64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _has_loss(run: Run) -> bool:
    """Whether there is a curve to draw."""
    try:
        return any(map(_pair, each_metric(run.folder)))
    except StoreError:
        return False


def _pair(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """Images and loss of a line, if both are numbers."""
    images, loss = row.get("images"), row.get("loss")
    if isinstance(images, int | float) and isinstance(loss, int | float):
        return images, loss
    return None


def difficulty(group: Group, name: str) -> dict[str, Any] | None:
    """Loss under a strategy's masks relative to random ones, of one run per strategy."""
    lines, cells, images = [], {}, set()
    for rank, entry in enumerate(group.entries):
        found = entry.runs[0].record["masks"]
        rows = found.get("difficulty")
        if not rows:
            continue
        y = [row["gap"] for row in rows]
        errors = [row["error"] or 0.0 for row in rows]  # of one image none is known
        band = [(g - Z * error, g + Z * error) for g, error in zip(y, errors, strict=True)]
        lines.append(curves.Curve(entry.label, look(group, rank), found["moments"], y, band))
        cells[entry.label] = dict(zip(found["moments"], map(signed, y), strict=True))
        images.add(found.get("images"))
    if not lines:
        return None
    moments = sorted({moment for own in cells.values() for moment in own})
    table = [(label, [own.get(moment, "–") for moment in moments]) for label, own in cells.items()]
    ends = ", ".join(f"{label} {list(own.values())[-1]} %" for label, own in cells.items())
    told = f"Difficulty gap over the budget. At its end: {ends}."
    return {
        **shown(name, partial(curves.difficulty, lines), told),
        "moments": [f"{100 * moment:.3g} %" for moment in moments],
        "table": table,
        "images": images.pop() if len(images) == 1 else None,
    }


def unread(group: Group, entries: Sequence[Entry]) -> list[LeftOut]:
    """Files that figures need and that are missing or damaged; nothing is drawn to know them.

    Args:
        group: Runs that may be compared.
        entries: The strategies of it that are shown.
    """
    missing = [problem for entry in entries for problem in _tape(entry)[2]]
    for entry in group.entries:
        run = entry.runs[0]
        if not _has_loss(run):
            missing.append(LeftOut(run.id, "missing file", f"no loss curve: no readable {METRICS}"))
    return missing


def reels(group: Group, entries: Sequence[Entry], studied: Studied) -> list[Reel]:
    """The masks of one run per strategy: of the lowest seed that has any.

    Args:
        group: Runs that may be compared.
        entries: The strategies of it that are shown.
        studied: What is known of their masks.
    """
    studies = {one.run.key: one for _, _, own in studied.strategies for one in own}
    found = []
    for entry in entries:
        run, tape, _ = _tape(entry)
        if run and tape:
            style = look(group, list(group.entries).index(entry))
            found.append(Reel(entry.label, style, run, tape, studies.get(run.key)))
    return found


def masks(found: Sequence[Reel]) -> dict[str, Any] | None:
    """Masks of the same images over training, and how often each patch is hidden.

    Args:
        found: One run per strategy.
    """
    if not found:
        return None
    centre = float(np.mean([reel.tape.hidden.mean() for reel in found]))
    maps = [reel.tape.hidden[-1].mean(axis=0) for reel in found]
    span = drawn.reach(maps, centre)
    panels = [_panel(reel, (centre, span)) for reel in found]
    low, high = max(0.0, centre - span), min(1.0, centre + span)
    scale = {"low": low, "middle": centre, "high": high}
    images = {len(reel.tape.positions) for reel in found}
    bar = drawn.scale_bar(low, high, centre, span)
    shares = sorted({share for reel in found for share in reel.shares})
    rows = [row for reel in found for row in _rows(reel)]
    return {
        "panels": panels,
        "moments": [f"{100 * share:.3g} %" for share in shares],
        "rows": [(name, [cells.get(share, "–") for share in shares]) for name, cells in rows],
        "scale": scale,
        "bar": bar,
        "images": max(images),
    }


def _tape(entry: Entry) -> tuple[Run | None, Tape | None, list[LeftOut]]:
    """The masks of the lowest seed that has any."""
    problems: list[LeftOut] = []
    for run in entry.runs:
        if not run.record["masks"]:
            continue
        try:
            return run, read_masks(run.folder), problems
        except StoreError:
            why = f"no pictures of its masks: {MASKS} is missing or damaged"
            problems.append(LeftOut(run.id, "missing file", why))
    return None, None, problems


def _moments(reel: Reel) -> list[str]:
    return [f"{100 * share:.3g} %" for share in reel.shares]


def _panel(reel: Reel, colours: tuple[float, float]) -> dict[str, Any]:
    """One strategy's pictures."""
    tape = reel.tape
    shown = tape.shown[:SHOWN]
    strips = drawn.strips(shown, tape.hidden[:, : len(shown)])
    frequency = tape.hidden[-1].mean(axis=0)
    return {
        "label": reel.label,
        "seed": reel.run.seed,
        "shown": len(shown),
        "strips": list(zip(["image", *_moments(reel)], strips, strict=True)),
        "map": drawn.frequency_map(frequency, *colours),
        "lowest": frequency.min(),
        "highest": frequency.max(),
    }


def _rows(reel: Reel) -> list[tuple[str, dict[float, str]]]:
    """Spread and agreement of one strategy's masks by moment, in words."""
    numbers = [_numbers(hidden) for hidden in reel.tape.hidden]
    chance = float(reel.tape.hidden.mean())
    found = []
    for place, name in enumerate(("spread", f"agreement (independent: {chance:.2f})")):
        cells = [f"{pair[place]:.3f}" for pair in numbers]
        found.append((f"{reel.label}: {name}", dict(zip(reel.shares, cells, strict=True))))
    return found


def _numbers(hidden: NDArray[np.bool_]) -> tuple[float, float]:
    """Spread of the patches' frequencies, and agreement of two images' masks.

    Agreement is the mean share of an image's hidden patches that another image hides too; masks
    drawn independently and uniformly agree as much as patches are hidden.
    """
    flat = hidden.reshape(len(hidden), -1)
    often = flat.sum(axis=0, dtype=np.float64)
    spread = float((often / len(flat)).std())
    pairs = float(flat.sum()) * (len(flat) - 1)
    return spread, float((often * (often - 1)).sum()) / pairs if pairs else 1.0
