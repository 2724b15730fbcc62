"""The signal keeps its scale from the deepest feature to the result."""

import statistics

import pytest
import torch
from torch import Tensor, nn

from unetseg.nn import AlignedConvTranspose2d, UNetDecoder, balanced_, bilinear_, build_upsample, smooth_


def rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


@pytest.mark.parametrize("channels", [(256, 128), (64, 32), (1280, 256)])
@pytest.mark.parametrize(("k", "s", "groups"), [(2, 2, 1), (3, 2, 1), (4, 2, 1), (4, 4, 1), (4, 2, 2), (5, 3, 1)])
def test_a_transposed_convolution_keeps_the_root_mean_square(
    channels: tuple[int, int], k: int, s: int, groups: int
) -> None:
    torch.manual_seed(0)
    layer = AlignedConvTranspose2d(*channels, k, stride=s, groups=groups, label="quiet")
    x = torch.randn(1, channels[0], 16, 16)
    smooth_(layer)
    assert rms(layer(x)[..., s:-s, s:-s]) == pytest.approx(1.0, abs=0.1)


def test_the_weights_spread_is_that_of_the_fan() -> None:
    torch.manual_seed(0)
    layer = AlignedConvTranspose2d(256, 128, 4, stride=2)
    smooth_(layer)
    assert layer.weight.std().item() == pytest.approx((256 * 4**2 / 2**2) ** -0.5, rel=0.05)


@pytest.mark.parametrize(("k", "s", "d"), [(2, 2, 1), (3, 2, 1), (4, 2, 1), (5, 2, 1), (4, 4, 1), (6, 3, 1), (3, 2, 3)])
def test_the_smooth_start_adds_no_pattern_of_the_strides_period(k: int, s: int, d: int) -> None:
    torch.manual_seed(0)
    layer = AlignedConvTranspose2d(8, 4, k, stride=s, dilation=d, label="quiet")
    smooth_(layer)
    interior = layer(torch.ones(1, 8, 12, 12))[..., 3 * s : -3 * s, 3 * s : -3 * s]
    torch.testing.assert_close(interior, interior[..., :1, :1].expand_as(interior))


def test_pytorchs_own_initialisation_does_not() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(256, 128, 4, 2, 1)
    assert rms(layer(torch.randn(1, 256, 16, 16))) < 0.5


