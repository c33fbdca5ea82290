"""Null bands of geometry: exact moments by enumeration, sizes by simulation; intervals; alarms."""

from dataclasses import replace
from itertools import combinations, combinations_with_replacement
from math import sqrt
from typing import Any

import numpy as np
import pytest
from scipy import stats

from maskbench.analysis import geometry
from maskbench.analysis.alarms import alarms
from maskbench.analysis.geometry import Null, Quantity, describe, random_masks, uniform
from maskbench.analysis.quantity import Masks
from maskbench.analysis.spread import spread

Z = stats.norm.ppf(0.975)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def known(masks: Masks, null: Null | None = None, **extra: Any) -> dict[str, Quantity]:
    images, rows, columns = masks.shape
    null = null or uniform(rows, columns, int(masks[0].sum()), images, rng(9))
    return {one.name: one for one in describe(masks, null=null, **extra)}


def every(rows: int, columns: int, hidden: int) -> Masks:
    """All masks of so many hidden patches."""
    patches = rows * columns
    chosen = np.array(list(combinations(range(patches), hidden)))
    masks = np.zeros((len(chosen), patches), dtype=bool)
    np.put_along_axis(masks, chosen, values=True, axis=1)
    return masks.reshape(-1, rows, columns)


@pytest.mark.parametrize(
    ("rows", "columns", "hidden"), [(3, 4, 5), (2, 5, 7), (1, 6, 2), (1, 3, 1)]
)
def test_bands_of_joins_are_exact(rows: int, columns: int, hidden: int) -> None:
    masks, null = every(rows, columns, hidden), uniform(rows, columns, hidden, 1, rng())
    empty = Null(rows, columns, hidden, 1, {})
    numbers = [{one.name: one.value for one in describe(each[None], null=empty)} for each in masks]
    checked = 0
    for name, (mean, low, high) in null.bands.items():
        if not name.startswith(("moran", "joins")):
            continue
        each = np.array([one[name] for one in numbers])
        assert each.mean() == pytest.approx(mean), name
        assert (high - low) / (2 * Z) == pytest.approx(each.std(), abs=1e-9), name
        checked += 1
    assert checked == 4 + (rows > 1) + (columns > 1)
    if rows > 1:
        ways = ("joins_horizontal", "joins_vertical")
        two = [np.array([one[way] for one in numbers], dtype=float) for way in ways]
        first_order = (two[0] / two[0].mean() - two[1] / two[1].mean()).std()
        assert np.log(null.bands["anisotropy"].high) / Z == pytest.approx(first_order)
    patches, joins = rows * columns, rows * (columns - 1) + (rows - 1) * columns
    mixed = 2 * joins * hidden * (patches - hidden) / (patches * (patches - 1))
    assert null.bands["joins_mixed"].null == pytest.approx(mixed)
    assert null.bands["moran"].null == pytest.approx(-1 / (patches - 1))


@pytest.mark.parametrize("hidden", [2, 3, 4])
def test_bands_of_pairs_are_exact(hidden: int) -> None:
    """All sets of three masks of a 2x3 grid; widths in those of chi2 with 5 d.o.f."""
    masks, null = every(2, 3, hidden).reshape(-1, 6), uniform(2, 3, hidden, 3, rng())
    triples = list(combinations_with_replacement(range(len(masks)), 3))
    orders = np.array([(6, 3, 1)[3 - len(set(each))] for each in triples])
    assert orders.sum() == len(masks) ** 3
    found = [spread(masks[list(each)]) for each in triples]
    low, high = stats.chi2.interval(0.95, 5)
    for name in ("chi2", "hamming", "iou_hidden", "iou_visible", "position_share", "entropy"):
        each = np.array([one[name].value for one in found], dtype=float)
        band, mean = null.bands[name], np.average(each, weights=orders)
        assert mean == pytest.approx(band.null), name
        if name != "entropy":  # whose spread is of second order
            deviation = sqrt(np.average((each - mean) ** 2, weights=orders))
            assert (band.high - band.low) / (high - low) * sqrt(10) == pytest.approx(deviation)


