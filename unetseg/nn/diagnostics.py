"""How much of a layer's output, or of logits, is a checkerboard."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unetseg.errors import OptionError

__all__ = ["checkerboard_energy", "layer_checkerboard_energy"]

WINDOW = 8  # periods; within them a pattern is taken to keep its sign


def checkerboard_energy(maps: Tensor, period: int) -> float:
    """The share of a map's energy that repeats with a period: 0 is none, 1 is nothing but the pattern.

    What is smooth is taken away first, so that gradients and constants don't count. What is left is averaged over the
    pixels that lie a whole number of periods apart, in windows of 8 periods a side, and the variance of these averages
    is compared with the map's mean square. Noise without a pattern gives about 1 / 64 of its own share.

    Args:
        maps: (N, C, H, W) or (C, H, W), floating point of any range: a layer's output, or logits; at least 10 periods
            a side.
        period: The stride whose pattern is looked for, in pixels of the map; 2 or more. A decoder's stage that ends
            at stride 4 shows in the logits at 4 times its own stride.

    Returns:
        A number from 0 to 1, or nan where the map has values that aren't finite.

    Raises:
        OptionError: If the period is below 2, or the maps have other dimensions or are too small.

    Source: the measure of Sugawara et al., APSIPA Transactions 2019 (the response to a constant), for any input.

    Example:
        >>> board = torch.ones(1, 1, 32, 32)
        >>> board[..., ::2] += 0.5
        >>> round(checkerboard_energy(board, 2), 3), checkerboard_energy(torch.ones(1, 1, 32, 32), 2)
        (0.038, 0.0)
    """
    if period < 2:
        raise OptionError(f"checkerboard_energy: period is {period}; a pattern repeats after 2 pixels or more.")
    if maps.dim() not in (3, 4):
        raise OptionError(f"checkerboard_energy: maps have {maps.dim()} dimensions; give (N, C, H, W) or (C, H, W).")
    least = (WINDOW + 2) * period
    if min(maps.shape[-2:]) < least:
        raise OptionError(
            f"checkerboard_energy: maps are {tuple(maps.shape[-2:])}; a period of {period} needs {least} pixels a side."
        )
    with torch.no_grad():
        x = maps.detach().double().flatten(0, -3).unsqueeze(1)  # (N * C, 1, H, W)
        triangle = torch.tensor([period - abs(i) for i in range(1 - period, period)]).to(x) / period**2
        smooth = F.conv2d(x, torch.outer(triangle, triangle)[None, None])
        margin = period - 1
        rough = x[..., margin:-margin, margin:-margin] - smooth
        side = WINDOW * period
        windows = rough.unfold(2, side, side).unfold(3, side, side)  # (N * C, 1, rows, columns, side, side)
        # (N * C, 1, rows, columns, period, period): the mean of the pixels a whole number of periods apart
        phases = windows.reshape(*windows.shape[:4], WINDOW, period, WINDOW, period).mean(dim=(4, 6))
        energy = x.square().mean()
        return float(phases.square().mean() / energy) if energy != 0 else 0.0


def layer_checkerboard_energy(layer: nn.Module, *, samples: int = 8, seed: int = 0) -> float:
    """The checkerboard that a layer adds to an input without any: constant maps, each channel with a value of its own.

    Args:
        layer: An upsampling layer of this package, or an ``nn.ConvTranspose2d``.
        samples: Number of inputs.
        seed: Of their values.

    Returns:
        The share of the output's energy, from 0 to 1, see :func:`checkerboard_energy`; the bias doesn't count.

    Raises:
        OptionError: If it isn't an upsampling layer, or its stride is 1 or differs between height and width.

    Example:
        >>> from unetseg.nn import BlurredConvTranspose2d
        >>> layer_checkerboard_energy(nn.ConvTranspose2d(4, 4, 3, stride=2)) > 0.01
        True
        >>> layer_checkerboard_energy(BlurredConvTranspose2d(4, 4, 3, stride=2)) < 1e-6
        True
    """
    if not hasattr(layer, "stride") or not hasattr(layer, "in_channels") or isinstance(layer, nn.Conv2d):
        raise OptionError(
            f"layer_checkerboard_energy: got {type(layer).__name__}; give a single upsampling layer, or measure a "
            f"network's logits with checkerboard_energy."
        )
    stride: Any = layer.stride  # torch types attributes as tensor or module; so the next
    in_channels: Any = layer.in_channels
    strides: set[int] = set(stride) if isinstance(stride, tuple) else {stride}
    if len(strides) > 1 or strides == {1}:
        raise OptionError(f"layer_checkerboard_energy: the stride is {stride}; one above 1 for both axes has a period.")
    (period,) = strides
    generator = torch.Generator().manual_seed(seed)
    weight = next(layer.parameters())
    values = torch.randn(samples, in_channels, 1, 1, generator=generator)
    inner, border = WINDOW + 4, 8
    constant = values.expand(-1, -1, inner + 2 * border, inner + 2 * border).to(weight)
    with torch.no_grad():
        output = layer(constant) - layer(torch.zeros_like(constant))  # without the bias, which has no pattern
    cut = border * period
    return checkerboard_energy(output[..., cut : cut + inner * period, cut : cut + inner * period], period)
