"""Several seeds' studies of one strategy as rows: means, with intervals that say what they cover.

Numbers per image have a two-level interval (seeds, then images: ``analysis.intervals``); numbers of
a whole set of masks have a t-interval over seeds. One seed alone keeps its interval over images,
which says nothing of other seeds; every row says which it is.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from maskbench.analysis import drift, saliency
from maskbench.analysis.agreement import NEUTRAL
from maskbench.analysis.intervals import Interval, two_level, two_levels
from maskbench.report.study_file import Effect, Found, Quantity

Rows = list[dict[str, Any]]
BOTH, SEEDS, IMAGES = "seeds and images", "seeds", "images"
NO_MEAN = {"chi2_p"}
"""Quantities whose mean over seeds says nothing."""
COURSES = ("moran", "low_frequency")
GAPS = ("difficulty gap", "difficulty frozen gap")
AT_ONCE = 2**19
"""Numbers of images whose means are taken together."""


def tables(found: Sequence[Found]) -> dict[str, Rows]:
    """All rows of one strategy.

    Args:
        found: A study per seed; the same images, grid and number of moments.

    Returns:
        By table: ``saliency``, ``effects``, ``geometry``, ``drift``, ``trends``.
    """
    return {
        "saliency": list(_saliency(found)),
        "effects": list(_effects(found)),
        "geometry": _quantities(found, "geometry"),
        "drift": _quantities(found, "drift"),
        "trends": [*_slopes(found), *_courses(found), *_following(found)],
    }


def _where(found: Sequence[Found], moment: int) -> dict[str, Any]:
    return {"moment": moment, "share": float(np.mean([one.shares[moment] for one in found]))}


def _interval(it: Interval, over: str) -> dict[str, Any]:
    """A mean, its ends, and what they cover."""
    known = it.low is not None
    told = {"value": it.mean, "low": it.low, "high": it.high, "interval": over if known else None}
    return {**told, "seeds": it.seeds, "images": it.images}


def _saliency(found: Sequence[Found]) -> Iterator[dict[str, Any]]:
    """Every moment, source and metric over the seeds that have it."""
    for key, own, mean in _means(found):
        rows = [one.saliency[key][0] for one in own]
        moment, source, metric = key
        yield {
            **_where(found, moment),
            "source": source,
            "metric": metric,
            **_interval(mean, BOTH if mean.seeds > 1 else IMAGES),
            **_nulls(rows),
            "p": mean.p if metric in NEUTRAL else None,
            "note": "; ".join(dict.fromkeys(row.note for row in rows if row.note)),
        }


Key = tuple[int, str, str]


def _means(found: Sequence[Found]) -> Iterator[tuple[Key, Sequence[Found], Interval]]:
    """The rows in their order with the studies that have them; some at once, as many as fit."""
    keys = dict.fromkeys(key for one in found for key in one.saliency)
    most = max(1, AT_ONCE // (len(found) * found[0].document.images))
    alike = groupby(keys, lambda key: tuple(one for one in found if key in one.saliency))
    for own, run in ((own, list(run)) for own, run in alike):
        for some in (run[first : first + most] for first in range(0, len(run), most)):
            stacked = np.stack([[one.saliency[key][1] for one in own] for key in some])
            neutral = [NEUTRAL.get(metric, 0.0) for _, _, metric in some]
            for key, mean in zip(some, two_levels(stacked, neutral), strict=True):
                yield key, own, mean


def _nulls(rows: Sequence[Any]) -> dict[str, float | None]:
    """What the nulls say of a mean over as many seeds, each with masks of its own."""
    told: dict[str, float | None] = {}
    for test in saliency.TESTS:
        low, high = (f"{test}_low", f"{test}_high")
        triples = [(getattr(r, test), getattr(r, low), getattr(r, high)) for r in rows]
        told |= dict(zip((test, low, high), _null(triples), strict=True))
    return told


def _null(triples: Sequence[Sequence[float | None]]) -> tuple[float | None, ...]:
    """Mean and band of the mean over independent seeds, from each seed's own."""
    means = [mean for mean, _, _ in triples if mean is not None]
    if not means or len(means) < len(triples):
        return None, None, None
    mean, count = sum(means) / len(means), len(means)
    whole = [
        (m - low, high - m)
        for m, low, high in triples
        if m is not None and low is not None and high is not None
    ]
    if len(whole) < count:
        return mean, None, None
    below, above = (math.hypot(*away) / count for away in zip(*whole, strict=True))
    return mean, mean - below, mean + above


def _quantities(found: Sequence[Found], table: str) -> Rows:
    """Numbers of whole sets of masks: means over seeds."""
    known: dict[tuple[int, str], list[Quantity]] = {}
    for one in found:
        for row in getattr(one.document.tables, table):
            if row.name not in NO_MEAN:
                known.setdefault((row.moment, row.name), []).append(row)
    images = found[0].document.images
    name = "name" if table == "geometry" else "quantity"
    rows: Rows = []
    for (moment, quantity), seeds in known.items():
        triples = [(row.null, row.null_low, row.null_high) for row in seeds]
        mean, low, high = _null(triples)
        told = {**_where(found, moment), name: quantity, **_over_seeds(seeds), "images": images}
        if table == "geometry":
            note = "; ".join(dict.fromkeys(row.note for row in seeds if row.note))
            told |= {"null": mean, "null_low": low, "null_high": high, "note": note}
        else:
            told |= {"null": mean}
        rows.append(told)
    return rows


