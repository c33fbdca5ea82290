"""Rows of the saliency table: every source and metric at one moment, beside its three nulls."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from maskbench.analysis import agreement, nulls
from maskbench.analysis.agreement import Bools, Floats, Functional, Source
from maskbench.analysis.intervals import Interval, two_level
from maskbench.analysis.nulls import Null

HEADLINES = ("auc", "contrast")
"""What figures show: the first does not depend on the mask ratio, the second compares across."""
TESTS = ("uniform", "torus", "shuffle")


@dataclass(frozen=True)
class Row:
    """One metric of one source at one moment.

    Args:
        moment: Number of the moment.
        source: Name of the saliency map.
        metric: See ``agreement.MEANS``; empty where the source has no map at all.
        values: One per image of the set; NaN where it is undefined.
        interval: Mean over images with its 95 % interval.
        nulls: By name: ``uniform``, ``torus``, ``shuffle``; None where it says nothing.
        note: Why something is missing.
    """

    moment: int
    source: str
    metric: str
    values: Floats
    interval: Interval
    nulls: dict[str, Null | None]
    note: str = ""

    @property
    def undefined(self) -> int:
        """Images that have no value."""
        return int(np.isnan(self.values).sum())


def rows(moment: int, masks: Bools, sources: Iterable[Source], grid_rows: int) -> list[Row]:
    """All metrics of all sources at one moment.

    Args:
        moment: Its number.
        masks: (images, patches); the same number hidden in every image.
        sources: Of the same images and grid.
        grid_rows: Patch rows.
    """
    found = []
    for source in sources:
        found += _of_source(moment, masks, source, grid_rows)
    return found


def _of_source(moment: int, masks: Bools, source: Source, grid_rows: int) -> list[Row]:
    usable = source.usable
    count, constant = int(usable.sum()), int((source.known & ~usable).sum())
    note = _note(len(masks), int(source.known.sum()), constant)
    if not count:
        nothing = np.full(len(masks), np.nan)
        row = Row(moment, source.name, "", nothing, two_level(nothing[None]), {}, note)
        return [row]
    kept, maps = masks[usable], source.maps[usable]
    hidden = int(kept[0].sum())
    metrics = dict(agreement.functionals(maps, hidden))
    found = []
    for name, metric in metrics.items():
        given = {
            "uniform": nulls.uniform(metric, hidden),
            "torus": nulls.torus(metric, kept, grid_rows),
            "shuffle": nulls.shuffle(metric, kept),
        }
        found.append(
            _row((moment, source.name, name), metric, masks, usable, given=given, note=note)
        )
    if count > 1:
        sauc = agreement.shuffled_auc(maps, kept)
        given = {"uniform": nulls.uniform(sauc, hidden)}
        found.append(
            _row((moment, source.name, "sauc"), sauc, masks, usable, given=given, note=note)
        )
    if source.tokens is not None:
        found.append(_coverage(moment, masks, source, grid_rows))
    return found


def _coverage(moment: int, masks: Bools, source: Source, grid_rows: int) -> Row:
    """How much of an object or contour is hidden, where there is one."""
    assert source.tokens is not None
    metric, some = agreement.coverage(source.tokens & source.known[:, None])
    note = _note(len(masks), int(source.known.sum()), int((source.known & ~some).sum()), "empty")
    where = (moment, source.name, "coverage")
    if not some.any():
        nothing = np.full(len(masks), np.nan)
        return Row(*where, nothing, two_level(nothing[None]), {}, note)
    kept = masks[some]
    given = {
        "uniform": nulls.uniform(metric, int(kept[0].sum())),
        "torus": nulls.torus(metric, kept, grid_rows),
        "shuffle": nulls.shuffle(metric, kept),
    }
    return _row(where, metric, masks, some, given=given, note=note)


def _row(
    where: tuple[int, str, str],
    metric: Functional,
    masks: Bools,
    usable: Bools,
    *,
    given: dict[str, Null],
    note: str,
) -> Row:
    values = np.full(len(usable), np.nan)
    values[usable] = metric.of(masks[usable])
    neutral = agreement.NEUTRAL.get(where[2], given["uniform"].mean)
    return Row(*where, values, two_level(values[None], neutral), dict(given), note)


def _note(images: int, known: int, unusable: int, what: str = "constant") -> str:
    """What is missing, in words."""
    parts = []
    if known < images:
        parts.append(f"{images - known} of {images} images have no such map")
    if unusable:
        full = " or full" if what == "empty" else ""
        parts.append(f"{unusable} of {known} are {what}{full} and left out")
    return "; ".join(parts)


def adjusted(table: Sequence[Row]) -> list[dict[str, float | None]]:
    """p-values of every row by null (``p_uniform``...), and adjusted over the table (``q_``...)."""
    found: list[dict[str, float | None]] = [{} for _ in table]
    for test in TESTS:
        p: list[float | None] = []
        for row in table:
            null, mean = row.nulls.get(test), row.interval.mean
            p.append(None if null is None or mean is None else null.p(mean))
        for row_p, one, many in zip(found, p, nulls.adjusted(p), strict=True):
            row_p[f"p_{test}"], row_p[f"q_{test}"] = one, many
    return found
