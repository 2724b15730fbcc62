"""One stage of a decoder: upsample, merge with the skip, convolve."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from unetseg.config import Activation, Attention, Merge, Norm, UpsampleInit, UpsampleMethod, check_choice
from unetseg.errors import AlignmentError, OptionError
from unetseg.geometry import Rounding
from unetseg.nn.attention import SCSE, AttentionGate
from unetseg.nn.init import activation_gain, initialize_conv_
from unetseg.nn.norm import NormAct, build_activation
from unetseg.nn.upsample import build_upsample
from unetseg.nn.upsample.alignment import IntOrPair
from unetseg.nn.upsample.guards import warn_of_artifacts

__all__ = ["ConvNormAct", "DecoderBlock"]


class ConvNormAct(nn.Sequential):
    """A convolution that keeps the size, a norm and an activation.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, odd.
        norm: As in :class:`unetseg.nn.NormAct`.
        activation: As in :class:`unetseg.nn.NormAct`.

    Shape:
        - input: (N, C_in, H, W)
        - output: (N, C_out, H, W)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        norm: Norm = "batch",
        activation: Activation = "relu",
    ) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=norm == "none")
        super().__init__(conv, *NormAct(out_channels, norm, activation))
        initialize_conv_(conv, activation_gain(activation))


class DecoderBlock(nn.Module):
    """Upsample to the skip's size, merge with the skip, convolve; norm and activation after the merge and convolutions.

    With ``merge="concat"`` the upsampled map is normalised, which brings it to the scale of the skip that it is
    concatenated with, and two convolutions follow, as in the U-Net. But a convolution of a concatenation is the sum of
    one convolution of each part, and the upsampling is a convolution itself. So with "add" it is that of its part: a
    convolution of the skip alone is added to it, then come the norm and the second convolution. That is a convolution
    less on the upsampled map, no concatenated map, and without a skip no first convolution at all.

    Args:
        in_channels: Channels of the deeper map.
        skip_channels: Channels of the skip; 0 where there is none.
        out_channels: Channels of the result, and of the upsampled map before the merge.
        method: How to upsample: "conv_transpose", "blurred_conv_transpose", "pixel_shuffle", "nearest" or "bilinear".
        stride: Ratio of the sizes, or a pair (height, width).
        kernel_size: Of the upsampling, see :func:`unetseg.nn.build_upsample`; None for the method's own.
        padding: Of the transposed convolution, "auto" plans it.
        dilation: Of the transposed convolution.
        groups: Of the upsampling's channels.
        bias: Whether the upsampling adds a bias; None: where no norm follows.
        init: Weights that the upsampling starts from; None for the method's own.
        norm: "batch", "group", "instance", "layer" or "none".
        activation: "relu", "leaky_relu", "elu", "gelu", "silu" or "none".
        dropout: Probability with which a whole channel of the result is zeroed in training, 0 to below 1.
        residual: Whether the convolutions after the merge add to their input, brought to the result's channels by a
            1x1 convolution.
        attention: "scse" before and after the convolutions, "gate" on the skip by the upsampled map (with "add" before
            its norm), or "none".
        merge: "add" or "concat".
        rounding: How the encoder stage rounds: "up", "down" or "any".
        label: What errors call this block. One with a label leaves warnings to the decoder that gave it.

    Shape:
        - x: (N, C_in, H, W)
        - skip: (N, C_skip, H', W') with H' and W' about stride times H and W
        - output: (N, C_out, H', W')

    Raises:
        AlignmentError: If the kernel can't serve the stride, or the skip is out of reach, missing or unexpected.
        OptionError: If an option has a value that it doesn't take.

    Source: Ronneberger et al., "U-Net", arXiv:1505.04597, with padded convolutions and batch norm; residual: He et al.,
    arXiv:1512.03385; scSE: Roy et al., arXiv:1803.02579; gate: Oktay et al., arXiv:1804.03999.

    Example:
        >>> block = DecoderBlock(16, 8, 4, norm="group", attention="gate")
        >>> block(torch.zeros(2, 16, 5, 4), torch.zeros(2, 8, 9, 8)).shape
        torch.Size([2, 4, 9, 8])
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        *,
        method: UpsampleMethod = "conv_transpose",
        stride: IntOrPair = 2,
        kernel_size: IntOrPair | None = None,
        padding: Literal["auto"] | IntOrPair = "auto",
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool | None = None,
        init: UpsampleInit | None = None,
        norm: Norm = "batch",
        activation: Activation = "relu",
        dropout: float = 0.0,
        residual: bool = False,
        attention: Attention = "none",
        merge: Merge = "add",
        rounding: Rounding = "any",
        label: str | None = None,
    ) -> None:
        super().__init__()
        check_choice("block.attention", attention, Attention)
        check_choice("block.merge", merge, Merge)
        if not 0 <= dropout < 1:
            raise OptionError(f"block.dropout is {dropout}; it is a probability, from 0 to below 1.")
        gain = activation_gain(activation)
        if merge == "add" and skip_channels:
            gain /= math.sqrt(2)  # two terms of equal variance
        self.upsample = build_upsample(
            in_channels,
            out_channels,
            method=method,
            stride=stride,
            kernel_size=kernel_size,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=norm == "none" if bias is None else bias,
            init=init,
            gain=gain,
            rounding=rounding,
            label=label or type(self).__name__,
        )
        if label is None:
            warn_of_artifacts([self.upsample])
        joined = out_channels + (skip_channels if merge == "concat" else 0)
        self.skip_channels = skip_channels
        self.upsample_norm = NormAct(out_channels, norm, activation)
        self.gate = AttentionGate(out_channels, skip_channels) if attention == "gate" and skip_channels else None
        self.conv1: ConvNormAct | None = None
        self.skip_conv: nn.Conv2d | None = None
        if merge == "concat":
            self.conv1 = ConvNormAct(joined, out_channels, norm=norm, activation=activation)
        elif skip_channels:
            self.skip_conv = nn.Conv2d(skip_channels, out_channels, kernel_size=3, padding=1, bias=False)
            initialize_conv_(self.skip_conv, gain)
        self.conv2 = ConvNormAct(out_channels, out_channels, norm=norm, activation="none" if residual else activation)
        scse = attention == "scse"
        self.attention1 = SCSE(joined) if scse else nn.Identity()
        self.attention2 = SCSE(out_channels) if scse else nn.Identity()
        self.shortcut = (
            ConvNormAct(joined, out_channels, kernel_size=1, norm=norm, activation="none") if residual else None
        )
        self.activation = nn.Sequential(*build_activation(activation)) if residual else nn.Identity()
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor, skip: Tensor | None = None, size: Sequence[int] | None = None) -> Tensor:
        """Upsample ``x`` to the skip's size, or to ``size`` where there is no skip.

        Args:
            x: (N, C_in, H, W).
            skip: (N, C_skip, H', W') or None.
            size: Wanted (height, width) without a skip; stride times ``x`` if None.
        """
        if (skip is None) == bool(self.skip_channels):
            raise AlignmentError(
                f"{self.upsample.label}: it was built for a skip of {self.skip_channels} channels (0: without one), "
                f"and got {'none' if skip is None else f'one of {skip.shape[1]}'}."
            )
        x = self.upsample(x, size=size if skip is None else skip.shape[-2:])  # (N, C_out, H', W')
        x = self.attention1(self._add(x, skip) if self.conv1 is None else self._concat(x, skip))
        result = self.conv2(x if self.conv1 is None else self.conv1(x))  # (N, C_out, H', W')
        if self.shortcut is not None:
            result = self.activation(result + self.shortcut(x))
        return self.dropout(self.attention2(result))  # type: ignore[no-any-return]  # torch types a module's call as Any

    def _concat(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = self.upsample_norm(x)
        if skip is None:
            return x
        return torch.cat([x, skip if self.gate is None else self.gate(x, skip)], dim=1)  # (N, C_out + C_skip, H', W')

    def _add(self, x: Tensor, skip: Tensor | None) -> Tensor:
        if skip is not None and self.skip_conv is not None:
            # in place on the convolution's result, which its backward doesn't need
            x = self.skip_conv(skip if self.gate is None else self.gate(x, skip)).add_(x)
        return self.upsample_norm(x)  # type: ignore[no-any-return]  # torch types a module's call as Any
