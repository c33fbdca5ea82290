"""One run's masks, studied: saliency, effects, geometry and drift at every moment, as tidy rows.

Everything here takes arrays and gives arrays and plain numbers; who calls it has made the masks and
the saliency maps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskbench.analysis import drift, effects, geometry, saliency
from maskbench.analysis.agreement import Bools, Floats, Source
from maskbench.analysis.alarms import alarms as alarms_of
from maskbench.analysis.geometry import Null, Quantity
from maskbench.analysis.intervals import two_level
from maskbench.analysis.nulls import SPREAD, adjusted

COVARIATES = ("spectral residual", "edges", "centre", "difficulty")
SOFT, UNSOFT = ("score_entropy", "soft_share_error"), "the strategy tells no keep-probabilities"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Moment:
    """Masks of a fixed set of images at one moment of training.

    Args:
        share: Of the budget, 0 to 1.
        step: Optimiser steps done.
        hidden: (images, rows, columns), True where a patch is hidden.
        again: A second draw for the same images; None if there was none.
        keep: Keep-probabilities, (images, patches); None where there are none.
        losses: Of the model as it was, under the masks and under random ones, (2, images).
        frozen: The same of a frozen reference model.
        schedule: The strategy's lambda; None where it has none.
    """

    share: float
    step: int
    hidden: Bools
    again: Bools | None = None
    keep: Floats | None = None
    losses: Floats | None = None
    frozen: Floats | None = None
    schedule: float | None = None

    @property
    def flat(self) -> Bools:
        """(images, patches)."""
        return self.hidden.reshape(len(self.hidden), -1)


@dataclass(frozen=True)
class Study:
    """What was found.

    Args:
        tables: Tidy rows by table: ``saliency``, ``effects``, ``geometry``, ``drift``, ``trends``.
        values: Metric of every image, (rows of the saliency table, images), NaN if undefined.
        alarms: Signs of collapse, in words, each with its moment.
        frequency: How often each patch is hidden, (moments, rows, columns).
        spectrum: Radii (cycles per patch), and power per moment and radius.
    """

    tables: dict[str, Rows]
    values: NDArray[np.float32]
    alarms: list[str]
    frequency: Floats
    spectrum: tuple[Floats, Floats]


def study(moments: Sequence[Moment], sources: Sequence[Source]) -> Study:
    """Study masks at several moments.

    Args:
        moments: In order; the same images and the same grid in all.
        sources: Saliency maps of these images on that grid.

    Raises:
        ValueError: Masks and maps do not fit together; says which.
    """
    _check(moments, sources)
    table, found, alarms = [], {"geometry": list[dict[str, Any]](), "effects": []}, []
    null, prepared = _Nulls(), [saliency.Prepared(source) for source in sources]
    for number, moment in enumerate(moments):
        where = {"moment": number, "step": moment.step, "share": moment.share}
        table += saliency.rows(number, moment.flat, prepared, moment.hidden.shape[1])
        quantities = geometry.describe(
            moment.hidden, again=moment.again, keep=moment.keep, null=null.of(moment.hidden)
        )
        if moment.keep is None:
            quantities += [
                Quantity(name, None, None, None, None, None, None, UNSOFT) for name in SOFT
            ]
        found["geometry"] += [{**where, **vars(quantity)} for quantity in quantities]
        for alarm in alarms_of(quantities, moment.share):
            alarms.append(f"at {100 * moment.share:.3g} % of the budget: {alarm}")
        found["effects"] += [{**where, **vars(one)} for one in _effects(moment, sources)]
    q = adjusted([row["p"] for row in found["effects"]])
    found["effects"] = [{**row, "q": one} for row, one in zip(found["effects"], q, strict=True)]
    values = np.stack([row.values for row in table]).astype(np.float32)
    tables = {
        "saliency": _saliency(table, moments),
        **found,
        "drift": _drift(moments),
        "trends": _trends(table, moments, found["geometry"]),
    }
    frequency = np.stack([geometry.frequency(moment.hidden) for moment in moments])
    return Study(tables, values, alarms, frequency, _spectrum(moments))


def _spectrum(moments: Sequence[Moment]) -> tuple[Floats, Floats]:
    """Radii, and power per moment and radius; nothing on a grid of one row or column."""
    if min(moments[0].hidden.shape[1:]) < 2:
        return np.zeros(0), np.zeros((len(moments), 0))
    found = [geometry.power(moment.hidden) for moment in moments]
    return found[0][0], np.stack([power for _, power, _ in found])


class _Nulls:
    """Null bands of geometry, made once per number of hidden patches."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, ...], Null] = {}

    def of(self, masks: Bools) -> Null:
        """The bands of sets like these."""
        images, rows, columns = masks.shape
        key = (rows, columns, int(masks[0].sum()), images)
        if key not in self._made:
            self._made[key] = geometry.uniform(*key, np.random.default_rng(key))
        return self._made[key]


