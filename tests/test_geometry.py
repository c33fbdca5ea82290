"""Geometry of masks: known answers, independent oracles, invariances, what is undefined."""

from itertools import combinations
from typing import Any

import esda
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libpysal.weights import lat2W
from scipy import stats

from maskbench.analysis import geometry, quantity
from maskbench.analysis.geometry import Null, Quantity, describe, random_masks
from maskbench.analysis.quantity import Masks


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def known(masks: Masks, **extra: Any) -> dict[str, Quantity]:
    images, rows, columns = masks.shape
    null = Null(rows, columns, int(masks[0].sum()), images, {})
    return {one.name: one for one in describe(masks, null=null, **extra)}


def values(masks: Masks, **extra: Any) -> dict[str, float]:
    return {name: one.value for name, one in known(masks, **extra).items() if one.value is not None}


def blocky(images: int, rows: int, columns: int, hidden: int, seed: int = 0) -> Masks:
    """The patches nearest to a random point of each image, with a little noise."""
    y, x = rng(seed).random((2, images, 1, 1)) * np.array([rows, columns])[:, None, None, None]
    far = np.hypot(np.arange(rows)[:, None] - y, np.arange(columns) - x)
    far += rng(seed + 1).random(far.shape)
    order = far.reshape(images, -1).argsort(1).argsort(1)
    return np.asarray(order < hidden).reshape(images, rows, columns)


def drawn(*lines: str) -> Masks:
    return np.array([[[c == "#" for c in line] for line in lines]])


LEFT = np.repeat(np.arange(8)[None, :] < 4, 8, axis=0)[None]
CHECKERS = (np.indices((8, 8)).sum(0) % 2 == 0)[None]
RING = drawn("######", "#....#", "#....#", "#....#", "#....#", "######")
BLOCK = drawn("......", "......", "..##..", "..##..", "......", "......")


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        # mixed, hidden, visible joins; horizontal, vertical; components and largest of both kinds
        (LEFT, (8, 52, 52, 8, 0, 1, 32, 1, 1)),
        (CHECKERS, (112, 0, 0, 56, 56, 32, 1, 32, 1 / 32)),
        (RING, (16, 20, 24, 8, 8, 1, 16, 1, 1)),
        (~RING, (16, 24, 20, 8, 8, 1, 20, 1, 1)),
        (BLOCK, (8, 4, 48, 4, 4, 1, 32, 1, 1)),
        (drawn("#..", "...", "..."), (2, 0, 10, 1, 1, 1, 8, 1, 1)),
        (drawn("###", "#.#", "###"), (4, 8, 0, 2, 2, 1, 1, 1, 1)),
        (drawn(".#.", "#.#", ".#."), (12, 0, 0, 6, 6, 5, 1, 4, 1 / 4)),
        (drawn("..#.", "###."), (5, 3, 2, 3, 2, 2, 2, 1, 1)),
    ],
)  # fmt: skip
def test_known_answers(mask: Masks, expected: tuple[float, ...]) -> None:
    found = values(mask)
    names = (
        *("joins_mixed", "joins_hidden", "joins_visible", "joins_horizontal", "joins_vertical"),
        *("visible_components", "visible_largest", "hidden_components", "hidden_largest"),
    )
    assert [found[name] for name in names] == pytest.approx(list(expected))


def test_known_shapes() -> None:
    assert values(CHECKERS)["moran"] == pytest.approx(-1)
    assert values(LEFT)["moran"] == pytest.approx(1 - 2 * 8 / 112)
    left, checkers = geometry.power(LEFT), geometry.power(CHECKERS)
    assert checkers[1][:-1] == pytest.approx(0)  # all power at (1/2, 1/2)
    assert checkers[0][-1] == pytest.approx(np.sqrt(0.5))
    assert left[1].argmax() == 0
    assert left[2] == pytest.approx(32 * 32 / 63)
    share = values(LEFT)["low_frequency"]
    wave = np.abs(np.fft.fft(LEFT[0, 0])[1:]) ** 2
    assert share == pytest.approx((wave[0] + wave[-1]) / wave.sum())
    two = np.concatenate([LEFT, ~LEFT])
    assert geometry.frequency(two) == pytest.approx(0.5)
    assert geometry.frequency(LEFT)[0].tolist() == [1] * 4 + [0] * 4


@pytest.mark.filterwarnings("ignore:The inplace keyword")
@pytest.mark.parametrize(("rows", "columns", "hidden"), [(8, 8, 48), (5, 9, 20), (2, 7, 4)])
def test_joins_and_moran_against_esda(rows: int, columns: int, hidden: int) -> None:
    for mask in (
        *random_masks(rows, columns, hidden, 4, rng(1)),
        *blocky(4, rows, columns, hidden),
    ):
        found, weights = values(mask[None]), lat2W(rows, columns, rook=True)
        theirs = esda.Join_Counts(mask.astype(int), weights, permutations=0)
        assert found["joins_hidden"] == theirs.bb
        assert found["joins_visible"] == theirs.ww
        assert found["joins_mixed"] == theirs.bw
        moran = esda.Moran(mask.ravel().astype(float), weights, "B", permutations=0)
        assert found["moran"] == pytest.approx(moran.I)


