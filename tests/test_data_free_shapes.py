"""Block, inverse block, the torus and colour noise: what shape hidden and visible sets have."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import make_job
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data_free import (
    COLORS,
    blank,
    build,
    deviation,
    grids,
    helper,
    masks,
    neighbours_alike,
    start,
)
from torch import Tensor
from torch.nn.functional import pad

from maskbench.errors import UsageError
from maskbench.mask import Grid


def grown(shape: Tensor, *, torus: bool) -> Tensor:
    """A bool picture and its four neighbours, round the torus or not."""
    grown = shape.clone()
    for dim in (-2, -1):
        for step in (1, -1):
            moved = shape.roll(step, dim)
            if not torus:
                moved.select(dim, 0 if step == 1 else -1).fill_(value=False)
            grown |= moved
    return grown


def connected(shapes: Tensor, *, torus: bool) -> Tensor:
    """Whether each picture is one piece: bool, (images,)."""
    flat = shapes.flatten(1)
    seed = torch.zeros_like(flat).scatter(1, flat.int().argmax(1, keepdim=True), value=True)
    piece = seed.view_as(shapes)
    for _ in range(flat.shape[1]):
        piece = grown(piece, torus=torus) & shapes
    return (piece == shapes).flatten(1).all(1)


# Torus


@given(grids(), st.integers(0, 2**31))
@settings(deadline=None)
def test_roll_is_the_roll_of_every_picture(grid: Grid, seed: int) -> None:
    stream = torch.Generator().manual_seed(seed)
    values = torch.rand(4, grid.patches, generator=stream)
    top, left = (torch.randint(n, (4, 1), generator=stream) for n in (grid.rows, grid.columns))
    rolled = helper("block", "_torus.roll")(values, top, left, grid)
    for image in range(4):
        picture = values[image].view(grid.rows, grid.columns)
        expected = picture.roll((int(top[image]), int(left[image])), (0, 1))
        assert torch.equal(rolled[image].view_as(picture), expected)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 14, 16, 1000])
def test_whole_numbers_stay_below_their_count(count: int) -> None:
    noise = torch.tensor([0.0, 0.5, 1 - 2.0**-24])
    assert helper("block", "_torus.below")(noise, count).tolist() == [0, count // 2, count - 1]


# Block


def one_image_blocks(noise: Tensor, smallest: float, grid: Grid) -> Tensor:
    """The same algorithm, one image and one try after the other."""
    hidden = torch.zeros(grid.rows, grid.columns, dtype=torch.bool)
    for tries in noise:
        for area, aspect, down, right in tries.T:
            left = grid.hidden - int(hidden.sum())
            least = min(smallest, left)
            root, stretch = (least + area * (left - least)).sqrt(), (1 / 0.3) ** (aspect - 0.5)
            height = max(int((root * stretch).round()), 1)
            width = max(int((root / stretch).round()), 1)
            if height >= max(grid.rows, 2) or width >= max(grid.columns, 2):
                continue
            top = int(down * (grid.rows - height + 1))
            start = int(right * (grid.columns - width + 1))
            block = torch.zeros_like(hidden)
            block[top : top + height, start : start + width] = True
            added = int((block & ~hidden).sum())
            if 0 < added <= left:
                hidden |= block
                break
    return hidden


@pytest.mark.parametrize("grid", [Grid(8, 8, 48), Grid(5, 9, 20), Grid(1, 12, 6), Grid(2, 2, 3)])
def test_blocks_equal_the_loop(grid: Grid) -> None:
    noise = torch.rand(20, 16, 4, 4, generator=torch.Generator().manual_seed(3))
    found = helper("block", "block.hide_blocks")(noise, 5.0, grid)
    assert (found.sum(1) <= grid.hidden).all()
    for row, stream in zip(found, noise, strict=True):
        assert torch.equal(row.view(grid.rows, -1), one_image_blocks(stream, 5.0, grid))


@pytest.mark.parametrize(
    ("side", "hidden", "share", "patches"),
    [(14, 147, 0.06, 3), (14, 98, 0.005, 4), (8, 48, 0.01, 3), (14, 176, 0.75, 8)],
)
def test_few_masks_are_topped_up(side: int, hidden: int, share: float, patches: float) -> None:
    grid = Grid(side, side, hidden)
    noise = torch.rand(2000, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    found = helper("block", "block.hide_blocks")(noise, 16 / 196 * side * side, grid)
    missing = hidden - found.sum(1)
    assert (missing > 0).float().mean() < share
    assert missing[missing > 0].float().mean().nan_to_num(0) < patches


def test_top_up_adds_beside_what_is_hidden() -> None:
    grid = Grid(6, 7, 6)
    blocks = torch.zeros(500, 6, 7, dtype=torch.bool)
    blocks[:, 2:4, 3] = True
    noise = torch.rand(500, 42, generator=torch.Generator().manual_seed(1))
    mask = helper("block", "block.top_up")(blocks.flatten(1), noise, grid)
    mask.check(500, grid)
    found = mask.hidden.view(500, 6, 7)
    assert found[:, 2:4, 3].all()
    assert not (found & ~grown(blocks, torus=False)).any()
    ring = (grown(blocks, torus=False) & ~blocks)[0]
    assert (found.float().mean(0)[ring] - 4 / 6).abs().max() < 0.1


@pytest.mark.parametrize("hidden", [75, 147])
def test_blocks_reach_all_four_borders_alike(hidden: int) -> None:
    """An exclusive bound would never touch the last row and column."""
    often = masks("block", Grid(14, 14, hidden), 6000).float().mean(0)
    rows, columns = often.mean(1), often.mean(0)
    borders = torch.stack([rows[0], rows[-1], columns[0], columns[-1]])
    assert borders.min() > 0.05
    assert borders.max() - borders.min() < 0.025
    for twin in (often.flip(0), often.flip(1), often.T):
        assert (often - twin).abs().max() < 6 * (2 * 0.25 / 6000) ** 0.5


@pytest.mark.parametrize("roll", [False, True])
def test_blocks_are_blocky(roll: bool) -> None:
    grid = Grid(14, 14, 98)
    random = neighbours_alike(masks("random", grid, 500))
    assert random == pytest.approx(0.5, abs=0.02)
    assert neighbours_alike(masks("block", grid, 500, roll=roll)) > random + 0.3


def test_smallest_sets_the_size_of_blocks() -> None:
    grid = Grid(14, 14, 98)
    shares = (0.0, 16 / 196, 0.4)
    alike = [neighbours_alike(masks("block", grid, 1000, smallest=share)) for share in shares]
    assert alike[0] + 0.005 < alike[1] < alike[2] - 0.005


# Inverse block


@pytest.mark.parametrize("roll", [False, True])
@given(grid=grids())
@settings(max_examples=40, deadline=None)
def test_the_visible_set_is_one_piece(roll: bool, grid: Grid) -> None:
    visible = ~masks("inverse-block", grid, 6, roll=roll)
    assert connected(visible, torus=roll).all()


def test_connectedness_is_not_given() -> None:
    """The control of the test above."""
    grid = Grid(8, 8, 48)
    assert not connected(~masks("random", grid, 20), torus=True).any()
    assert not connected(~masks("inverse-block", grid, 200), torus=False).all()
    assert not connected(masks("inverse-block", Grid(8, 8, 12), 200, roll=False), torus=False).all()


def boxes(visible: Tensor) -> tuple[Tensor, Tensor]:
    """Height and width of each picture's bounding box."""
    return visible.any(2).sum(1), visible.any(1).sum(1)