def test_numbers_of_the_literature() -> None:
    """Per mask, 14x14 and 8x8 with three of four patches hidden: mean and standard deviation."""
    expected: dict[tuple[int, int], dict[str, tuple[float, float | None]]] = {
        (14, 147): {"moran": (-0.005, 0.052), "joins_mixed": (137.2, 7.3),
                    "visible_components": (27.2, 3.3), "visible_largest": (6.8, 2.3),
                    "low_frequency": (0.062, 0.025), "hidden_components": (2.7, None),
                    "hidden_largest": (0.97, None), "joins_hidden": (204.4, None)},
        (8, 48): {"moran": (-0.016, 0.093), "joins_mixed": (42.7, 4.1),
                  "visible_components": (9.6, 1.9)},
    }  # fmt: skip
    for (side, hidden), table in expected.items():
        bands = uniform(side, side, hidden, 1, rng()).bands
        for name, (mean, sd) in table.items():
            # the book's means of components are of 600 masks: two standard errors and rounding
            off = 0.06 if sd is None else 0.001 + 2 * sd / sqrt(600)
            assert bands[name].null == pytest.approx(mean, abs=off), name
            width = (bands[name].high - bands[name].low) / (2 * Z)
            assert sd is None or width == pytest.approx(sd, rel=0.06), name
    two, eight = uniform(14, 14, 147, 2, rng()).bands, uniform(8, 8, 48, 2, rng()).bands
    assert two["hamming"].null == 0.375
    assert two["iou_hidden"].null == pytest.approx(0.600, abs=5e-4)
    assert two["iou_visible"].null == pytest.approx(0.144, abs=5e-4)
    assert eight["iou_visible"].null == pytest.approx(0.146, abs=5e-4)
    ends = stats.chi2.interval(0.95, 195)
    for name, sd in (("hamming", 0.027), ("iou_hidden", 0.023), ("iou_visible", 0.035)):
        width = (two[name].high - two[name].low) / (ends[1] - ends[0]) * sqrt(390)
        assert width == pytest.approx(sd, rel=0.03), name
    many = uniform(14, 14, 147, 512, rng()).bands
    assert many["position_share"].null == pytest.approx(1 / 512)
    assert many["entropy"].null == pytest.approx(1 - 1 / 3 / (2 * 512 * np.log(196)), abs=1e-6)
    radii, power, level = geometry.power(random_masks(14, 14, 147, 2000, rng(1)))
    assert level == pytest.approx(36.9, abs=0.05)
    assert power == pytest.approx(level, rel=0.05)
    assert radii[0] < 0.1 < 0.7 < radii[-1]


def inside(replicates: int, shape: tuple[int, int, int, int], seed: int) -> dict[str, float]:
    """How often sets of random masks lie in their null bands."""
    null, generator = uniform(*shape, rng(seed)), rng(seed + 1)
    counts = dict.fromkeys(null.bands, 0)
    for _ in range(replicates):
        masks, again = (random_masks(*shape, generator) for _ in range(2))
        for one in describe(masks, again=again, null=null):
            assert one.value is not None
            assert one.null_low is not None
            assert one.null_high is not None
            counts[one.name] += one.null_low <= one.value <= one.null_high
    return {name: count / replicates for name, count in counts.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(8, 8, 48, 64), (8, 8, 32, 200), (14, 14, 147, 16), (7, 9, 13, 64)]
)
def test_random_masks_lie_in_their_bands(shape: tuple[int, int, int, int]) -> None:
    """Size 5 %: of 500 sets 95 % +- 3.9 points, four standard errors of the binomial."""
    off = 4 * sqrt(0.95 * 0.05 / 500)
    shares = inside(500, shape, seed=sum(shape))
    assert len(shares) == 21
    for name, share in shares.items():
        assert share == pytest.approx(0.95, abs=off), name


def biased(images: int, generator: np.random.Generator) -> Masks:
    """A strategy that prefers the middle, in horizontal runs: nothing of it is as in the null."""
    y, x = np.indices((8, 8)) - 3.5
    noise = generator.gumbel(size=(images, 8, 8))
    noise[:, :, 1:] += noise[:, :, :-1]
    order = (noise - 0.1 * (x**2 + y**2)).reshape(images, -1).argsort(1).argsort(1)
    return np.asarray(order >= 16).reshape(images, 8, 8)


@pytest.mark.slow
def test_intervals_cover() -> None:
    """Of 500 sets of 64, 95 % of the intervals hold the number of 12 000 masks.

    Four standard errors of the binomial and a point for the normal approximation, below; above,
    twice that, for the jackknife is conservative.
    """
    generator, empty = rng(3), Null(8, 8, 48, 64, {})
    truth = known(biased(12000, generator), Null(8, 8, 48, 12000, {}))
    names = ("moran", "joins_mixed", "visible_components", "low_frequency", "slope", "anisotropy",
             "hamming", "iou_hidden", "iou_visible")  # fmt: skip
    hits = dict.fromkeys(names, 0)
    for _ in range(500):
        found = known(biased(64, generator), empty)
        for name in names:
            one, value = found[name], truth[name].value
            assert one.low is not None
            assert one.high is not None
            assert value is not None
            hits[name] += one.low <= value <= one.high
    for name, count in hits.items():
        assert 0.90 < count / 500 < 0.99, (name, count)


