"""The signal keeps its scale from the deepest feature to the result."""

import pytest
import torch
from torch import Tensor, nn

from unetseg.nn import AlignedConvTranspose2d, UNetDecoder
from unetseg.nn.init import initialize_decoder, variance_preserving_


def rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


@pytest.mark.parametrize("channels", [(256, 128), (64, 32), (1280, 256)])
@pytest.mark.parametrize(("k", "s", "groups"), [(2, 2, 1), (3, 2, 1), (4, 2, 1), (4, 4, 1), (4, 2, 2), (5, 3, 1)])
def test_a_transposed_convolution_keeps_the_root_mean_square(
    channels: tuple[int, int], k: int, s: int, groups: int
) -> None:
    torch.manual_seed(0)
    layer = AlignedConvTranspose2d(*channels, k, stride=s, groups=groups)
    x = torch.randn(1, channels[0], 16, 16)
    variance_preserving_(layer)
    assert rms(layer(x)[..., s:-s, s:-s]) == pytest.approx(1.0, abs=0.1)


def test_the_weights_spread_is_that_of_the_fan() -> None:
    torch.manual_seed(0)
    layer = AlignedConvTranspose2d(256, 128, 4, stride=2)
    assert variance_preserving_(layer).std().item() == pytest.approx((256 * 4**2 / 2**2) ** -0.5, rel=0.05)


@pytest.mark.parametrize(("k", "s", "d"), [(2, 2, 1), (3, 2, 1), (4, 2, 1), (5, 2, 1), (4, 4, 1), (6, 3, 1), (3, 2, 3)])
def test_the_smooth_start_adds_no_pattern_of_the_strides_period(k: int, s: int, d: int) -> None:
    torch.manual_seed(0)
    layer = AlignedConvTranspose2d(8, 4, k, stride=s, dilation=d)
    variance_preserving_(layer)
    interior = layer(torch.ones(1, 8, 12, 12))[..., 3 * s : -3 * s, 3 * s : -3 * s]
    torch.testing.assert_close(interior, interior[..., :1, :1].expand_as(interior))


def test_pytorchs_own_initialisation_does_not() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(256, 128, 4, 2, 1)
    assert rms(layer(torch.randn(1, 256, 16, 16))) < 0.5


@pytest.mark.parametrize("kernel_size", [2, 3, 4])
def test_the_scale_survives_the_decoder(kernel_size: int) -> None:
    """In eval mode, where batch norm at its start is the identity: no stage drowns its skip or drowns in it."""
    torch.manual_seed(0)
    channels = (3, 64, 64, 128, 256)
    decoder = UNetDecoder(channels, (128, 64, 32, 16), rounding="up", upsample={"kernel_size": kernel_size}).eval()
    scales = []
    for block in decoder.blocks:
        block.upsample_norm.register_forward_hook(lambda _layer, _inputs, output: scales.append(rms(output)))
    skips = [torch.randn(2, c, 64 // 2**i, 64 // 2**i) for i, c in enumerate(channels)]
    assert 0.4 < rms(decoder(skips)) < 2.0
    assert all(0.5 < scale < 2.0 for scale in scales), scales


def test_the_whole_decoder_is_initialised() -> None:
    decoder = UNetDecoder((3, 8, 8), (8, 4))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.fill_(7.0)
    initialize_decoder(decoder)
    assert all((parameter != 7.0).all() for parameter in decoder.parameters())
