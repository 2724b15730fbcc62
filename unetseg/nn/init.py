"""What layers compute before they have learned: signals keep their scale from the deepest feature to the logits."""

import math
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from unetseg.config import Activation, UpsampleInit, check_choice
from unetseg.errors import OptionError
from unetseg.geometry import overlap

__all__ = [
    "activation_gain",
    "balanced_",
    "bilinear_",
    "icnr_",
    "initialize_conv_",
    "initialize_head_",
    "initialize_upsample_",
    "smooth_",
]


class _PixelShuffle(Protocol):
    """What the functions here need of a ``PixelShuffleConv2d``: the transposed convolution that it amounts to."""

    conv: nn.Conv2d
    in_channels: int
    out_channels: int
    groups: int

    @property
    def axes(self) -> list[tuple[int, int, int, int]]: ...

    def copy_transposed_weight_(self, weight: Tensor) -> None: ...


Layer = nn.ConvTranspose2d | _PixelShuffle


def smooth_(layer: Layer, gain: float = 1.0) -> None:
    """Random weights that keep the signal's scale, and start as an interpolation of the mixed channels.

    Scale: an output pixel gets ``in_channels / groups * k^2 / s^2`` products on average, which is the fan to divide
    by. PyTorch's default counts ``out_channels * k^2`` instead: right for the gradient of a convolution, but
    in a decoder it shrinks the signal at every stage to 0.4 to 0.65 of its scale, while the skips arrive
    at full strength.

    Smoothness: independent weights would give each phase of the stride its own random mixture of the channels, and
    turn a smooth map into noise of the stride's period, which the decoder first has to unlearn. So all taps
    share one mixture, times the kernel of linear interpolation (nearest neighbour where the kernel is no larger
    than the stride). Only the start is so: every tap is learned on its own. The bias becomes 0.

    Args:
        layer: Any ``nn.ConvTranspose2d``, or a ``PixelShuffleConv2d``; changed in place.
        gain: Wanted ratio of the output's root mean square to that of an uncorrelated input.

    Source: the argument of He et al., arXiv:1502.01852, section 2.2, with the fan of a transposed convolution.

    Example:
        >>> layer = nn.ConvTranspose2d(8, 4, kernel_size=4, stride=2, padding=1)
        >>> smooth_(layer)
        >>> constant = layer(torch.ones(1, 8, 5, 5))[..., 1:-1, 1:-1]
        >>> torch.allclose(constant, constant[..., :1, :1], atol=1e-5)
        True
    """
    kernel = _outer([_linear_taps(k, s, d) for k, s, _, d in _axes(layer)])
    fan = layer.in_channels / layer.groups
    for k, s, _, _ in _axes(layer):
        fan *= k / s
    scale = gain / math.sqrt(fan) / kernel.square().mean().sqrt()
    _fill(layer, _mixture(layer)[..., None, None] * kernel * scale)


def balanced_(layer: Layer, gain: float = 1.0) -> None:
    """Independent random weights, scaled so that every phase of the stride has the same variance.

    Where the stride doesn't divide the kernel, some output pixels are sums of more taps than others: 1, 2 or 4 for
    kernel 3 and stride 2. With one variance for all weights their outputs differ by as much, which is a
    checkerboard in the noise level. Here a tap's variance is divided by the number of taps that meet in its pixels.
    The phases still are independent mixtures of the channels, so a constant input isn't answered by a constant; for
    that, take :func:`smooth_`. The bias becomes 0.

    Args:
        layer: Any ``nn.ConvTranspose2d``, or a ``PixelShuffleConv2d``; changed in place.
        gain: Wanted ratio of the output's root mean square to that of an uncorrelated input, in every phase.

    Source: the argument of He et al., arXiv:1502.01852, section 2.2, applied to each phase.
    """
    met = []
    for k, s, _, d in _axes(layer):
        taps = overlap(k, s, d)
        met.append([taps[d * tap % s] ** -0.5 for tap in range(k)])
    mean = gain / math.sqrt(layer.in_channels / layer.groups)
    _fill(layer, _random(layer) * _outer(met) * mean)


