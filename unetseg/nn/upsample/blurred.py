"""A transposed convolution followed by a blur, computed as one transposed convolution."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unetseg.geometry import Rounding, plan_padding
from unetseg.nn.upsample.alignment import Axis, IntOrPair, pair
from unetseg.nn.upsample.conv_transpose import AlignedConvTranspose2d

__all__ = ["BlurredConvTranspose2d"]


class BlurredConvTranspose2d(AlignedConvTranspose2d):
    """A transposed convolution whose output is blurred just enough to remove every checkerboard.

    The blur is fixed: the triangle of 2 * stride - 1 taps ([1, 2, 1] / 4 at stride 2), which takes away all that
    repeats with the stride's period and moves nothing. A constant input therefore gives a constant interior whatever
    the weights, even where the stride doesn't divide the kernel, and they can't learn the pattern either.

    Both steps are linear, so they are one: the layer blurs its kernel and runs a single aligned transposed convolution
    of kernel + 2 * stride - 2. So no full-size map is made twice, and the border needs no padding of its own.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Of the learned kernel, a side or a pair (height, width).
        stride: Stride, or a pair.
        padding: Of the transposed convolution before the blur; "auto" plans it for both.
        groups: Groups of channels.
        bias: Whether to add a bias, after the blur.
        dilation: Spacing of the learned kernel's taps, or a pair.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        rounding: How the encoder stage rounds, for ``padding="auto"``: "up", "down" or "any".
        label: What errors call this layer; its class name if None.

    Shape:
        - input: (N, C_in, H, W) or (C_in, H, W), a floating-point tensor of any value range
        - output: (N, C_out, *size), or stride times the input where no size is given

    Raises:
        AlignmentError: If the kernel can't serve the stride (when built), or the size is out of reach (in forward).
        OptionError: If another setting has a value that it doesn't take.

    Source: Sugawara et al., "Checkerboard artifacts free convolutional neural networks", APSIPA Transactions 2019
    (a fixed smoothing after the upsampling); Zhang, arXiv:1904.11486 (the triangle filter).

    Example:
        >>> up = BlurredConvTranspose2d(8, 4, kernel_size=3, stride=2)
        >>> constant = up(torch.ones(1, 8, 6, 6), size=(13, 11))[..., 2:-3, 2:-2]
        >>> torch.allclose(constant, constant[..., :1, :1], atol=1e-6)
        True
    """

    blur_rows: Tensor
    blur_columns: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 2,
        padding: Literal["auto"] | IntOrPair = "auto",
        groups: int = 1,
        bias: bool = True,
        dilation: IntOrPair = 1,
        device: Any = None,  # whatever torch takes for a device
        dtype: torch.dtype | None = None,
        *,
        rounding: Rounding = "any",
        label: str | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            groups=groups,
            bias=bias,
            dilation=dilation,
            device=device,
            dtype=dtype,
            rounding=rounding,
            label=label,
        )
        settings = (pair(kernel_size), pair(stride), pair(dilation))
        rows, columns = (_blur_matrix(*axis).to(self.weight) for axis in zip(*settings, strict=True))
        # they follow from the settings, so a checkpoint needn't hold them
        self.register_buffer("blur_rows", rows, persistent=False)
        self.register_buffer("blur_columns", columns, persistent=False)

    def _plan_axis(self, k: int, s: int, d: int, rounding: Rounding) -> int:
        plan_padding(k, s, rounding=rounding)  # the blur would hide a learned kernel that is smaller than the stride
        return max(0, plan_padding(_blurred_size(k, s, d), s, rounding=rounding) - (s - 1))

    @property
    def uneven(self) -> bool:
        """Never: the blur makes the phases' sums equal."""
        return False

    @property
    def axes(self) -> list[Axis]:
        """Settings of the one transposed convolution that is run."""
        return [(_blurred_size(k, s, d), s, p + s - 1, 1) for k, s, p, d in self._learned_axes()]

    def blurred_weight(self) -> Tensor:
        """The kernel that is run, (C_in, C_out / groups, K_h, K_w): of a plain layer with the settings in ``axes``."""
        return self.blur_rows @ self.weight @ self.blur_columns.mT

    def _conv_transpose(self, input: Tensor, output_padding: tuple[int, int]) -> Tensor:  # noqa: A002
        _, strides, paddings, _ = zip(*self.axes, strict=True)
        return F.conv_transpose2d(
            input, self.blurred_weight(), self.bias, strides, paddings, output_padding, self.groups
        )


def _blurred_size(k: int, s: int, d: int) -> int:
    return d * (k - 1) + 1 + 2 * (s - 1)


def _blur_matrix(k: int, s: int, d: int) -> Tensor:
    """What takes k taps, d apart, to their blurred form: (blurred size, k), each column a shifted triangle.

    Example:
        >>> (_blur_matrix(2, 2, 1) * 4).int().tolist()
        [[1, 0], [2, 1], [1, 2], [0, 1]]
    """
    matrix = torch.zeros(_blurred_size(k, s, d), k)
    triangle = torch.tensor([s - abs(tap) for tap in range(1 - s, s)]) / s**2
    for tap in range(k):
        matrix[tap * d : tap * d + 2 * s - 1, tap] = triangle
    return matrix
