"""Accuracy over epochs, from probes during training."""

from functools import partial
from typing import Any

from maskbench.figures import curves
from maskbench.report.drawings import shown
from maskbench.report.frame import Run
from maskbench.report.means import Mean, mean
from maskbench.report.pictures import look
from maskbench.report.views import Entry, Group
from maskbench.report.words import epochs, share

Course = list[tuple[float, Mean]]
"""Epochs and accuracy, moment by moment."""


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

    Moments are matched by the share of the run's own images, to one percent: under a budget of
    seconds, seeds see different numbers of images.
    """
    tables = [_by_share(run, shots) for run in entry.runs if len(run.moments) > 1]
    shared = set.intersection(*(set(table) for table in tables)) if tables else set()
    found = []
    for moment in sorted(shared):
        when, what = zip(*(table[moment] for table in tables), strict=True)
        accuracy = mean(what)
        if accuracy:
            found.append((sum(when) / len(when), accuracy))
    return found


def _by_share(run: Run, shots: int) -> dict[int, tuple[float, float]]:
    """Percent of the run's images to its epochs and accuracy."""
    last = run.moments[-1].images
    return {
        round(100 * moment.images / last): (epochs(run, moment.images), moment.scores[shots])
        for moment in run.moments
        if shots in moment.scores
    }


def _row(label: str, when: float, one: Mean) -> dict[str, str]:
    return {"strategy": label, "epochs": f"{when:.3g}", "accuracy": share(one), "n": str(one.n)}
