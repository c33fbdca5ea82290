"""Data-free masks: what each one shows and hides, on any grid and for any count."""

import math
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from conftest import make_job
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import pad

from maskbench import registry
from maskbench.mask import Grid
from maskbench.strategy import Batch, Context, MaskStrategy

COLORS = ["green", "blue", "red", "purple", "white"]
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("grid", {}),
    ("uniform", {}),
    ("coarse-grid", {}),
    ("coarse-grid", {"cell": 3}),
    ("block", {}),
    ("block", {"roll": True, "smallest": 0}),
    ("inverse-block", {}),
    ("inverse-block", {"roll": False}),
    *[("colornoise", {"color": color}) for color in COLORS],
]
every = pytest.mark.parametrize(("name", "chosen"), KINDS)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(2, 9))
    return Grid(rows, columns, draw(st.integers(1, rows * columns - 1)))


@cache
def start() -> Context:
    return make_job().context(0)


def blank(images: int, first: int = 0) -> Batch:
    count = torch.arange(images)
    return Batch(torch.zeros(images, 3, 1, 1), count, torch.zeros(images, 4), first)


def build(name: str, **chosen: Any) -> MaskStrategy:
    cls = registry.load(name)
    return cls(cls.Settings(**chosen))


def masks(name: str, grid: Grid, images: int, first: int = 0, **chosen: Any) -> Tensor:
    """Masks of a strategy, checked, as pictures: bool, (images, rows, columns)."""
    with torch.no_grad():
        mask = build(name, **chosen).mask(blank(images, first), replace(start(), grid=grid))
    mask.check(images, grid)
    return mask.hidden.view(images, grid.rows, grid.columns)


def helper(name: str, function: str) -> Any:
    """A function of the file that defines a strategy (or of a file beside it)."""
    registry.load(name)
    module, _, inner = function.rpartition(".")
    return getattr(sys.modules[f"maskbench.strategies.{module}"], inner)


def deviation(hidden: Tensor, grid: Grid) -> float:
    """Largest deviation of a patch's frequency from the even one, in standard errors."""
    share = grid.hidden / grid.patches
    error = math.sqrt(share * (1 - share) / len(hidden))
    return float((hidden.float().mean(0) - share).abs().max()) / error


def distinct(hidden: Tensor) -> Counter[tuple[bool, ...]]:
    """How often each different picture occurs."""
    return Counter(map(tuple, hidden.flatten(1).tolist()))


def neighbours_alike(hidden: Tensor) -> float:
    """Share of adjacent pairs in the same state."""
    down = hidden[:, 1:] == hidden[:, :-1]
    right = hidden[:, :, 1:] == hidden[:, :, :-1]
    return float(torch.cat([down.flatten(), right.flatten()]).float().mean())


def cells(hidden: Tensor, side: int) -> Tensor:
    """Square cells of a grid they divide: (images, cells, side * side)."""
    images, rows, columns = hidden.shape
    split = hidden.view(images, rows // side, side, columns // side, side)
    return split.transpose(2, 3).reshape(images, -1, side * side)


@every
@settings(max_examples=25, deadline=None)
@given(grid=grids())
def test_exact_on_any_grid(name: str, chosen: dict[str, Any], grid: Grid) -> None:
    masks(name, grid, 3, **chosen)


@every
def test_a_mask_is_its_images_own(name: str, chosen: dict[str, Any]) -> None:
    """Drawn per image and fresh: the batch, its size and autocast change nothing."""
    grid = Grid(9, 8, 50)
    whole = masks(name, grid, 12, **chosen)
    assert torch.equal(whole[5:8], masks(name, grid, 3, first=5, **chosen))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(whole, masks(name, grid, 12, **chosen))
    assert len(distinct(whole)) > 8


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("random", {}),
        ("grid", {}),
        ("uniform", {}),
        ("coarse-grid", {"cell": 2}),
        ("coarse-grid", {"cell": 4}),
        ("block", {"roll": True}),
        ("inverse-block", {}),
        *[("colornoise", {"color": color}) for color in COLORS if color != "red"],
    ],
)
@pytest.mark.parametrize("hidden", [20, 48, 53])
def test_every_patch_is_hidden_equally_often(
    name: str, chosen: dict[str, Any], hidden: int
) -> None:
    grid = Grid(8, 8, hidden)
    assert deviation(masks(name, grid, 5000, **chosen), grid) < 4.5