def _effects(found: Sequence[Found]) -> Iterator[dict[str, Any]]:
    """Coefficients of the conditional logit: means over seeds."""
    known: dict[tuple[int, str], list[Effect]] = {}
    for one in found:
        for row in one.document.tables.effects:
            known.setdefault((row.moment, row.name), []).append(row)
    for (moment, name), seeds in known.items():
        own = [row for row in seeds if row.value is not None]
        p = own[0].p if len(own) == 1 and len(seeds) == 1 else _t([r.value or 0 for r in own]).p
        note = "; ".join(dict.fromkeys(row.note for row in seeds if row.note))
        told = {**_where(found, moment), "covariate": name, **_over_seeds(seeds)}
        yield {**told, "images": found[0].document.images, "p": p, "note": note}


def _over_seeds(seeds: Sequence[Quantity] | Sequence[Effect]) -> dict[str, Any]:
    """A mean with its t-interval; of one seed its own interval over images."""
    values = [row.value for row in seeds if row.value is not None]
    if len(values) == 1 and len(seeds) == 1:
        one = seeds[0]
        it = Interval(values[0], one.low, one.high, 1, 1)
        return _interval(it, IMAGES)
    return _interval(_t(values), SEEDS)


def _t(values: Sequence[float]) -> Interval:
    """Mean over seeds with its t-interval."""
    return two_level(np.array(values, dtype=np.float64).reshape(-1, 1))


def _trend(of: str, kind: str, it: Interval, over: str, **more: Any) -> dict[str, Any]:
    told = {"of": of, "kind": kind, "seed": None, **_interval(it, over), "p": it.p}
    return {**told, **more}


def _slopes(found: Sequence[Found]) -> Iterator[dict[str, Any]]:
    """Least-squares change of each image's metric over the whole budget; Page's test of AUC."""
    moments = len(found[0].shares)
    sources = dict.fromkeys(row.source for one in found for row in one.document.tables.saliency)
    for source in sources:
        for metric in saliency.HEADLINES:
            keys = [(moment, source, metric) for moment in range(moments)]
            whole = [one for one in found if all(key in one.saliency for key in keys)]
            whole = [one for one in whole if np.ptp(one.shares) > 0]
            if not whole:
                continue
            courses = [np.stack([one.saliency[key][1] for key in keys]) for one in whole]
            rise = [_weights(o.shares) @ c for o, c in zip(whole, courses, strict=True)]
            it = two_level(np.stack(rise))
            over = BOTH if it.seeds > 1 else IMAGES
            yield _trend(f"{metric}, {source}", "slope", it, over, moments=moments)
            if metric == "auc" and it.images and (found_p := _page(courses)):
                yield _paged(f"{metric}, {source}", it, found_p, moments)


def _weights(shares: Sequence[float]) -> NDArray[np.float64]:
    """``weights @ course`` is its least-squares slope."""
    centred = np.array(shares) - np.mean(shares)
    weights: NDArray[np.float64] = centred / (centred**2).sum()
    return weights


def _page(courses: Sequence[NDArray[np.float64]]) -> tuple[float, float] | None:
    """Page's L and its p-value for rising or falling, with twice the smaller one-sided p."""
    stacked = np.stack(courses)
    images = np.isfinite(stacked).all(axis=(0, 1))
    means = stacked[:, :, images].mean(axis=2)
    rising, falling = drift.page(means), drift.page(-means)
    if rising is None or falling is None:
        return None
    ranks = scipy.stats.rankdata(means, axis=1)
    return float((ranks @ np.arange(1, ranks.shape[1] + 1)).sum()), min(
        1.0, 2 * min(rising, falling)
    )


def _paged(of: str, it: Interval, found: tuple[float, float], moments: int) -> dict[str, Any]:
    nothing = Interval(found[0], None, None, it.seeds, it.images)
    return {**_trend(of, "page, two-sided", nothing, "", moments=moments), "p": found[1]}


def _course(one: Found, table: str, name: str) -> Mapping[int, float]:
    """A quantity by moment, where it is known."""
    rows = getattr(one.document.tables, table)
    return {row.moment: row.value for row in rows if row.name == name and row.value is not None}


def _courses(found: Sequence[Found]) -> Iterator[dict[str, Any]]:
    """Slopes of quantities of whole sets of masks: over seeds."""
    moments, images = len(found[0].shares), found[0].document.images
    for name in COURSES:
        slopes = []
        for one in found:
            course = _course(one, "geometry", name)
            if len(course) == moments:
                slope = drift.slope(one.shares, [course[moment] for moment in range(moments)])
                slopes += [] if slope is None else [slope]
        if slopes:
            yield _trend(name, "slope", _t(slopes), SEEDS, moments=moments, images=images)


def _following(found: Sequence[Found]) -> Iterator[dict[str, Any]]:
    """How the difficulty follows lambda: Spearman's correlation per seed, and its mean."""
    images = found[0].document.images
    for name in GAPS:
        rhos = []
        for one in found:
            schedule, gaps = _course(one, "drift", "lambda"), _course(one, "drift", name)
            both = sorted(set(schedule) & set(gaps))
            if not both:
                continue
            follow = drift.following([schedule[m] for m in both], [gaps[m] for m in both])
            if follow.rho is not None:
                rhos.append(follow.rho)
            it = Interval(follow.rho, None, None, 1, images)
            yield _trend(
                f"{name} and lambda", "spearman", it, "", seed=one.run.seed, moments=len(both)
            )
        if len(rhos) > 1:
            it = _t(rhos)
            more = {"moments": len(found[0].shares), "images": images}
            yield _trend(f"{name} and lambda", "spearman, mean", it, SEEDS, **more)
