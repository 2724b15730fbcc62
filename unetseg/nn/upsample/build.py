"""Upsampling layers by name."""

from typing import Any, Literal

from unetseg.config import UpsampleInit, UpsampleMethod, check_choice
from unetseg.errors import OptionError
from unetseg.geometry import Rounding, filling_kernel
from unetseg.nn.init import initialize_upsample_
from unetseg.nn.upsample.alignment import IntOrPair, pair
from unetseg.nn.upsample.blurred import BlurredConvTranspose2d
from unetseg.nn.upsample.conv_transpose import AlignedConvTranspose2d
from unetseg.nn.upsample.interpolate import InterpolateConv2d
from unetseg.nn.upsample.pixel_shuffle import PixelShuffleConv2d

__all__ = ["Upsampling", "build_upsample"]

Upsampling = AlignedConvTranspose2d | PixelShuffleConv2d | InterpolateConv2d
"""A layer with ``forward(x, size)``."""


def build_upsample(
    in_channels: int,
    out_channels: int,
    *,
    method: UpsampleMethod = "conv_transpose",
    stride: IntOrPair = 2,
    kernel_size: IntOrPair | None = None,
    padding: Literal["auto"] | IntOrPair = "auto",
    dilation: IntOrPair = 1,
    groups: int = 1,
    bias: bool = True,
    init: UpsampleInit | None = None,
    gain: float = 1.0,
    rounding: Rounding = "any",
    label: str | None = None,
) -> Upsampling:
    """Build an upsampling layer by its name, with weights to start from.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        method: As in ``UpsampleOptions``.
        stride: Ratio of the sizes, or a pair (height, width).
        kernel_size: Of the transposed convolution, or of the convolution in the other methods. None: the least that
            overlaps evenly and leaves no pixel without input (4 at stride 2); the stride where it is blurred; 3 in the
            other methods.
        padding: Of a transposed convolution: "auto" plans it.
        dilation: Of a transposed convolution.
        groups: Groups of channels.
        bias: Whether to add a bias.
        init: As in ``UpsampleOptions``.
        gain: Wanted ratio of the output's root mean square to the input's, for the random initialisations.
        rounding: How the encoder stage rounds: "up", "down" or "any".
        label: What errors call this layer.

    Raises:
        OptionError: If a setting has a value that the method doesn't take.
        AlignmentError: If the kernel can't serve the stride.

    Example:
        >>> build_upsample(8, 4, method="pixel_shuffle")
        PixelShuffleConv2d(
          8, 4, stride=2, aligned
          (conv): Conv2d(8, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
        )
    """
    check_choice("upsample.method", method, UpsampleMethod)
    shared: dict[str, Any] = {"groups": groups, "bias": bias, "rounding": rounding, "label": label}
    transposed: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    layer: Upsampling
    if method == "conv_transpose":
        height, width = (filling_kernel(s, rounding) for s in pair(stride))
        kernel = (height, width) if kernel_size is None else kernel_size
        layer = AlignedConvTranspose2d(in_channels, out_channels, kernel, **transposed, **shared)
    elif method == "blurred_conv_transpose":
        kernel = stride if kernel_size is None else kernel_size
        layer = BlurredConvTranspose2d(in_channels, out_channels, kernel, **transposed, **shared)
    else:
        if padding != "auto" or dilation not in (1, (1, 1)):
            raise OptionError(
                f"{label or 'upsample'}: padding is {padding} and dilation {dilation}; method {method!r} has neither. "
                f"Leave them away, or use 'conv_transpose'."
            )
        kernel = 3 if kernel_size is None else kernel_size
        if method == "pixel_shuffle":
            layer = PixelShuffleConv2d(in_channels, out_channels, kernel, stride, **shared)
        else:
            layer = InterpolateConv2d(in_channels, out_channels, kernel, stride, method, **shared)
    initialize_upsample_(layer, init, gain)
    return layer
