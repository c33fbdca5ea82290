"""Rows of the saliency table: every source and metric at one moment, beside its three nulls."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

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


class Prepared:
    """A source whose metrics are made once for all moments.

    Args:
        source: Of a fixed set of images.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.usable = source, source.usable
        self._made: dict[int, dict[str, Functional]] = {}

    def metrics(self, hidden: int) -> dict[str, Functional]:
        """Every metric on the usable images, for masks that hide so many patches."""
        if hidden not in self._made:
            maps = self.source.maps[self.usable]
            self._made[hidden] = dict(agreement.functionals(maps, hidden))
        return self._made[hidden]

    @cached_property
    def coverage(self) -> tuple[Functional, Bools] | None:
        """Share of object patches, and the images that have some."""
        tokens = self.source.tokens
        return None if tokens is None else agreement.coverage(tokens & self.source.known[:, None])


@dataclass(frozen=True)
class _Masks:
    """Masks of some images, with what their nulls need made once."""

    flat: Bools
    rows: int

    @cached_property
    def spectrum(self) -> Floats:
        """Of their shapes."""
        return agreement.power(self.flat, self.rows)

    @cached_property
    def scatter(self) -> Floats:
        """Of their patches over images."""
        return agreement.scatter(self.flat)

    def nulls(self, metric: Functional) -> dict[str, Null | None]:
        """All three."""
        return {
            "uniform": nulls.uniform(metric, int(self.flat[0].sum())),
            "torus": nulls.torus(metric, self.flat, self.rows, self.spectrum),
            "shuffle": nulls.shuffle(metric, self.flat, self.scatter),
        }


def rows(moment: int, masks: Bools, sources: Iterable[Prepared], grid_rows: int) -> list[Row]:
    """All metrics of all sources at one moment.

    Args:
        moment: Its number.
        masks: (images, patches); the same number hidden in every image.
        sources: Of the same images and grid.
        grid_rows: Patch rows.
    """
    whole = _Masks(masks, grid_rows)
    found = []
    for source in sources:
        found += _of_source(moment, whole, source)
    return found


def _of_source(moment: int, whole: _Masks, prepared: Prepared) -> list[Row]:
    source, usable, masks = prepared.source, prepared.usable, whole.flat
    count, constant = int(usable.sum()), int((source.known & ~usable).sum())
    note = _note(len(masks), int(source.known.sum()), constant)
    if not count:
        nothing = np.full(len(masks), np.nan)
        row = Row(moment, source.name, "", nothing, two_level(nothing[None]), {}, note)
        return [row]
    kept = whole if usable.all() else _Masks(masks[usable], whole.rows)
    hidden = int(masks[0].sum())
    found = []
    for name, metric in prepared.metrics(hidden).items():
        where = (moment, source.name, name)
        found.append(_row(where, metric, masks, usable, given=kept.nulls(metric), note=note))
    if count > 1:
        sauc = agreement.shuffled_auc(source.maps[usable], kept.flat)
        # negatives are other images' masks, so masks on each other's images give 1/2 exactly
        apart = nulls.shuffle(sauc, kept.flat, kept.scatter).deviation
        given: dict[str, Null | None] = {"shuffle": Null(0.5, apart)}
        where = (moment, source.name, "sauc")
        found.append(_row(where, sauc, masks, usable, given=given, note=note))
    if prepared.coverage is not None:
        found.append(_coverage(moment, whole, source, *prepared.coverage))
    return found


def _coverage(moment: int, whole: _Masks, source: Source, metric: Functional, some: Bools) -> Row:
    """How much of an object or contour is hidden, where there is one."""
    masks = whole.flat
    note = _note(len(masks), int(source.known.sum()), int((source.known & ~some).sum()), "empty")
    where = (moment, source.name, "coverage")
    if not some.any():
        nothing = np.full(len(masks), np.nan)
        return Row(*where, nothing, two_level(nothing[None]), {}, note)
    kept = _Masks(masks[some], whole.rows)
    return _row(where, metric, masks, some, given=kept.nulls(metric), note=note)


def _row(
    where: tuple[int, str, str],
    metric: Functional,
    masks: Bools,
    usable: Bools,
    *,
    given: dict[str, Null | None],
    note: str,
) -> Row:
    values = np.full(len(usable), np.nan)
    values[usable] = metric.of(masks[usable])
    return Row(*where, values, two_level(values[None]), given, note)


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