def flooded(cells: set[tuple[int, int]]) -> list[int]:
    """Sizes of 4-connected components, by flooding."""
    sizes = []
    while cells:
        front, size = [cells.pop()], 0
        while front:
            y, x = front.pop()
            size += 1
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & cells
            cells -= near
            front += near
        sizes.append(size)
    return sizes


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.integers(2, 7), st.integers(1, 5), st.data())
def test_against_slow_loops(rows: int, columns: int, images: int, data: st.DataObject) -> None:
    patches = rows * columns
    hidden = data.draw(st.integers(1, patches - 1))
    masks = random_masks(rows, columns, hidden, images, rng(data.draw(st.integers(0, 999))))
    found = values(masks)
    parts = [[flooded(set(zip(*np.nonzero(each == kind), strict=True))) for each in masks]
             for kind in (True, False)]  # fmt: skip
    expected: dict[str, list[float]] = {
        "hidden_components": [len(sizes) for sizes in parts[0]],
        "visible_components": [len(sizes) for sizes in parts[1]],
        "hidden_largest": [max(sizes) / hidden for sizes in parts[0]],
        "visible_largest": [max(sizes) for sizes in parts[1]],
    }
    pairs = list(combinations(masks, 2))
    if pairs:
        f = masks.mean(0)
        r = hidden / patches
        expected |= {
            "hamming": [(a ^ b).mean() for a, b in pairs],
            "iou_hidden": [(a & b).sum() / (a | b).sum() for a, b in pairs],
            "iou_visible": [(~a & ~b).sum() / (~a | ~b).sum() for a, b in pairs],
            "position_share": [1 - (f * (1 - f)).mean() / (r * (1 - r))],
            "chi2": [images * (patches - 1) / (patches * r * (1 - r)) * ((f - r) ** 2).sum()],
            "entropy": [stats.entropy(f.ravel()) / np.log(patches)],
        }
    for name, each in expected.items():
        assert found[name] == pytest.approx(np.mean(each), abs=1e-9), name
    assert ("hamming" in found) == bool(pairs)


@pytest.mark.parametrize("shape", [(8, 8, 48), (6, 9, 20)])
def test_spectrum_against_its_definition(shape: tuple[int, int, int]) -> None:
    rows, columns, hidden = shape
    masks = blocky(5, rows, columns, hidden)
    side, low, whole = max(rows, columns), 0.0, 0.0
    rings: dict[int, list[tuple[float, float]]] = {}
    for y in range(rows):
        for x in range(columns):
            radius = np.hypot(min(y, rows - y) / rows, min(x, columns - x) / columns)
            wave = np.exp(-2j * np.pi * np.add.outer(np.arange(rows) * y / rows,
                                                     np.arange(columns) * x / columns))  # fmt: skip
            power = (np.abs((masks * wave).sum((1, 2))) ** 2).mean()
            if x or y:
                rings.setdefault(int(radius * side + 0.5), []).append((radius, power))
                whole += power
                low += power * (radius <= 0.15)
    radii, power_, level = geometry.power(masks)
    expected = np.array([np.mean(rings[k], axis=0) for k in sorted(rings)])
    assert radii == pytest.approx(expected[:, 0])
    assert power_ == pytest.approx(expected[:, 1])
    assert whole / (rows * columns - 1) == pytest.approx(level)
    found = values(masks)
    assert found["low_frequency"] == pytest.approx(low / whole)
    inside = np.array(sorted(rings)) <= side / 2
    line = np.polyfit(np.log(radii[inside]), np.log(power_[inside]), 1)
    assert found["slope"] == pytest.approx(line[0])
    assert found["slope"] < -1  # blocks are red
    noise = rng(2).normal(size=(400, rows, columns))
    local = noise - sum(np.roll(noise, by, axis) / 4 for by in (1, -1) for axis in (1, 2))
    order = local.reshape(400, -1).argsort(1).argsort(1) >= rows * columns - hidden
    assert values(order.reshape(noise.shape))["slope"] > 0.2  # what its neighbours lack is blue


def test_invariances() -> None:
    masks = blocky(12, 6, 9, 20, seed=5)
    plain, swapped = values(masks), {"joins_horizontal": "joins_vertical"}
    swapped |= {b: a for a, b in swapped.items()}
    for same in (masks[::-1], masks[:, ::-1], masks[:, :, ::-1]):
        assert values(same) == pytest.approx(plain)
    turned = values(masks.transpose(0, 2, 1))
    assert turned.pop("anisotropy") == pytest.approx(1 / plain["anisotropy"])
    assert plain["anisotropy"] != pytest.approx(1, abs=0.02)
    for name, value in turned.items():
        assert value == pytest.approx(plain[swapped.get(name, name)]), name


