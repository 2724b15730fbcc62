"""The measure of checkerboards, on patterns whose energy is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from unetseg import UNet
from unetseg.errors import OptionError
from unetseg.nn import (
    BlurredConvTranspose2d,
    InterpolateConv2d,
    PixelShuffleConv2d,
    build_upsample,
    checkerboard_energy,
    layer_checkerboard_energy,
)


def rows(period: int, amplitude: float = 1.0, side: int = 48) -> Tensor:
    """(1, 1, side, side): the first row of each period is high, the last low, the others 0."""
    pattern = torch.zeros(period)
    pattern[0], pattern[-1] = amplitude, -amplitude
    return pattern.repeat(side // period)[:, None].expand(1, 1, side, side).clone()


@pytest.mark.parametrize("period", [2, 3, 4])
@pytest.mark.parametrize("value", [0.0, 1.0, -1e6])
def test_constants_have_none(period: int, value: float) -> None:
    assert checkerboard_energy(torch.full((2, 3, 48, 41), value), period) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("period", [2, 3, 4])
def test_ramps_have_none(period: int) -> None:
    ramp = torch.arange(48.0)[:, None] + 2 * torch.arange(45.0) - 7
    assert checkerboard_energy(ramp.expand(2, 3, 48, 45), period) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("amplitude", "mean"), [(1.0, 0.0), (0.5, 2.0), (3.0, -1.0), (0.01, 1.0)])
@pytest.mark.parametrize("period", [2, 3, 4])
def test_a_boards_energy_is_its_share(amplitude: float, mean: float, period: int) -> None:
    variance = 2 * amplitude**2 / period  # two of the rows are not 0
    expected = pytest.approx(variance / (variance + mean**2), rel=1e-5)
    board = rows(period, amplitude) + mean
    assert checkerboard_energy(board, period) == expected
    assert checkerboard_energy(board.mT, period) == expected


def test_a_board_along_both_axes_has_both_shares() -> None:
    board = rows(2) + rows(2).mT
    assert checkerboard_energy(board, 2) == pytest.approx(1, rel=1e-9)
    assert checkerboard_energy(rows(2) * rows(2).mT, 2) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_scale_and_dtype_do_not_matter(dtype: torch.dtype) -> None:
    maps = (rows(2, 0.5) + torch.randn(2, 3, 48, 48)).to(dtype)
    energy = checkerboard_energy(maps, 2)
    for scale in (2.0**-20, -4.0, 2.0**20):  # powers of 2 are exact
        assert checkerboard_energy(maps * scale, 2) == pytest.approx(energy, rel=1e-9)


@pytest.mark.parametrize("period", [2, 3, 4])
def test_noise_has_little(period: int) -> None:
    torch.manual_seed(0)
    assert 0 < checkerboard_energy(torch.randn(2, 3, 64, 64), period) < 0.05


def test_other_periods_are_hardly_found() -> None:
    assert checkerboard_energy(rows(3), 2) < 0.02
    assert checkerboard_energy(rows(2), 3) < 0.02
    assert checkerboard_energy(rows(2), 4) == pytest.approx(1)  # what repeats after 2 repeats after 4


@pytest.mark.parametrize("flip", [33, 30])  # between windows, and within one
def test_a_board_whose_sign_flips_is_still_found(flip: int) -> None:
    board = rows(2, side=66)
    board[..., flip:, :] *= -1
    assert checkerboard_energy(board, 2) > 0.5


def test_maps_need_no_batch_and_keep_their_gradients() -> None:
    maps = rows(2).requires_grad_()
    assert checkerboard_energy(maps[0], 2) == checkerboard_energy(maps, 2)
    assert maps.grad is None


def test_what_has_no_period_is_refused() -> None:
    with pytest.raises(OptionError, match=r"period is 1; a pattern repeats after 2 pixels or more"):
        checkerboard_energy(torch.zeros(1, 1, 64, 64), 1)
    with pytest.raises(OptionError, match=r"maps are \(64, 19\); a period of 2 needs 20 pixels a side"):
        checkerboard_energy(torch.zeros(1, 1, 64, 19), 2)
    assert checkerboard_energy(torch.zeros(1, 1, 20, 20), 2) == 0


def test_a_plain_layer_with_an_uneven_kernel_is_found() -> None:
    torch.manual_seed(0)
    assert layer_checkerboard_energy(nn.ConvTranspose2d(8, 8, 3, stride=2)) > 0.01


@pytest.mark.parametrize(("kernel_size", "stride"), [(2, 2), (3, 2), (4, 2), (5, 3), (4, 4), (7, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_blurred_layer_has_none_whatever_its_weights(kernel_size: int, stride: int, bias: bool) -> None:
    layer = BlurredConvTranspose2d(4, 4, kernel_size, stride, bias=bias, label="layer")
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -3, 5)
    assert layer_checkerboard_energy(layer) < 1e-6


@pytest.mark.parametrize("init", ["smooth", "bilinear", "icnr"])
@pytest.mark.parametrize("method", ["conv_transpose", "blurred_conv_transpose", "pixel_shuffle"])
@pytest.mark.parametrize("stride", [2, 4])
def test_even_initialisations_have_none(init: str, method: str, stride: int) -> None:
    assert layer_checkerboard_energy(build_upsample(4, 4, method=method, stride=stride, init=init)) < 1e-6


@pytest.mark.parametrize("method", ["conv_transpose", "pixel_shuffle"])
def test_random_phases_are_found(method: str) -> None:
    torch.manual_seed(0)
    assert layer_checkerboard_energy(build_upsample(8, 8, method=method, init="default")) > 0.01


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_interpolation_has_none(mode: str) -> None:
    assert layer_checkerboard_energy(InterpolateConv2d(4, 4, stride=2, mode=mode)) < 1e-6


def test_the_same_seed_gives_the_same_number() -> None:
    layer = PixelShuffleConv2d(4, 4)
    before = torch.get_rng_state()
    assert layer_checkerboard_energy(layer, seed=1) == layer_checkerboard_energy(layer, seed=1)
    assert layer_checkerboard_energy(layer, seed=1) != layer_checkerboard_energy(layer, seed=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("stride", [1, (2, 4), (1, 2)])
def test_a_layer_without_one_period_is_refused(stride: object) -> None:
    with pytest.raises(OptionError, match=r"the stride is \(\d, \d\); one above 1 for both axes has a period"):
        layer_checkerboard_energy(nn.ConvTranspose2d(4, 4, 4, stride))


def test_a_models_logits_can_be_measured() -> None:
    torch.manual_seed(0)
    net = UNet("resnet18", classes=2, encoder_depth=3).eval()
    with torch.no_grad():
        logits = net(torch.full((1, 3, 64, 64), 0.5))
    for period in (2, 4):
        assert 0 <= checkerboard_energy(logits, period) <= 1


def test_a_diverged_map_is_not_called_clean() -> None:
    assert math.isnan(checkerboard_energy(torch.full((1, 1, 32, 32), math.nan), 2))


def test_what_cannot_be_measured_is_explained() -> None:
    with pytest.raises(OptionError, match=r"maps have 2 dimensions; give \(N, C, H, W\) or"):
        checkerboard_energy(torch.zeros(32, 32), 2)
    for layer in (nn.Sequential(), nn.Conv2d(4, 4, 3, stride=2)):
        with pytest.raises(OptionError, match=r"give a single upsampling layer"):
            layer_checkerboard_energy(layer)