@pytest.mark.filterwarnings("ignore:decoder stages")
@pytest.mark.parametrize("kernel_size", [2, 3, 4])
@pytest.mark.parametrize("merge", ["add", "concat"])
def test_the_scale_survives_the_decoder(merge: str, kernel_size: int) -> None:
    """In eval mode, where batch norm at its start is the identity: no stage drowns its skip or drowns in it.

    The last stages mix few channels, so a single draw may be off by a factor of three; their mean isn't.
    """
    channels = (3, 64, 64, 128, 256)
    options = {"upsample": {"kernel_size": kernel_size}, "block": {"merge": merge}}
    scales: dict[int, list[float]] = {}
    for seed in range(8):
        torch.manual_seed(seed)
        decoder = UNetDecoder(channels, (128, 64, 32, 16), rounding="up", **options).eval()
        for i, block in enumerate(decoder.blocks):
            for layer in (block.upsample_norm, block):
                seen = scales.setdefault(2 * i + (layer is block), [])
                layer.register_forward_hook(lambda _layer, _inputs, output, seen=seen: seen.append(rms(output)))
        decoder([torch.randn(2, c, 64 // 2**i, 64 // 2**i) for i, c in enumerate(channels)])
    means = [statistics.geometric_mean(seen) for seen in scales.values()]
    assert all(0.5 < mean < 2.0 for mean in means), means


METHODS = ["conv_transpose", "blurred_conv_transpose", "pixel_shuffle"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("init", ["smooth", "balanced", "icnr"])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_random_starts_keep_the_root_mean_square(method: str, init: str, kernel_size: int) -> None:
    torch.manual_seed(0)
    layer = build_upsample(256, 64, method=method, kernel_size=kernel_size, init=init, gain=2.0, label="layer")
    assert rms(layer(torch.randn(1, 256, 24, 24))[..., 6:-6, 6:-6]) == pytest.approx(2.0, abs=0.25)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize(("inputs", "outputs"), [(6, 6), (6, 2), (2, 6), (6, 4)])
def test_bilinear_keeps_a_constant(method: str, kernel_size: int, inputs: int, outputs: int) -> None:
    """The same constant, not only a constant."""
    layer = build_upsample(
        inputs, outputs, method=method, kernel_size=kernel_size, groups=2, init="bilinear", label="layer"
    )
    interior = layer(torch.full((1, inputs, 12, 12), 7.0), (23, 25))[..., 4:-5, 4:-5]
    torch.testing.assert_close(interior, torch.full_like(interior, 7.0))


@pytest.mark.parametrize(("kernel_size", "padding"), [(4, 1), (3, 1)])
def test_bilinear_is_pytorchs_interpolation(kernel_size: int, padding: int) -> None:
    layer = AlignedConvTranspose2d(3, 3, kernel_size, 2, padding, label="layer")
    bilinear_(layer)
    x = torch.rand(1, 3, 6, 7)
    if kernel_size == 4:  # half-pixel centres
        wanted = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
    else:  # corners
        wanted = nn.functional.interpolate(x, (11, 13), mode="bilinear", align_corners=True)
    got = layer(x, wanted.shape[-2:])
    torch.testing.assert_close(got[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1])


@pytest.mark.parametrize("method", ["conv_transpose", "pixel_shuffle"])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("kernel_size", [None, 3, 5])
def test_icnr_gives_nearest(method: str, stride: int, kernel_size: int | None) -> None:
    torch.manual_seed(0)
    layer = build_upsample(4, 6, method=method, stride=stride, kernel_size=kernel_size, init="icnr", label="layer")
    y = layer(torch.randn(2, 4, 5, 7))
    nearest = y[..., ::stride, ::stride].repeat_interleave(stride, -2).repeat_interleave(stride, -1)
    torch.testing.assert_close(y, nearest)


@pytest.mark.parametrize(("k", "s", "d"), [(3, 2, 1), (5, 2, 1), (4, 3, 1), (5, 3, 2), (4, 2, 1)])
def test_balanced_gives_every_phase_the_same_variance(k: int, s: int, d: int) -> None:
    torch.manual_seed(0)
    layer = AlignedConvTranspose2d(64, 64, k, stride=s, dilation=d, label="layer")
    balanced_(layer)
    y = layer(torch.randn(2, 64, 30, 30))[..., 4 * s : -4 * s, 4 * s : -4 * s]
    variances = torch.stack([y[..., i::s, j::s].var() for i in range(s) for j in range(s)])
    torch.testing.assert_close(variances, torch.ones_like(variances), atol=0.12, rtol=0)
    nn.init.normal_(layer.weight, std=0.1)  # one variance for all weights
    y = layer(torch.randn(2, 64, 30, 30))
    uneven = torch.stack([y[..., i::s, j::s].var() for i in range(s) for j in range(s)])
    assert (uneven.max() / uneven.min() > 1.5) == (k % s > 0)


@pytest.mark.parametrize("method", ["conv_transpose", "pixel_shuffle", "nearest"])
def test_default_is_pytorchs(method: str) -> None:
    torch.manual_seed(0)
    layer = build_upsample(4, 6, method=method, init="default")
    torch.manual_seed(0)
    shapes = {"conv_transpose": nn.ConvTranspose2d(4, 6, 4, 2, 1)}
    plain = shapes.get(method) or nn.Conv2d(4, 24 if method == "pixel_shuffle" else 6, 3)
    if method != "conv_transpose":
        torch.manual_seed(0)
        plain.reset_parameters()
    assert torch.equal(next(layer.parameters()), plain.weight)
