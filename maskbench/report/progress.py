"""Accuracy over epochs, from probes during training."""

from functools import partial
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from maskbench.figures import curves
from maskbench.report.drawings import shown
from maskbench.report.frame import Run
from maskbench.report.means import Mean, mean
from maskbench.report.pictures import look
from maskbench.report.views import Entry, Group
from maskbench.report.words import epochs, share

Course = list[tuple[float, Mean]]
"""Epochs and accuracy, moment by moment."""
APART = 0.01 + 1e-9
"""Of the budget, at most, between probes of two seeds at the same moment; and a rounding error."""


def over_epochs(group: Group, name: str) -> dict[str, Any] | None:
    """Accuracy at the largest common number of labelled images over the epochs seen.

    Args:
        group: Runs that may be compared.
        name: Of the picture.

    Returns:
        ``svg``, ``picture``, ``shots`` and ``rows`` of texts, one per strategy and moment; None
        where no run was probed during training.
    """
    shots = max(group.shots, default=None)
    if shots is None:
        return None
    lines, rows, ends = [], [], []
    for rank, entry in enumerate(group.entries):
        found = course(entry, shots)
        if len(found) < 2:
            continue
        means = [one for _, one in found]
        band = [one.band for one in means] if means[0].half is not None else []
        x, y = [when for when, _ in found], [one.value for one in means]
        lines.append(curves.Curve(entry.label, look(group, rank), x, y, band))
        rows += [_row(entry.label, when, one) for when, one in found]
        ends.append(f"{entry.label} {share(means[0])} % at {x[0]:.3g}, {share(means[-1])} % at "
                    f"{x[-1]:.3g} epochs (n = {means[-1].n})")  # fmt: skip
    if not lines:
        return None
    label = f"Accuracy at {shots} labelled images per class over epochs: {'; '.join(ends)}."
    draw = partial(curves.over_epochs, lines, f"{shots}-shot accuracy, %")
    return {**shown(name, draw, label), "shots": shots, "rows": rows}


def course(entry: Entry, shots: int) -> Course:
    """Mean epochs and accuracy at the moments that all its runs probed during training share.

    Moments are matched by the share of the run's own images: under a budget of seconds, seeds see
    different numbers of images. One of the first run and one of another are the same if they are at
    most ``APART`` of the budget from each other, and nearest; each is used once.
    """
    tables = [_moments(run, shots) for run in entry.runs if len(run.moments) > 1]
    if not tables:
        return []
    first = tables[0]
    matched = [_matched(first[:, 0], other[:, 0]) for other in tables]
    found = []
    for moment in sorted(set.intersection(*(set(pairs) for pairs in matched))):
        rows = [other[pairs[moment]] for other, pairs in zip(tables, matched, strict=True)]
        accuracy = mean(float(row[2]) for row in rows)
        if accuracy:
            found.append((sum(float(row[1]) for row in rows) / len(rows), accuracy))
    return found


def _moments(run: Run, shots: int) -> NDArray[np.float64]:
    """Share of the run's images, epochs and accuracy, moment by moment: (moments, 3)."""
    last = run.moments[-1].images
    rows = [
        (moment.images / last, epochs(run, moment.images), moment.scores[shots])
        for moment in run.moments
        if shots in moment.scores
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _matched(one: NDArray[np.float64], other: NDArray[np.float64]) -> dict[int, int]:
    """Which of the other shares is which of the one's: the least sum of squared gaps.

    Squares keep the order: of two pairs, the crossed ones have the larger sum. A gap of more than
    ``APART`` costs no more than one of ``APART``, and is no match.
    """
    gaps = np.abs(one[:, None] - other)
    pairs = zip(*scipy.optimize.linear_sum_assignment(np.minimum(gaps, APART) ** 2), strict=True)
    return {int(i): int(j) for i, j in pairs if gaps[i, j] <= APART}


def _row(label: str, when: float, one: Mean) -> dict[str, str]:
    return {"strategy": label, "epochs": f"{when:.3g}", "accuracy": share(one), "n": str(one.n)}
