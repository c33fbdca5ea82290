"""A benchmark's figure: masks beside curves, few-shot curves, or accuracy over the budget."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskbench import figures as looks
from maskbench.analysis.agreement import NEUTRAL
from maskbench.analysis.intervals import Interval, two_level
from maskbench.errors import StoreError
from maskbench.figures.analysis import SHAPES
from maskbench.figures.beside import beside
from maskbench.figures.curves import Curve, few_shot_figure
from maskbench.figures.panels import Panel, panels
from maskbench.figures.picture import as_bytes
from maskbench.report.frame import TRAINED
from maskbench.reproduce.reading import Bench, Done
from maskbench.reproduce.schema import AT, Point
from maskbench.statistics import FOR_INTERVAL

KINDS = ("svg", "png")


def figures(bench: Bench) -> dict[str, bytes]:
    """The figure as files, by kind; empty where no run has what it would show."""
    asked = bench.asked.figure
    if asked.few_shot:
        figure = _few_shot(bench)
    elif asked.progress:
        figure = _panels(bench, _progress(bench))
    else:
        figure = _panels(bench, [_course(bench, quantity) for quantity in asked.panels])
    return {} if figure is None else {kind: as_bytes(figure, kind) for kind in KINDS}


def _key(bench: Bench) -> list[tuple[str, looks.Look]]:
    return [(arm, looks.look(rank)) for rank, arm in enumerate(bench.asked.arms)]


def _done(bench: Bench, arm: str) -> list[Done]:
    return [run for _, run in bench.of(arm) if isinstance(run, Done)]


def _panels(bench: Bench, drawn: Sequence[Panel]) -> Any:
    """Panels, with masks beside them where they are asked for and known."""
    if not any(panel.curves for panel in drawn):
        return None
    key = _key(bench)
    shown = [(point, _shown(bench, point)) for point in bench.asked.figure.masks]
    known = [(_title(bench, point), found) for point, found in shown if found is not None]
    if not known:
        return panels(drawn, key)
    images = known[0][1][0]
    return beside(images, [(told, masks) for told, (_, masks) in known], drawn, key)


def _title(bench: Bench, point: Point) -> str:
    """What tells these masks from the others that are shown."""
    others = bench.asked.figure.masks
    words = [point.arm] if len({other.arm for other in others}) > 1 else []
    if len({other.at for other in others}) > 1:
        words.append(point.at)
    return "\n".join(words or [point.arm])


def _shown(bench: Bench, point: Point) -> tuple[Any, Any] | None:
    """The first images of an arm's first run, and their masks at a moment; None where unknown."""
    for run in _done(bench, point.arm)[:1]:
        number = run.moment(AT[point.at])
        try:
            tape = run.tape
        except StoreError:
            return None
        if number is not None and number < len(tape.hidden):
            count = len(tape.shown)
            return tape.shown, tape.hidden[number, :count]
    return None


def _course(bench: Bench, quantity: str) -> Panel:
    """A quantity of the masks over the budget: mean over seeds (and images) with its interval."""
    curves = []
    for arm, look in _key(bench):
        runs = _done(bench, arm)
        moments = runs[0].study["moments"] if runs and runs[0].study else []
        x, y, band = [], [], []
        for share in (moment["share"] for moment in moments):
            found = bench.reading(quantity, (arm, share))
            interval = two_level(found.values) if found.values.size else None
            if interval is not None and interval.mean is not None:
                x.append(share)
                y.append(interval.mean)
                band.append(interval)
        if x:
            whole = _band(band)
            curves.append(Curve(arm, look, x, y, whole))
    metric, of, source = quantity.partition(" of ")
    title = SHAPES.get(quantity, quantity.replace("_", " "))
    if of:
        title = f"{metric.upper() if metric == 'auc' else metric}: {source}"
    return Panel(title, curves, neutral=NEUTRAL.get(metric) if of else None)


def _few_shot(bench: Bench) -> Any:
    """Accuracy over labelled images per class; None where the data have no labels."""
    curves, classes = [], 0
    for arm, look in _key(bench):
        scores = [run.run.scores.get(TRAINED, {}) for run in _done(bench, arm)]
        shots = sorted(set.intersection(*map(set, scores))) if scores else []
        if shots:
            table = np.array([[one[n] for n in shots] for one in scores])
            curves.append(_curve(arm, look, shots, table))
            classes = _done(bench, arm)[0].run.classes
    return few_shot_figure(curves, 1 / classes) if curves else None


def _progress(bench: Bench) -> list[Panel]:
    """Accuracy over the budget, a panel per number of labelled images."""
    found: dict[int, list[Curve]] = {}
    for arm, look in _key(bench):
        courses = [run.run.moments for run in _done(bench, arm)]
        count = min((len(moments) for moments in courses), default=0)
        if not count:
            continue
        shots = set.intersection(*(set(m.scores) for moments in courses for m in moments))
        shares = [moment.images / courses[0][-1].images for moment in courses[0][:count]]
        for n in sorted(shots):
            table = np.array([[100 * m.scores[n] for m in moments[:count]] for moments in courses])
            found.setdefault(n, []).append(_curve(arm, look, shares, table))
    return [Panel(f"{n}-shot accuracy, %", curves) for n, curves in sorted(found.items())]


def _curve(label: str, look: looks.Look, x: Sequence[float], table: NDArray[np.float64]) -> Curve:
    """Means over seeds, (seeds, points), with t-intervals from three seeds on."""
    every = [two_level(column[:, None]) for column in table.T]
    return Curve(label, look, list(x), table.mean(axis=0).tolist(), _band(every))


def _band(every: Sequence[Interval]) -> list[tuple[float, float]]:
    """Ends of all intervals from three seeds on; nothing where one has none."""
    found = [
        (one.low, one.high)
        for one in every
        if one.low is not None and one.high is not None and one.seeds >= FOR_INTERVAL
    ]
    return found if len(found) == len(every) else []
