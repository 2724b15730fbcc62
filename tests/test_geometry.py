"""The arithmetic, against brute force and against PyTorch itself."""

from itertools import product

import pytest
import torch
from torch.nn import functional as F

from unetseg.errors import AlignmentError
from unetseg.geometry import (
    bias_only_rows,
    classify_rounding,
    conv_transpose_output_size,
    leaves_holes,
    plan_padding,
    reachable_sizes,
    signed_output_padding,
    skip_sizes,
)

GRID = list(product(range(1, 10), range(1, 7), range(1, 5)))  # kernel, stride, dilation


def torch_output_size(n: int, k: int, s: int, p: int, d: int, output_padding: int) -> int:
    x, weight = torch.zeros(1, 1, n, 1), torch.zeros(1, 1, k, 1)
    y = F.conv_transpose2d(
        x, weight, stride=(s, 1), padding=(p, 0), output_padding=(output_padding, 0), dilation=(d, 1)
    )
    return y.shape[2]


@pytest.mark.parametrize(("k", "s", "d"), [case for case in GRID if case[0] <= 5 and case[1] <= 4 and case[2] <= 3])
def test_output_size_is_pytorchs(k: int, s: int, d: int) -> None:
    for n, p, output_padding in product((1, 4, 7), range(d * (k - 1) // 2 + 1), range(max(s, d))):
        expected = torch_output_size(n, k, s, p, d, output_padding)
        assert conv_transpose_output_size(n, k, s, p, d, output_padding) == expected


def test_the_worked_examples() -> None:
    assert conv_transpose_output_size(8, k=3, s=2, p=1, output_padding=1) == 16
    assert conv_transpose_output_size(16, k=2, s=2) == 32
    assert conv_transpose_output_size(16, k=2, s=2, output_padding=1) == 33


@pytest.mark.parametrize("rounding", ["up", "down", "any"])
def test_planned_padding_reaches_every_skip_or_none_would(rounding: str) -> None:
    n = 5
    for k, s, d in GRID:
        wanted = skip_sizes(n, s, rounding)

        def reaches(p: int, k: int = k, s: int = s, d: int = d, wanted: range = wanted) -> bool:
            least, greatest = reachable_sizes(n, k, s, p, d)
            return least <= wanted[0] and wanted[-1] <= greatest

        possible = [p for p in range(d * k + s) if k >= s and reaches(p)]
        try:
            planned = plan_padding(k, s, d, rounding)
        except AlignmentError:
            assert not possible, (k, s, d)
        else:
            assert planned in possible, (k, s, d)


@pytest.mark.parametrize(
    ("rounding", "planned"),
    [
        ("up", {2: 0, 3: 1, 4: 1, 5: 2}),
        ("down", {2: 0, 3: 0, 4: 1, 5: 1, 6: 2}),
        ("any", {2: 0, 3: 0, 4: 1, 5: 1}),
    ],
)
def test_planned_padding_of_stride_2(rounding: str, planned: dict[int, int]) -> None:
    assert {k: plan_padding(k, 2, 1, rounding) for k in planned} == planned


@pytest.mark.parametrize(("k", "s"), [(1, 2), (2, 4), (3, 4)])
def test_a_kernel_below_its_stride_is_refused(k: int, s: int) -> None:
    with pytest.raises(AlignmentError, match=f"kernel {k} is too small for stride {s}.*at least {s}"):
        plan_padding(k, s)


def test_signed_output_padding_pads_and_crops() -> None:
    assert [signed_output_padding(16, size, 4, 2, 1) for size in (31, 32, 33)] == [-1, 0, 1]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (16, r"reaches 30\.\.33; the wanted size is 16\. Is this skip another stage's\? Stride 1 would fit"),
        (64, r"reaches 30\.\.33; the wanted size is 64\. .*Stride 4 would fit"),
        (1000, r"the wanted size is 1000\. .*another stage's"),
    ],
)
def test_a_skip_of_another_stage_is_refused(size: int, message: str) -> None:
    with pytest.raises(AlignmentError, match=message):
        signed_output_padding(16, size, 4, 2, 1)


def test_an_unreachable_skip_comes_with_a_setting_that_works() -> None:
    with pytest.raises(AlignmentError, match=r"reaches 30\.\.32; .* 33\. Kernel 3 with padding 0"):
        signed_output_padding(16, 33, 3, 2, 1)
    assert signed_output_padding(16, 33, 3, 2, 0) == 0


def test_bias_only_rows_are_those_that_pytorch_leaves_at_the_bias() -> None:
    for k, s, d in [case for case in GRID if case[0] >= case[1] and case[0] <= 6 and case[1] <= 4]:
        p = min(1, d * (k - 1) // 2)
        for output_padding in range(max(s, d)):
            x, weight = torch.ones(1, 1, 5, 1), torch.ones(1, 1, k, 1)
            y = F.conv_transpose2d(x, weight, None, (s, 1), (p, 0), (output_padding, 0), 1, (d, 1))
            empty = int((y == 0).sum())
            assert bias_only_rows(5, y.shape[2], k, s, p, d) == empty, (k, s, p, d, output_padding)


def test_holes_are_where_dilation_and_stride_share_a_factor() -> None:
    assert [leaves_holes(4, 2, d) for d in (1, 2, 3, 4)] == [False, True, False, True]


def rounded(n: int, how: str) -> int:
    return (n + 1) // 2 if how == "up" else n // 2


@pytest.mark.parametrize("how", ["up", "down"])
def test_rounding_is_told_from_sizes(how: str) -> None:
    assert classify_rounding([(rounded(n, how), n) for n in range(30, 40)], 2) == how
    assert classify_rounding([(rounded(n, how), n) for n in range(30, 40, 2)], 2) == "any"
