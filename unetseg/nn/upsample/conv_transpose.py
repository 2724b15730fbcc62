"""The transposed convolution that ends exactly at the skip connection's size."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unetseg.errors import AlignmentError, OptionError
from unetseg.geometry import Rounding, plan_padding
from unetseg.nn.upsample.alignment import Aligned, Axis, IntOrPair, crop_to, pair, traces_a_graph
from unetseg.nn.upsample.guards import warn_of_artifacts

__all__ = ["AlignedConvTranspose2d"]


class AlignedConvTranspose2d(Aligned, nn.ConvTranspose2d):
    """A transposed convolution that returns the size it is asked for.

    A strided convolution maps several input sizes to one, so a decoder can't know which to go back to, and
    PyTorch's ``output_size`` reaches only some of them. This layer takes the skip's size and pads its output by
    the signed difference, H and W apart: computed rows at the bottom/right where the skip is larger, those rows
    left away where it is smaller. Pixel 0 stays on pixel 0; nothing is filled with zeros or interpolated.

    It is an ``nn.ConvTranspose2d``: same parameters in the same order, same names and shapes of weights. With
    integers for ``padding`` and ``output_padding`` it does exactly what that does.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Kernel side, or a pair (height, width). A multiple of the stride overlaps evenly; an even
            answer to an even map also wants one of the inits in ``unetseg.nn``, as ``smooth_``.
        stride: Stride, or a pair.
        padding: "auto" plans it so that every size of a strided encoder stage is within reach; an integer or a
            pair is PyTorch's. A checkpoint of a plain layer needs its own integer padding: "auto" may shift it.
        output_padding: "auto" follows the wanted size; an integer or a pair is PyTorch's.
        groups: Groups of channels.
        bias: Whether to add a bias.
        dilation: Spacing of the kernel's taps, or a pair.
        padding_mode: Only "zeros", as in PyTorch.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        rounding: How the encoder stage rounds, for ``padding="auto"``: "up" (ceil), "down" (floor) or "any".
        label: What errors call this layer; its class name if None. One with a label leaves warnings to whoever gave it.

    Shape:
        - input: (N, C_in, H, W) or (C_in, H, W), a floating-point tensor of any value range
        - output: (N, C_out, *size). Without a size: stride times the input, or PyTorch's size where ``padding`` is
          an integer

    Raises:
        AlignmentError: If the kernel can't serve the stride (when built), or the size is out of reach (in
            forward).
        OptionError: If another setting has a value that it doesn't take.

    Source: relations of Dumoulin & Visin, arXiv:1603.07285; ``torch.nn.ConvTranspose2d``.

    Example:
        >>> up = AlignedConvTranspose2d(8, 4, kernel_size=4, stride=2)
        >>> x, skip = torch.zeros(1, 8, 16, 16), torch.zeros(1, 4, 31, 33)
        >>> up(x, size=skip.shape[-2:]).shape
        torch.Size([1, 4, 31, 33])
        >>> up(x).shape
        torch.Size([1, 4, 32, 32])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: Literal["auto"] | IntOrPair = "auto",
        output_padding: Literal["auto"] | IntOrPair = "auto",
        groups: int = 1,
        bias: bool = True,
        dilation: IntOrPair = 1,
        padding_mode: Literal["zeros"] = "zeros",
        device: Any = None,  # whatever torch takes for a device
        dtype: torch.dtype | None = None,
        *,
        rounding: Rounding = "any",
        label: str | None = None,
    ) -> None:
        self._set_names(label, rounding)
        for name, value in (("padding", padding), ("output_padding", output_padding)):
            if isinstance(value, str) and value != "auto":
                raise OptionError(f"{self.label}: {name} is {value!r}; it can be 'auto', an integer or a pair.")
        self._check_groups(groups, in_channels, out_channels)
        super().__init__(
            in_channels,
            out_channels,
            pair(kernel_size),
            stride=pair(stride),
            padding=self._plan(kernel_size, stride, dilation, rounding) if padding == "auto" else pair(padding),
            output_padding=0 if output_padding == "auto" else pair(output_padding),
            groups=groups,
            bias=bias,
            dilation=pair(dilation),
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        self.aligns = output_padding == "auto"
        self.plans = padding == "auto"
        if label is None:
            warn_of_artifacts([self])

    def _plan(
        self, kernel_size: IntOrPair, stride: IntOrPair, dilation: IntOrPair, rounding: Rounding
    ) -> tuple[int, int]:
        axes = zip(pair(kernel_size), pair(stride), pair(dilation), strict=True)
        try:
            height, width = (self._plan_axis(k, s, d, rounding) for k, s, d in axes)
        except AlignmentError as error:
            raise AlignmentError(f"{self.label}: {error}") from None
        return height, width

    def _plan_axis(self, k: int, s: int, d: int, rounding: Rounding) -> int:
        return plan_padding(k, s, d, rounding)

    def forward(  # type: ignore[override]  # size comes before output_size, so that it can be given by position
        self,
        input: Tensor,  # noqa: A002 - PyTorch's own name for it
        size: Sequence[int] | None = None,
        output_size: Sequence[int] | None = None,
    ) -> Tensor:
        """Upsample to ``size``.

        Args:
            input: (N, C_in, H, W) or (C_in, H, W).
            size: Wanted (height, width); PyTorch's longer form with the leading sizes is taken too.
            output_size: PyTorch's name for ``size``.

        Returns:
            (N, C_out, *size). Without a size: stride times the input, or PyTorch's size where ``padding`` or
            ``output_padding`` is an integer.

        Raises:
            AlignmentError: If the size can't be reached; the message names the range that can.
        """
        if size is not None and output_size is not None:
            raise AlignmentError(f"{self.label}: size and output_size are two names of one thing; give one of them.")
        size = output_size if size is None else size
        if not self.aligns:
            return super().forward(input, None if size is None else list(size))
        if size is None and not self.plans:
            return self._conv_transpose(input, (0, 0))
        height, width = self._wanted(input, size, pair(self.stride))
        sides = input.shape[-2:]
        if traces_a_graph():
            self._check_known_sizes(sides, (height, width))
            # exported graphs want a constant output padding
            rows, columns = (max(s, d) - 1 for _, s, _, d in self.axes)
        else:
            rows, columns = self._signed_output_padding(sides, (height, width))
        output = self._conv_transpose(input, (max(rows, 0), max(columns, 0)))
        return crop_to(output, height, width)  # (N, C_out, height, width)

    def _conv_transpose(self, input: Tensor, output_padding: tuple[int, int]) -> Tensor:  # noqa: A002
        return F.conv_transpose2d(
            input,
            self.weight,
            self.bias,
            pair(self.stride),
            pair(self.padding),
            output_padding,
            self.groups,
            pair(self.dilation),
        )

    @property
    def axes(self) -> list[Axis]:
        """(kernel size, stride, padding, dilation) along the height and along the width."""
        return self._learned_axes()

    def _learned_axes(self) -> list[Axis]:
        settings = (self.kernel_size, self.stride, self.padding, self.dilation)
        return list(zip(*map(pair, settings), strict=True))

    def extra_repr(self) -> str:
        """PyTorch's, and whether the size follows the skip."""
        plain: str = super().extra_repr()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return f"{plain}, aligned" if self.aligns else plain
