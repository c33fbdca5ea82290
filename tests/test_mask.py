"""Masks hide exactly what they are told to, and True means hidden."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskbench.mask import Grid, Mask, take


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(2, 9))
    return Grid(rows, columns, draw(st.integers(1, rows * columns - 1)))


@given(grids(), st.integers(1, 5), st.integers(0, 2**31), st.sampled_from([1, 3, 1000]))
def test_scores_hide_exactly_the_highest(grid: Grid, images: int, seed: int, levels: int) -> None:
    """Any grid, any count, any number of ties."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (images, grid.patches), generator=generator).float()
    mask = Mask.from_scores(scores, grid)
    mask.check(images, grid)
    for row, hidden in zip(scores, mask.hidden, strict=True):
        assert int(hidden.sum()) == grid.hidden
        assert row[hidden].min() >= row[~hidden].max()


@given(grids(), st.integers(1, 4), st.integers(0, 2**31))
def test_positions_split_the_grid(grid: Grid, images: int, seed: int) -> None:
    """Visible and hidden positions are disjoint, ascending and together everything."""
    generator = torch.Generator().manual_seed(seed)
    mask = Mask.from_scores(torch.rand(images, grid.patches, generator=generator), grid)
    visible, hidden = mask.visible_positions, mask.hidden_positions
    assert visible.shape == (images, grid.visible)
    assert hidden.shape == (images, grid.hidden)
    assert not mask.hidden.gather(1, visible).any()
    assert mask.hidden.gather(1, hidden).all()
    assert (visible.diff(dim=1) > 0).all()
    assert (hidden.diff(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("rows", "columns", "hidden"), [(0, 4, 1), (4, 4, 0), (4, 4, 16), (1, 1, 1)]
)
def test_impossible_grids_are_refused(rows: int, columns: int, hidden: int) -> None:
    with pytest.raises(ValueError, match=r"grid|hidden"):
        Grid(rows, columns, hidden)


def test_check_names_what_is_wrong() -> None:
    grid = Grid(2, 2, 3)
    right = torch.tensor([[True, True, True, False]])
    Mask(right, grid).check(1, grid)
    with pytest.raises(ValueError, match=r"exactly 3 of 4.*first hides 1"):
        Mask(~right, grid).check(1, grid)
    with pytest.raises(ValueError, match="must be bool"):
        Mask(right.float(), grid).check(1, grid)
    with pytest.raises(ValueError, match=r"shape \(2, 4\)"):
        Mask(right, grid).check(2, grid)
    with pytest.raises(ValueError, match="scores must have shape"):
        Mask.from_scores(torch.rand(1, 5), grid)


def test_take_gathers_by_position() -> None:
    tokens = torch.arange(12.0).view(2, 3, 2)
    picked = take(tokens, torch.tensor([[2], [0]]))
    assert picked.tolist() == [[[4.0, 5.0]], [[6.0, 7.0]]]
