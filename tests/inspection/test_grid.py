"""The drawing's arithmetic, against a transposed convolution that marks what it writes."""

import pytest
import torch
from torch.nn import functional as F

from unetseg.inspection.grid import Grid, View

GRIDS = [
    Grid(n=7, size=15, k=4, s=2, p=1),
    Grid(n=7, size=13, k=4, s=2, p=1),
    Grid(n=7, size=14, k=3, s=2, p=1),
    Grid(n=5, size=11, k=2, s=2, p=0),
    Grid(n=5, size=17, k=8, s=4, p=3),
    Grid(n=4, size=9, k=3, s=2, p=1, d=2),
    Grid(n=1, size=1, k=4, s=2, p=1),
]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_taps_and_writers_are_those_of_the_layer(grid: Grid) -> None:
    kernel = torch.ones(1, 1, grid.k)
    for i in range(grid.n):
        x = torch.zeros(1, 1, grid.n)
        x[0, 0, i] = 1
        whole = F.conv_transpose1d(x, kernel, stride=grid.s, dilation=grid.d)[0, 0]  # nothing removed yet
        written = [int(row) - grid.p for row in whole.nonzero()[:, 0]]
        assert grid.taps(i) == written
        assert [row for row in grid.rows if i in grid.writers(row)] == [row for row in written if row in grid.rows]
    natural = F.conv_transpose1d(torch.ones(1, 1, grid.n), kernel, stride=grid.s, padding=grid.p, dilation=grid.d)
    assert grid.natural_size == natural.shape[-1]
    assert grid.output_padding == grid.size - natural.shape[-1]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_row_has_one_fate(grid: Grid) -> None:
    fates = [grid.fate(row) for row in grid.rows]
    returned = [row for row, fate in zip(grid.rows, fates, strict=True) if fate in ("kept", "added")]
    assert returned == list(range(grid.size))
    assert fates.count("added") == max(grid.output_padding, 0)
    assert fates.count("cropped") == max(-grid.output_padding, 0)
    # output padding above 0 takes back rows that padding would remove
    assert fates.count("removed") == grid.p + max(0, grid.p - max(grid.output_padding, 0))


def test_a_long_axis_shows_its_start_and_its_end() -> None:
    view = View.of(Grid(n=126, size=251, k=4, s=2, p=1))
    assert view.inputs == [0, 1, 122, 123, 124, 125]
    assert view.rows == [-1, 0, 1, 2, 3, *range(244, 253)]
    assert [view.position(row) for row in (-1, 0, 3, 244, 252)] == [-1, 0, 3, 6, 14]
    assert view.end == 15


def test_a_short_axis_is_shown_whole() -> None:
    view = View.of(Grid(n=7, size=15, k=4, s=2, p=1))
    assert view.inputs == list(range(7))
    assert view.rows == list(range(-1, 15))
    assert [view.position(row) for row in view.rows] == view.rows
    assert View.of(Grid(n=8, size=16, k=4, s=2, p=1)).inputs == [0, 1, 4, 5, 6, 7]


@pytest.mark.parametrize(("stride", "inputs"), [(1, 8), (2, 6), (4, 4), (8, 3)])
def test_larger_strides_show_fewer_inputs(stride: int, inputs: int) -> None:
    view = View.of(Grid(n=99, size=99 * stride, k=2 * stride, s=stride, p=stride // 2))
    assert len(view.inputs) == inputs
    assert view.inputs[-1] == 98
    assert view.end == inputs * stride + View.GAP + stride - stride // 2