def test_what_is_not_random_lies_outside() -> None:
    found = known(biased(256, rng(4)))
    out = {one.name for one in found.values() if one.value is not None
           and one.null_low is not None and one.null_high is not None
           and not one.null_low <= one.value <= one.null_high}  # fmt: skip
    assert {"moran", "joins_mixed", "slope", "anisotropy", "chi2", "chi2_p", "hamming", "entropy",
            "iou_hidden", "iou_visible", "position_share", "low_frequency"} <= out  # fmt: skip
    assert found["chi2_p"].value == pytest.approx(0, abs=1e-12)


def test_the_generator_draws() -> None:
    one, same, other = (uniform(6, 6, 20, 8, rng(seed)).bands for seed in (1, 1, 2))
    assert one == same
    differ = {name for name in one if one[name] != other[name]}
    assert differ == {"visible_components", "visible_largest", "hidden_components",
                      "hidden_largest", "slope"}  # fmt: skip
    masks = random_masks(4, 5, 7, 3000, rng(1))
    assert (masks.sum((1, 2)) == 7).all()
    assert np.abs(masks.mean(0) - 0.35).max() < 4.5 * sqrt(0.35 * 0.65 / 3000)
    assert not (masks == random_masks(4, 5, 7, 3000, rng(2))).all()


def test_refusals() -> None:
    masks, null = random_masks(4, 4, 8, 5, rng()), uniform(4, 4, 8, 5, rng())
    odd = masks.copy()
    odd[2, 0, 0] ^= True
    more, shapes = random_masks(4, 4, 9, 5, rng()), [masks.reshape(5, 16), masks.reshape(5, 2, 8)]
    wrongs: list[Any] = [masks[:4], odd, masks.astype(float), masks[:0], np.ones_like(masks)]
    for wrong in (*wrongs, *shapes, more):
        with pytest.raises(ValueError, match="mask"):
            describe(wrong, null=null)
        with pytest.raises(ValueError, match="mask"):
            describe(masks, again=wrong, null=null)
    for keep in (np.full((5, 4, 4), 0.5), np.full((5, 16), 1.1), np.full((5, 16), np.nan)):
        with pytest.raises(ValueError, match="probabilities"):
            describe(masks, keep=keep, null=null)
    for shape in ((0, 4, 1, 1), (4, 4, 0, 1), (4, 4, 16, 1), (4, 4, 8, 0)):
        with pytest.raises(ValueError, match="no masks"):
            uniform(*shape, rng())


def healthy() -> dict[str, Quantity]:
    masks, keep = random_masks(8, 8, 48, 64, rng(1)), rng(2).uniform(0.05, 0.45, (64, 64))
    return known(masks, keep=keep)


@pytest.mark.parametrize(
    ("name", "edge", "beyond", "words"),
    [
        ("hamming", 0.1001, 0.0999, "0.100 of the patches, below 0.100"),
        ("position_share", 0.9, 0.901, "position explains 0.901"),
        ("score_entropy", 0.05, 0.049, "score entropy 0.049 bits, below 0.05"),
        (
            "soft_share_error",
            0.05,
            0.051,
            "hide more than asked: their mean share is off by +0.051",
        ),
        ("soft_share_error", -0.05, -0.06, "hide less"),
        ("anisotropy", 2.0, 2.01, "Vertical stripes: 2.010"),
        ("anisotropy", 0.5, 0.49, "Horizontal stripes: 0.490"),
    ],
)
def test_alarms(name: str, edge: float, beyond: float, words: str) -> None:
    found = healthy()
    assert alarms(found.values(), 0.2) == []
    assert alarms((found | {name: replace(found[name], value=edge)}).values(), 0.2) == []
    broken = (found | {name: replace(found[name], value=beyond)}).values()
    (said,) = alarms(broken, 0.2)
    assert words in said
    assert len(alarms(broken, 0.5)) == (name != "score_entropy")
    without = [one for one in broken if one.name != name]
    assert alarms(without, 0.2) == []


def test_alarms_of_collapsed_masks() -> None:
    stripes = np.repeat(random_masks(1, 8, 4, 40, rng(1)), 8, axis=1)
    (said,) = alarms(known(stripes).values(), 0.9)
    assert "no vertical neighbours differ" in said
    (said,) = alarms(known(stripes.transpose(0, 2, 1)).values(), 0.9)
    assert "Horizontal stripes: 0.000" in said
    same = np.repeat(random_masks(8, 8, 48, 1, rng(2)), 40, axis=0)
    assert [words.split(":")[0] for words in alarms(known(same).values(), 0.9)] == [
        "Masks of different images are nearly alike",
        "Nearly the same mask for all images",
    ]
    for shape in ((4, 4, 1, 2), (8, 8, 2, 40), (1, 8, 4, 40), (2, 2, 2, 4)):  # sparse, yet random
        assert alarms(known(random_masks(*shape, rng(3))).values(), 0.0) == []
    with pytest.raises(ValueError, match="progress"):
        alarms([], 1.5)
