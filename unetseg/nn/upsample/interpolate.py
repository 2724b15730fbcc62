"""Interpolation, then a convolution: what most decoders do, here for comparison."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unetseg.errors import AlignmentError, OptionError
from unetseg.geometry import Rounding, skip_sizes
from unetseg.nn.upsample.alignment import Aligned, IntOrPair, pair

__all__ = ["InterpolateConv2d"]


class InterpolateConv2d(Aligned, nn.Module):
    """Interpolation to the wanted size, then a convolution.

    As in segmentation-models-pytorch the map is *stretched* to the size: where that isn't the stride times the input,
    pixels drift off the skip's grid, by up to a stride at the far end. That is what the aligned layers avoid; this one
    is the comparison. Its convolution runs at the high resolution.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the convolution's kernel, odd; not a pair.
        stride: About how many times larger the output is, or a pair (height, width).
        mode: "nearest" or "bilinear" (half-pixel centres).
        groups: Groups of the convolution's channels.
        bias: Whether the convolution adds a bias.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        rounding: Not used; the siblings have it.
        label: What errors call this layer; its class name if None.

    Shape:
        - input: (N, C_in, H, W), a floating-point tensor of any value range
        - output: (N, C_out, *size), or stride times the input where no size is given

    Raises:
        OptionError: If a setting has a value that it doesn't take.
        AlignmentError: In forward, if the size isn't that of a stage with this stride.

    Source: Odena et al., distill.pub 2016 ("resize-convolution"); ``torch.nn.functional.interpolate``.

    Example:
        >>> up = InterpolateConv2d(8, 4, stride=2, mode="bilinear")
        >>> up(torch.zeros(1, 8, 16, 16), size=(31, 33)).shape
        torch.Size([1, 4, 31, 33])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair = 3,
        stride: IntOrPair = 2,
        mode: Literal["nearest", "bilinear"] = "nearest",
        groups: int = 1,
        bias: bool = True,
        device: Any = None,  # whatever torch takes for a device
        dtype: torch.dtype | None = None,
        *,
        rounding: Rounding = "any",
        label: str | None = None,
    ) -> None:
        super().__init__()
        self._set_names(label, rounding)
        if mode not in ("nearest", "bilinear"):
            raise OptionError(f"{self.label}: mode is {mode!r}; it can be 'nearest' or 'bilinear'.")
        kernel_size = self._check_odd(kernel_size)
        self._check_groups(groups, in_channels, out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride, self.mode = pair(stride), mode
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            padding=kernel_size // 2,
            groups=groups,
            bias=bias,
            device=device,
            dtype=dtype,
        )

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Upsample to ``size``.

        Args:
            x: (N, C_in, H, W).
            size: Wanted (height, width); stride times ``x`` if None.

        Raises:
            AlignmentError: If no stage with this stride has such a skip.
        """
        height, width = self._wanted(x, size, self.stride)
        self._check_known_sizes(x.shape[-2:], (height, width))
        x = F.interpolate(x, (height, width), mode=self.mode)  # (N, C_in, height, width)
        return self.conv(x)  # type: ignore[no-any-return]  # torch types a module's call as Any

    def _check_known_sizes(self, sides: Sequence[int], size: Sequence[int]) -> None:
        for name, n, side, s in zip(("height", "width"), sides, size, self.stride, strict=True):
            # interpolation would stretch to any size, and so hide a wrong skip
            if type(n) is int and type(side) is int and abs(side - s * n) >= s:
                allowed = skip_sizes(n, s)
                raise AlignmentError(
                    f"{self.label}, {name}: from {n}, a stage of stride {s} has skips of {allowed[0]}..{allowed[-1]}; "
                    f"the wanted size is {side}. Is this skip another stage's?"
                )

    def extra_repr(self) -> str:
        """The arguments that the convolution inside doesn't show."""
        return f"stride={self.stride}, mode={self.mode!r}"
