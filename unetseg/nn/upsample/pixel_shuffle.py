"""Pixel shuffle: a convolution at the low resolution gives all phases of the high one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unetseg.errors import OptionError
from unetseg.geometry import Rounding
from unetseg.nn.upsample.alignment import Aligned, Axis, IntOrPair, crop_to, traces_a_graph
from unetseg.nn.upsample.guards import warn_of_artifacts

__all__ = ["PixelShuffleConv2d"]


class PixelShuffleConv2d(Aligned, nn.Module):
    """A convolution to stride^2 times the channels, whose channels become pixels, aligned to the wanted size.

    It is a transposed convolution in another order of work (kernel: stride times that of the convolution), so it
    aligns itself in the same way: where the skip is larger, the convolution gives one row more, which its kernel sees
    as it sees the border; where it is smaller, the last rows are left away.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the convolution's kernel, odd; not a pair.
        stride: How many times larger the output is, along height and width alike; not a pair.
        groups: Groups of channels.
        bias: Whether to add a bias.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        rounding: How the encoder stage rounds; only warnings depend on it.
        label: What errors call this layer; its class name if None. One with a label leaves warnings to whoever gave it.

    Shape:
        - input: (N, C_in, H, W) or (C_in, H, W), a floating-point tensor of any value range
        - output: (N, C_out, *size), or stride times the input where no size is given

    Raises:
        OptionError: If a setting has a value that it doesn't take.
        AlignmentError: In forward, if the size is out of reach.

    Source: Shi et al., arXiv:1609.05158; the equivalence, Shi et al., arXiv:1609.07009; ``torch.nn.PixelShuffle``.

    Example:
        >>> up = PixelShuffleConv2d(8, 4, stride=2)
        >>> up(torch.zeros(1, 8, 16, 16), size=(31, 33)).shape
        torch.Size([1, 4, 31, 33])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair = 3,
        stride: IntOrPair = 2,
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
        if not isinstance(stride, int):
            raise OptionError(f"{self.label}: stride is {stride}; a pixel shuffle has one integer for both axes.")
        kernel_size = self._check_odd(kernel_size)
        self._check_groups(groups, in_channels, out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.groups = kernel_size, stride, groups
        self.conv = nn.Conv2d(
            in_channels,
            out_channels * stride**2,
            kernel_size,
            padding=kernel_size // 2,
            groups=groups,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        if label is None:
            warn_of_artifacts([self])

    @property
    def axes(self) -> list[Axis]:
        """Settings of the equivalent transposed convolution, along height and width."""
        return [(self.kernel_size * self.stride, self.stride, self.kernel_size // 2 * self.stride, 1)] * 2

    @property
    def filling_kernel_size(self) -> int:
        """The least kernel_size whose output reaches one input pixel further."""
        return 3

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Upsample to ``size``.

        Args:
            x: (N, C_in, H, W) or (C_in, H, W).
            size: Wanted (height, width); stride times ``x`` if None.

        Raises:
            AlignmentError: If the size can't be reached; the message names the range that can.
        """
        sides = x.shape[-2:]
        height, width = self._wanted(x, size, (self.stride, self.stride))
        if traces_a_graph():
            self._check_known_sizes(sides, (height, width))
            x = F.pad(x, (0, 1, 0, 1))  # (N, C_in, H + 1, W + 1): one form for every size
        else:
            rows, columns = self._signed_output_padding(sides, (height, width))
            if rows > 0 or columns > 0:
                x = F.pad(x, (0, int(columns > 0), 0, int(rows > 0)))  # the convolution's own border, one row on
        x = F.pixel_shuffle(self.conv(x), self.stride)  # (N, C_out, at least height, at least width)
        return crop_to(x, height, width)

    @torch.no_grad()
    def copy_transposed_weight_(self, weight: Tensor) -> None:
        """Take over the weight of the equivalent transposed convolution.

        Args:
            weight: (C_in, C_out / groups, kernel_size * stride, kernel_size * stride).
        """
        g, s, k = self.groups, self.stride, self.kernel_size
        phases = weight.reshape(g, self.in_channels // g, self.out_channels // g, k, s, k, s)
        # tap t of the one is phase t % s, tap k - 1 - t // s of the other: a convolution runs the other way
        phases = phases.flip(3, 5).permute(0, 2, 4, 6, 1, 3, 5)  # (g, C_out / g, s, s, C_in / g, k, k)
        self.conv.weight.copy_(phases.reshape(self.conv.weight.shape))

    def extra_repr(self) -> str:
        """The arguments that the convolution inside doesn't show."""
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}, aligned"