@pytest.mark.parametrize("name", ["block", "inverse-block"])
def test_without_rolling_the_centre_is_another_place(name: str) -> None:
    """The control of the test above: it can fail, and ``roll`` is heeded."""
    grid = Grid(8, 8, 48)
    often = masks(name, grid, 5000, roll=False).float().mean(0)
    centre, corners = often[3:5, 3:5].mean(), often[[0, 0, 7, 7], [0, 7, 0, 7]].mean()
    gap = float(centre - corners) * (1 if name == "block" else -1)
    assert gap > 0.3


# Regular grid


def test_grid_shows_one_of_four_lattices() -> None:
    visible = ~masks("grid", Grid(6, 8, 36), 2000)
    found = distinct(visible)
    assert len(found) == 4
    for corner in range(4):
        lattice = torch.zeros(1, 6, 8, dtype=torch.bool)
        lattice[:, corner // 2 :: 2, corner % 2 :: 2] = True
        assert found[next(iter(distinct(lattice)))] == pytest.approx(500, abs=100)


@pytest.mark.parametrize(("shown", "levels"), [(8, 1), (20, 2), (24, 2), (30, 3)])
def test_grid_shows_level_after_level(shown: int, levels: int) -> None:
    """Part of a lattice, then the diagonal (at half a checkerboard), then the rest."""
    visible = cells(~masks("grid", Grid(6, 8, 48 - shown), 200), 2)
    per_corner = visible.sum(1).sort(dim=1, descending=True).values
    full = torch.tensor([12, 12, 12][: levels - 1])
    assert (per_corner[:, : levels - 1] == full).all()
    if levels == 2:  # the second corner is the diagonal one
        first = visible.sum(1)
        assert (first.min(1).values == 0).all()
        assert (first[:, [0, 3]].sum(1) % 48 == torch.where(first[:, 0] > 0, shown, 0)).all()
    if shown % 12:
        assert len(distinct(visible)) > 150


# Uniform


def test_uniform_shows_one_per_cell_independently() -> None:
    visible = cells(~masks("uniform", Grid(8, 6, 36), 4000), 2)
    assert (visible.sum(2) == 1).all()
    corner = visible.float().argmax(2)
    pairs = torch.bincount((4 * corner[:, 0] + corner[:, 1]), minlength=16) / 4000
    assert (pairs - 1 / 16).abs().max() < 5 * (1 / 16 / 4000) ** 0.5
    assert len(distinct(visible)) > 3900


@pytest.mark.parametrize("shown", [5, 18, 24, 40])
def test_uniform_fills_level_by_level(shown: int) -> None:
    count = cells(~masks("uniform", Grid(8, 6, 48 - shown), 300), 2).sum(2)
    assert ((count == shown // 12) | (count == -(-shown // 12))).all()


def test_uniform_on_an_odd_grid_shows_one_of_every_smaller_cell() -> None:
    visible = ~masks("uniform", Grid(5, 7, 23), 300)
    count = cells(pad(visible, (0, 1, 0, 1)), 2).sum(2)
    assert count.shape[1] == 12
    assert (count == 1).all()


# Coarse grid


@pytest.mark.parametrize("cell", [1, 2, 4])
@pytest.mark.parametrize("hidden", [48, 54])
def test_coarse_grid_hides_whole_cells(cell: int, hidden: int) -> None:
    """All cells but at most one are of one state; the odd one is a random part of a cell."""
    count = cells(masks("coarse-grid", Grid(8, 8, hidden), 300, cell=cell), cell).sum(2)
    partial = ((count > 0) & (count < cell * cell)).sum(1)
    assert (partial == (hidden % (cell * cell) > 0)).all()


def test_coarse_grid_setting_sets_the_cell() -> None:
    grid = Grid(8, 8, 48)
    alike = [neighbours_alike(masks("coarse-grid", grid, 1000, cell=cell)) for cell in (1, 2, 4)]
    assert alike[0] == pytest.approx(neighbours_alike(masks("random", grid, 1000)), abs=0.01)
    assert alike[0] + 0.1 < alike[1] < alike[2] - 0.05


def test_coarse_grid_cuts_cells_at_the_border() -> None:
    hidden = masks("coarse-grid", Grid(7, 5, 20), 500, cell=3)
    groups = [hidden[:, r : r + 3, c : c + 3].flatten(1) for r in (0, 3, 6) for c in (0, 3)]
    mixed = torch.stack([g.any(1) & ~g.all(1) for g in groups]).sum(0)
    assert (mixed <= 1).all()


def test_coarse_grid_part_of_a_cell_is_random() -> None:
    hidden = cells(masks("coarse-grid", Grid(4, 4, 2), 2000, cell=4), 4)[:, 0]
    assert deviation(hidden, Grid(4, 4, 2)) < 4.5
