"""Heads: logits of the exact size."""

from itertools import product

import pytest
import torch
from torch import nn

from unetseg.errors import AlignmentError
from unetseg.geometry import skip_sizes
from unetseg.nn import AuxiliaryHead, SegmentationHead, build_upsample


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_the_head_keeps_the_size(kernel_size: int, size: tuple[int, int]) -> None:
    head = SegmentationHead(16, 3, kernel_size)
    x = torch.randn(2, 16, *size)
    logits = head(x)
    assert logits.shape == (2, 3, *size)
    assert torch.equal(logits, head(x, size=size))
    assert torch.equal(logits, nn.functional.conv2d(x, head.weight, head.bias, padding=kernel_size // 2))
    assert not head.bias.any()


@pytest.mark.parametrize("stride", [2, 4, 8, 16])
@pytest.mark.parametrize("rounding", ["up", "down", "any"])
def test_an_auxiliary_heads_logits_have_the_images_size(stride: int, rounding: str) -> None:
    head = AuxiliaryHead(4, 3, stride=stride, rounding=rounding)
    for low in ((3, 2), (1, 1)):
        heights, widths = (list(skip_sizes(n, stride, rounding)) for n in low)
        for height, width in zip(heights, reversed(widths), strict=True):
            assert head(torch.randn(1, 4, *low), size=(height, width)).shape == (1, 3, height, width)


@pytest.mark.parametrize("stride", [2, 4, 8, 16])
@pytest.mark.parametrize("rounding", ["up", "down", "any"])
def test_an_auxiliary_head_starts_as_interpolation(stride: int, rounding: str) -> None:
    head = AuxiliaryHead(4, 3, stride=stride, rounding=rounding)
    constant = torch.randn(2, 4, 1, 1)
    logits = head(constant.expand(2, 4, 7, 6), size=(7 * stride, 6 * stride))
    interior = logits[..., 2 * stride : -2 * stride, 2 * stride : -2 * stride]
    torch.testing.assert_close(interior, head.classifier(constant).expand_as(interior), rtol=1e-4, atol=1e-5)


def test_an_auxiliary_head_at_stride_2_is_pytorchs_interpolation() -> None:
    head, x = AuxiliaryHead(4, 3, stride=2), torch.randn(2, 4, 6, 5)
    wanted = nn.functional.interpolate(head.classifier(x), scale_factor=2, mode="bilinear")
    torch.testing.assert_close(head(x, size=(12, 10))[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-5)


def test_every_parameter_of_an_auxiliary_head_gets_a_gradient() -> None:
    head = AuxiliaryHead(4, 3, stride=8)
    head(torch.randn(2, 4, 5, 3), size=(37, 21)).square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in head.parameters())


def test_another_stages_size_is_explained() -> None:
    head = AuxiliaryHead(4, 3, stride=4, label="auxiliary head 1")
    with pytest.raises(AlignmentError, match=r"auxiliary head 1, height: from 5, .* size is 40"):
        head(torch.randn(1, 4, 5, 5), size=(40, 20))


def test_an_upsampling_head_is_any_upsampling_layer() -> None:
    head = build_upsample(16, 3, stride=2, label="head")
    for height, width in product((17, 18, 19), (23, 24, 25)):
        assert head(torch.randn(2, 16, 9, 12), size=(height, width)).shape == (2, 3, height, width)
    with pytest.raises(AlignmentError, match=r"head, width: from 12, .* size is 40"):
        head(torch.randn(2, 16, 9, 12), size=(18, 40))