def bilinear_(layer: Layer) -> None:
    """Linear interpolation of the channels as they are: a constant stays the same constant away from the border.

    Where the numbers of channels differ, an output channel is the mean of neighbouring inputs, or neighbouring outputs
    share an input. Kernel 4 with stride 2 and padding 1 interpolates with half-pixel centres, as
    ``align_corners=False`` does; a kernel no larger than the stride repeats pixels. The bias becomes 0.

    Args:
        layer: Any ``nn.ConvTranspose2d``, or a ``PixelShuffleConv2d``; changed in place.

    Source: Long et al., "Fully Convolutional Networks", arXiv:1411.4038, section 4.3.

    Example:
        >>> layer = nn.ConvTranspose2d(2, 2, kernel_size=4, stride=2, padding=1)
        >>> bilinear_(layer)
        >>> x = torch.rand(1, 2, 5, 7)
        >>> wanted = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
        >>> torch.allclose(layer(x)[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], atol=1e-6)
        True
    """
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    shared = torch.zeros(inputs, outputs)
    for i in range(max(inputs, outputs)):
        shared[i * inputs // max(inputs, outputs), i * outputs // max(inputs, outputs)] = 1
    shared /= shared.sum(dim=0)
    kernel = _outer([_linear_taps(k, s, d) for k, s, _, d in _axes(layer)])
    _fill(layer, shared.repeat(layer.groups, 1)[..., None, None] * kernel, random=False)


def icnr_(layer: Layer, gain: float = 1.0) -> None:
    """Random weights that start as nearest-neighbour interpolation: every phase of the stride gets the same.

    The taps that write an input pixel's own output pixels share one random mixture of the channels, the others are 0,
    so there is no checkerboard at the start. The bias becomes 0.

    Args:
        layer: Any ``nn.ConvTranspose2d`` with a kernel of at least padding + stride, or a ``PixelShuffleConv2d``;
            changed in place.
        gain: Wanted ratio of the output's root mean square to that of an uncorrelated input.

    Raises:
        OptionError: If the kernel doesn't cover a pixel's own outputs, or its taps are spaced by a dilation.

    Source: Aitken et al., "Checkerboard artifact free sub-pixel convolution", arXiv:1707.02937.

    Example:
        >>> layer = nn.ConvTranspose2d(3, 1, kernel_size=4, stride=2, padding=1)
        >>> icnr_(layer)
        >>> y = layer(torch.rand(1, 3, 5, 5))
        >>> torch.equal(y[..., 0::2, :], y[..., 1::2, :])
        True
    """
    taps = []
    for k, s, p, d in _axes(layer):
        if k < p + s or d > 1:
            raise OptionError(
                f"init 'icnr': kernel {k} stride {s} padding {p} dilation {d} doesn't cover an input pixel's own {s} "
                f"outputs; use a kernel of at least {p + s} without dilation, or init 'smooth'."
            )
        taps.append([float(p <= tap < p + s) for tap in range(k)])
    scale = gain / math.sqrt(layer.in_channels / layer.groups)
    _fill(layer, _mixture(layer)[..., None, None] * _outer(taps) * scale)


def initialize_upsample_(layer: nn.Module, init: UpsampleInit | None = None, gain: float = 1.0) -> None:
    """Initialise an upsampling layer by name, in place.

    Args:
        layer: One of ``unetseg.nn.upsample``.
        init: As in ``UpsampleOptions``. None: "smooth", for a pixel shuffle "icnr", and for the convolution after an
            interpolation Kaiming's rule.
        gain: As in :func:`smooth_`, for the random ones.

    Raises:
        OptionError: If there is no such initialisation, or the layer can't have it.
    """
    if init is not None:
        check_choice("upsample.init", init, UpsampleInit)
    shuffles = hasattr(layer, "copy_transposed_weight_")
    if not isinstance(layer, nn.ConvTranspose2d) and not shuffles:
        if init not in (None, "default"):
            raise OptionError(
                f"upsample.init is {init!r}; a layer that interpolates can have 'default' (PyTorch's), or none of it."
            )
        conv: nn.Conv2d = layer.conv  # type: ignore[assignment]  # torch types attributes as tensor or module
        if init is None:
            initialize_conv_(conv, gain)
        return
    transposed: Layer = layer  # type: ignore[assignment]  # one of the two, as was asked above
    name = init or ("icnr" if shuffles else "smooth")
    if name == "bilinear":
        bilinear_(transposed)
    elif name != "default":
        {"smooth": smooth_, "balanced": balanced_, "icnr": icnr_}[name](transposed, gain)


def initialize_conv_(conv: nn.Conv2d, gain: float = 1.0) -> None:
    """Kaiming's normal weights for the fan in, and a zero bias, in place (He et al., arXiv:1502.01852)."""
    fan = conv.weight[0].numel()
    nn.init.normal_(conv.weight, std=gain / math.sqrt(fan))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def initialize_head_(head: nn.Conv2d) -> None:
    """Xavier weights and a zero bias: at the start, logits are small and no class is preferred."""
    nn.init.xavier_uniform_(head.weight)
    if head.bias is not None:
        nn.init.zeros_(head.bias)


def activation_gain(activation: Activation) -> float:
    """What weights before an activation are multiplied by, so that the signal keeps its scale behind it.

    Source: ``torch.nn.init.calculate_gain``; the smooth relatives of ReLU are taken as ReLU.
    """
    if activation == "none":
        return 1.0
    name: Literal["leaky_relu", "relu"] = "leaky_relu" if activation == "leaky_relu" else "relu"
    return nn.init.calculate_gain(name)


def _axes(layer: Layer) -> list[tuple[int, int, int, int]]:
    """(kernel, stride, padding, dilation) of the weights that are learned."""
    if isinstance(layer, nn.ConvTranspose2d):
        # torch types padding as possibly a string, which it is for no transposed convolution
        settings = (layer.kernel_size, layer.stride, tuple(map(int, layer.padding)), layer.dilation)
        return list(zip(*settings, strict=True))
    return layer.axes


@torch.no_grad()
def _fill(layer: Layer, weight: Tensor, *, random: bool = True) -> None:
    if isinstance(layer, nn.ConvTranspose2d):
        layer.weight.copy_(weight)
        bias = layer.bias
        blurred = getattr(layer, "blurred_weight", None)
        if random and blurred is not None:  # what the blur takes from the scale is given back
            layer.weight *= layer.weight.norm() / blurred().norm()
    else:
        layer.copy_transposed_weight_(weight)
        bias = layer.conv.bias
    if bias is not None:
        nn.init.zeros_(bias)


def _mixture(layer: Layer) -> Tensor:
    """A random number for each pair of an input and an output channel."""
    return torch.randn(layer.in_channels, layer.out_channels // layer.groups)


def _random(layer: Layer) -> Tensor:
    """A random number for each weight, in the transposed convolution's shape."""
    sides = [k for k, _, _, _ in _axes(layer)]
    return torch.randn(layer.in_channels, layer.out_channels // layer.groups, *sides)


def _outer(taps: list[list[float]]) -> Tensor:
    rows, columns = map(torch.tensor, taps)
    return torch.outer(rows, columns)


def _linear_taps(k: int, s: int, d: int) -> list[float]:
    """Taps of linear interpolation by s; those that meet in an output pixel sum to 1.

    Example:
        >>> _linear_taps(4, 2, 1), _linear_taps(3, 2, 1), _linear_taps(2, 2, 1)
        ([0.25, 0.75, 0.75, 0.25], [0.5, 1.0, 0.5], [1.0, 1.0])
    """
    tent = [max(0.0, 1 - abs(tap - (k - 1) / 2) * d / s) for tap in range(k)]
    taps = []
    for tap in range(k):
        met = [tent[other] for other in range(k) if (other - tap) * d % s == 0]  # in the same output pixels
        taps.append(tent[tap] / sum(met) if sum(met) else 1 / len(met))
    return taps
