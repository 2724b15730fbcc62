"""One stage of a decoder: upsample, concatenate the skip, convolve twice."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from unetseg.geometry import Rounding
from unetseg.nn.init import initialize_decoder
from unetseg.nn.upsample import AlignedConvTranspose2d, IntOrPair

__all__ = ["ConvNormAct", "DecoderBlock"]


class ConvNormAct(nn.Sequential):
    """A 3x3 convolution that keeps the size, batch norm and ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.

    Shape:
        - input: (N, C_in, H, W)
        - output: (N, C_out, H, W), not negative
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            *NormAct(out_channels),
        )


class NormAct(nn.Sequential):
    """Batch norm and ReLU.

    Args:
        channels: Channels of input and output.

    Shape:
        - input: (N, C, H, W)
        - output: (N, C, H, W), not negative
    """

    def __init__(self, channels: int) -> None:
        super().__init__(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class DecoderBlock(nn.Module):
    """Upsample to the skip's size, concatenate the skip, two convolutions; norm and activation after each of them.

    The norm after the upsampling brings its map to the scale of the skip that it is concatenated with.

    Args:
        in_channels: Channels of the deeper map.
        skip_channels: Channels of the skip; 0 where there is none.
        out_channels: Channels of the result, and of the upsampled map before the concatenation.
        stride: Ratio of the sizes, or a pair (height, width).
        kernel_size: Of the transposed convolution; at least the stride.
        padding: Of the transposed convolution, "auto" plans it.
        dilation: Of the transposed convolution.
        groups: Of the transposed convolution.
        bias: Of the transposed convolution; the norm that follows has one of its own.
        rounding: How the encoder stage rounds: "up", "down" or "any".
        label: What errors call this block.

    Shape:
        - x: (N, C_in, H, W)
        - skip: (N, C_skip, H', W') with H' and W' about stride times H and W
        - output: (N, C_out, H', W')

    Raises:
        AlignmentError: If the kernel can't serve the stride, or the skip is out of reach.

    Source: Ronneberger et al., "U-Net", arXiv:1505.04597, with padded convolutions and batch norm.

    Example:
        >>> block = DecoderBlock(16, 8, 4)
        >>> block(torch.zeros(2, 16, 5, 4), torch.zeros(2, 8, 9, 8)).shape
        torch.Size([2, 4, 9, 8])
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        *,
        stride: IntOrPair = 2,
        kernel_size: IntOrPair = 4,
        padding: Literal["auto"] | IntOrPair = "auto",
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = False,
        rounding: Rounding = "any",
        label: str | None = None,
    ) -> None:
        super().__init__()
        self.upsample = AlignedConvTranspose2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            rounding=rounding,
            label=label,
        )
        self.upsample_norm = NormAct(out_channels)
        self.conv1 = ConvNormAct(out_channels + skip_channels, out_channels)
        self.conv2 = ConvNormAct(out_channels, out_channels)
        initialize_decoder(self)

    def forward(self, x: Tensor, skip: Tensor | None = None, size: Sequence[int] | None = None) -> Tensor:
        """Upsample ``x`` to the skip's size, or to ``size`` where there is no skip.

        Args:
            x: (N, C_in, H, W).
            skip: (N, C_skip, H', W') or None.
            size: Wanted (height, width) without a skip; stride times ``x`` if None.
        """
        x = self.upsample(x, size=size if skip is None else skip.shape[-2:])  # (N, C_out, H', W')
        x = self.upsample_norm(x)
        if skip is not None:
            x = torch.cat([x, skip], dim=1)  # (N, C_out + C_skip, H', W')
        x = self.conv1(x)  # (N, C_out, H', W')
        return self.conv2(x)  # type: ignore[no-any-return]  # torch types a module's call as Any