def test_an_inverted_mask_swaps_hidden_and_visible() -> None:
    masks = blocky(12, 6, 9, 20, seed=6)
    plain, other = values(masks), values(~masks)
    pairs = {"joins_hidden": "joins_visible", "iou_hidden": "iou_visible",
             "hidden_components": "visible_components"}  # fmt: skip
    for a, b in pairs.items():
        assert plain[a] == pytest.approx(other[b])
        assert plain[b] == pytest.approx(other[a])
        assert plain[a] != pytest.approx(plain[b])
    assert plain["visible_largest"] == pytest.approx(other["hidden_largest"] * 34)
    for name in ("moran", "joins_mixed", "hamming", "chi2", "slope", "position_share"):
        assert plain[name] == pytest.approx(other[name])
    assert plain["entropy"] != pytest.approx(other["entropy"])


def test_another_sample_and_soft_scores() -> None:
    masks, again = random_masks(6, 6, 27, 10, rng(1)), random_masks(6, 6, 27, 10, rng(2))
    keep = rng(3).random((10, 36))
    plain, found = values(masks), values(masks, again=again, keep=keep)
    assert set(found) - set(plain) == {"same_image", "score_entropy", "soft_share_error"}
    assert found["same_image"] == pytest.approx((masks ^ again).mean() / 0.375)
    bits = -(keep * np.log2(keep) + (1 - keep) * np.log2(1 - keep)).mean(1)
    assert found["score_entropy"] == pytest.approx(bits.mean())
    assert found["soft_share_error"] == pytest.approx(0.25 - keep.mean())
    assert values(masks, again=masks)["same_image"] == 0
    certain = known(masks, keep=(~masks).reshape(10, 36).astype(float))
    assert certain["score_entropy"].value == 0
    assert certain["soft_share_error"].value == pytest.approx(0)
    assert certain["score_entropy"].null is None


def test_intervals_of_means_are_t_intervals() -> None:
    masks = blocky(9, 6, 6, 12)
    one = known(masks)["joins_mixed"]
    each = [values(mask[None])["joins_mixed"] for mask in masks]
    expected = stats.t.interval(0.95, 8, np.mean(each), stats.sem(each))
    assert (one.low, one.high) == pytest.approx(expected)


def test_intervals_of_sets_leave_out_each_image() -> None:
    masks = blocky(7, 6, 8, 20, seed=3)
    whole = known(masks)
    rest = [values(np.delete(masks, i, axis=0)) for i in range(7)]
    for name in ("slope", "anisotropy", "hamming", "iou_hidden", "iou_visible", "entropy"):
        one = whole[name]
        turn: Any = np.log if name == "anisotropy" else np.asarray
        left = turn([each[name] for each in rest])
        half = stats.t.ppf(0.975, 6) * np.sqrt(6 / 7 * ((left - left.mean()) ** 2).sum())
        assert one.value is not None
        ends = turn(one.value) - half, turn(one.value) + half
        limits = (-9, 9) if name in ("slope", "anisotropy") else (0, 1)
        assert (turn(one.low), turn(one.high)) == pytest.approx(np.clip(ends, *limits)), name
        assert ends[1] > ends[0]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, keep = blocky(23, 6, 8, 20), rng(1).random((23, 48))
    whole = values(masks, keep=keep)
    monkeypatch.setattr(quantity, "CELLS", 5 * 48)
    assert values(masks, keep=keep) == pytest.approx(whole)


def test_what_is_undefined_is_named() -> None:
    def unknown(masks: Masks) -> dict[str, str]:
        return {name: one.note for name, one in known(masks).items() if one.value is None}

    pairs = {"chi2", "chi2_p", "entropy", "position_share", "hamming", "iou_hidden", "iou_visible"}
    line = {"joins_vertical", "low_frequency", "slope", "anisotropy"}
    assert set(unknown(random_masks(8, 8, 48, 1, rng()))) == pairs
    assert set(unknown(random_masks(1, 9, 4, 5, rng()))) == line
    assert "no vertical joins" in unknown(random_masks(1, 9, 4, 5, rng()))["joins_vertical"]
    assert set(unknown(random_masks(4, 4, 8, 5, rng()))) == {"low_frequency"}
    assert set(unknown(np.repeat(LEFT, 4, axis=0))) == {"anisotropy", "slope"}
    assert all(unknown(random_masks(2, 1, 1, 1, rng())).values())
    across = known(np.repeat(LEFT.transpose(0, 2, 1), 4, axis=0))["anisotropy"]
    assert (across.value, across.low) == (0.0, None)
    assert across.note
    with pytest.raises(ValueError, match="one row"):
        geometry.power(random_masks(1, 9, 4, 5, rng()))