def test_rectangles_have_the_drawn_aspect_and_lose_less_than_a_row() -> None:
    visible = ~masks("inverse-block", Grid(14, 14, 147), 3000, roll=False)
    height, width = boxes(visible)
    assert ((height * width - 49 >= 0) & (height * width - 49 < width)).all()
    assert set(width.tolist()) == {5, 6, 7, 9, 10}  # 49 has no 8: 7 x 7 is as good
    often = torch.stack([torch.bincount(side, minlength=11) for side in (height, width)])
    assert (often[0] - often[1]).abs().max() < 5 * math.sqrt(2 * 3000 * 0.2)
    assert torch.equal(visible.sum(2).amax(1), width)


def test_rectangles_reach_all_borders_without_the_roll() -> None:
    often = (~masks("inverse-block", Grid(8, 8, 48), 5000, roll=False)).float().mean(0)
    borders = [often[0].mean(), often[-1].mean(), often[:, 0].mean(), often[:, -1].mean()]
    assert all(0.05 < float(border) < 0.25 for border in borders)


@pytest.mark.parametrize(("rows", "columns"), [(5, 9), (12, 3)])
@pytest.mark.parametrize(("name", "chosen"), [("inverse-block", {}), ("block", {"roll": True})])
def test_rolled_masks_have_no_centre_on_long_grids(
    name: str, chosen: dict[str, Any], rows: int, columns: int
) -> None:
    grid = Grid(rows, columns, rows * columns * 2 // 3)
    assert deviation(masks(name, grid, 5000, **chosen), grid) < 4.5


# Colour noise


def visible_facts(hidden: Tensor) -> tuple[float, float]:
    """Share of visible patches that touch another; mean distance from hidden to visible."""
    visible = ~hidden
    wide = pad(visible, (1, 1, 1, 1))
    beside = wide[:, 2:, 1:-1] | wide[:, :-2, 1:-1] | wide[:, 1:-1, 2:] | wide[:, 1:-1, :-2]
    places = torch.cartesian_prod(torch.arange(14.0), torch.arange(14.0))
    distance = torch.cdist(places, places)
    flat = visible.flatten(1)
    nearest = torch.stack([distance[:, row].amin(1)[~row].mean() for row in flat])
    return float(beside[visible].float().mean()), float(nearest.mean())


@pytest.mark.parametrize(
    ("color", "touching", "distance"),
    [("white", 0.65, 1.24), ("blue", 0.62, 1.21), ("green", 0.85, 1.31), ("red", 1.00, 2.98)],
)
def test_colours_have_their_reference_shape(color: str, touching: float, distance: float) -> None:
    """Computed independently: Gaussian filters of 0.5 and 2 patches on 64 x 64, 49 visible."""
    found = visible_facts(masks("colornoise", Grid(14, 14, 147), 1500, color=color))
    assert found[0] == pytest.approx(touching, abs=0.012)
    assert found[1] == pytest.approx(distance, abs=0.015 if color != "red" else 0.06)


def mean_frequency(hidden: Tensor) -> float:
    """Centre of mass of the masks' power spectrum, in cycles per patch."""
    power = torch.fft.fft2(hidden.float() - hidden.float().mean()).abs().square().mean(0)
    frequency = torch.fft.fftfreq(hidden.shape[-1])
    radius = (frequency[:, None].square() + frequency.square()).sqrt()
    return float((power * radius).sum() / power.sum())


def test_spectra_are_ordered() -> None:
    grid = Grid(16, 16, 128)
    found = {color: mean_frequency(masks("colornoise", grid, 500, color=color)) for color in COLORS}
    assert sorted(found, key=found.__getitem__) == ["red", "green", "white", "blue", "purple"]
    assert found["red"] < 0.5 * found["white"]
    assert found["blue"] > 1.02 * found["white"]


def test_widths_set_the_size_of_the_clusters() -> None:
    grid = Grid(14, 14, 147)
    red = [neighbours_alike(masks("colornoise", grid, 300, color="red", wide=w)) for w in (1, 2, 4)]
    green = [neighbours_alike(masks("colornoise", grid, 300, narrow=n)) for n in (0, 0.5, 1)]
    assert red[0] + 0.02 < red[1] < red[2] - 0.02
    assert green[0] + 0.02 < green[1] < green[2] - 0.02


def test_the_strongest_patches_stay_visible_and_borders_are_far_apart() -> None:
    grid = Grid(8, 8, 48)
    noise = replace(start(), grid=grid).normal("mask", blank(50), 18 * 18).view(50, 18, 18)
    hidden = masks("colornoise", grid, 50, color="white")
    for picture, field in zip(hidden, noise[:, :8, :8], strict=True):
        assert field[~picture].min() > field[picture].max() - 1e-4
    red = masks("colornoise", grid, 3000, color="red").float().flatten(1)
    correlation = torch.corrcoef(red.T).view(8, 8, 8, 8)
    assert correlation[3, 0, 3, 1] > 0.6
    assert correlation[3, 0, 3, 7] < 0.1  # the torus is wider than the grid


def test_an_empty_band_is_refused() -> None:
    with pytest.raises(UsageError, match=r"narrow \(2\) must be below wide"):
        make_job(build("colornoise", narrow=2.0))


def test_red_noise_has_its_extremes_at_the_border() -> None:
    """A known bias of ranking a smooth field within its crop, as the docstring says."""
    often = 1 - masks("colornoise", Grid(8, 8, 48), 5000, color="red").float().mean(0)
    assert often[[0, 0, 7, 7], [0, 7, 0, 7]].mean() == pytest.approx(0.30, abs=0.015)
    assert often[3:5, 3:5].mean() == pytest.approx(0.17, abs=0.015)
    assert (often - often.flip(0)).abs().max() < 0.03
    assert (often - often.T).abs().max() < 0.03