def _check(moments: Sequence[Moment], sources: Sequence[Source]) -> None:
    shape = moments[0].hidden.shape
    for moment in moments:
        if moment.hidden.shape != shape:
            raise ValueError(
                f"masks of another grid or other images at step {moment.step}: "
                f"{moment.hidden.shape}, not {shape}"
            )
        if len(np.unique(moment.flat.sum(axis=1))) > 1:
            raise ValueError(f"masks at step {moment.step} do not all hide as many patches")
    expected = (shape[0], shape[1] * shape[2])
    for source in sources:
        if source.maps.shape != expected:
            raise ValueError(
                f"the maps of {source.name} are {source.maps.shape} (images, patches); the masks "
                f"are {expected}"
            )


def _saliency(table: Sequence[saliency.Row], moments: Sequence[Moment]) -> Rows:
    found = []
    for row, tests in zip(table, saliency.adjusted(table), strict=True):
        moment, interval = moments[row.moment], row.interval
        told: dict[str, Any] = {
            "moment": row.moment,
            "step": moment.step,
            "share": moment.share,
            "source": row.source,
            "metric": row.metric,
            "value": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "images": interval.images,
            "undefined": row.undefined,
        }
        for test in saliency.TESTS:
            null = row.nulls.get(test)
            low, high = null.band if null else (None, None)
            told |= {test: null.mean if null else None, f"{test}_low": low, f"{test}_high": high}
        found.append({**told, **tests, "note": row.note})
    return found


def _effects(moment: Moment, sources: Sequence[Source]) -> list[effects.Effect]:
    """Coefficients on the images in which all covariates are usable."""
    chosen = [source for source in sources if source.name in COVARIATES and source.usable.any()]
    if not chosen:
        return []
    usable = np.logical_and.reduce([source.usable for source in chosen])
    return effects.effects(moment.flat[usable], {s.name: s.maps[usable] for s in chosen})


def _drift(moments: Sequence[Moment]) -> Rows:
    found: Rows = []
    for number, moment in enumerate(moments):
        where = {"moment": number, "step": moment.step, "share": moment.share}

        def add(
            quantity: str,
            value: float | None,
            ends: tuple[float | None, float | None] = (None, None),
            null: float | None = None,
            where: dict[str, Any] = where,
        ) -> None:
            row = {"quantity": quantity, "value": value, "low": ends[0], "high": ends[1]}
            found.append({**where, **row, "null": null})

        if moment.schedule is not None:
            add("lambda", moment.schedule)
        for name, losses in (("gap", moment.losses), ("frozen gap", moment.frozen)):
            if losses is not None:
                value, error = drift.gap(losses)
                half = SPREAD * error if np.isfinite(error) else None
                ends = (None, None) if half is None else (value - half, value + half)
                add(f"difficulty {name}", value, ends, 0.0)
        if number:
            before = moments[number - 1]
            turned = two_level(drift.turnover(before.flat, moment.flat)[None])
            add("turnover", turned.mean, (turned.low, turned.high), 1.0)
            moved, null = drift.map_drift(moments[0].flat, moment.flat)
            add("map drift", moved, null=null)
    return found


def _trends(table: Sequence[saliency.Row], moments: Sequence[Moment], shapes: Rows) -> Rows:
    """Change over the whole budget, and how the difficulty follows lambda."""
    shares = [moment.share for moment in moments]
    found: Rows = []
    if len(moments) < 2 or np.ptp(shares) == 0:
        return found
    weights = np.array(shares) - np.mean(shares)
    weights = weights / (weights**2).sum()
    for source in dict.fromkeys(row.source for row in table):
        for metric in saliency.HEADLINES:
            rows = [row for row in table if (row.source, row.metric) == (source, metric)]
            if len(rows) == len(moments):
                rise = weights @ np.stack([row.values for row in rows])
                mean = two_level(rise[None])
                row = {"of": f"{metric}, {source}", "kind": "slope", "value": mean.mean}
                found.append({**row, "low": mean.low, "high": mean.high, "n": mean.images})
    for name in ("moran", "low_frequency"):
        course = [row["value"] for row in shapes if row["name"] == name]
        if len(course) == len(moments) and None not in course:
            row = {"of": name, "kind": "slope", "value": drift.slope(shares, course)}
            found.append({**row, "low": None, "high": None, "n": len(course)})
    schedule = [moment.schedule for moment in moments]
    for name in ("losses", "frozen"):
        losses = [getattr(moment, name) for moment in moments]
        known = [
            (factor, drift.gap(loss)[0])
            for factor, loss in zip(schedule, losses, strict=True)
            if factor is not None and loss is not None
        ]
        if known:
            follow = drift.following(*zip(*known, strict=True))
            label = "difficulty gap" if name == "losses" else "difficulty frozen gap"
            row = {"of": f"{label} and lambda", "kind": "spearman", "value": follow.rho}
            found.append({**row, "low": None, "high": None, "n": follow.moments})
    return found
