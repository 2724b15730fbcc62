"""Upsampling that ends exactly at the skip connection's size."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unetseg.errors import AlignmentError
from unetseg.geometry import Rounding, plan_padding, signed_output_padding

__all__ = ["AlignedConvTranspose2d"]

IntOrPair = int | tuple[int, int]


def _pair(value: IntOrPair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class AlignedConvTranspose2d(nn.ConvTranspose2d):
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
        kernel_size: Kernel side, or a pair (height, width). A multiple of the stride overlaps evenly.
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
        label: What errors call this layer; its class name if None.

    Shape:
        - input: (N, C_in, H, W) or (C_in, H, W), a floating-point tensor of any value range
        - output: (N, C_out, *size), or stride times the input where no size is given

    Raises:
        AlignmentError: If the kernel can't serve the stride (when built), or the size is out of reach (in
            forward).

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
        self.label = label or type(self).__name__
        if rounding not in ("up", "down", "any"):
            raise AlignmentError(f"{self.label}: rounding is {rounding!r}; it can be 'up', 'down' or 'any'.")
        for name, value in (("padding", padding), ("output_padding", output_padding)):
            if isinstance(value, str) and value != "auto":
                raise AlignmentError(f"{self.label}: {name} is {value!r}; it can be 'auto', an integer or a pair.")
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise AlignmentError(
                f"{self.label}: groups is {groups}; it must divide both {in_channels} input and {out_channels} output "
                f"channels."
            )
        super().__init__(
            in_channels,
            out_channels,
            _pair(kernel_size),
            stride=_pair(stride),
            padding=self._plan(kernel_size, stride, dilation, rounding) if padding == "auto" else _pair(padding),
            output_padding=0 if output_padding == "auto" else _pair(output_padding),
            groups=groups,
            bias=bias,
            dilation=_pair(dilation),
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        self.aligns = output_padding == "auto"
        self.rounding = rounding

    def _plan(
        self, kernel_size: IntOrPair, stride: IntOrPair, dilation: IntOrPair, rounding: Rounding
    ) -> tuple[int, int]:
        axes = zip(_pair(kernel_size), _pair(stride), _pair(dilation), strict=True)
        try:
            height, width = (plan_padding(k, s, d, rounding) for k, s, d in axes)
        except AlignmentError as error:
            raise AlignmentError(f"{self.label}: {error}") from None
        return height, width

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
            (N, C_out, *size). Without a size: stride times the input, or PyTorch's size where
            ``output_padding`` is an integer.

        Raises:
            AlignmentError: If the size can't be reached; the message names the range that can.
        """
        if size is not None and output_size is not None:
            raise AlignmentError(f"{self.label}: size and output_size are two names of one thing; give one of them.")
        size = output_size if size is None else size
        if not self.aligns:
            return super().forward(input, None if size is None else list(size))
        if size is None:
            size = [n * s for n, s in zip(input.shape[-2:], self._ints(self.stride), strict=True)]
        if len(size) not in (2, input.dim()):
            raise AlignmentError(f"{self.label}: size is (height, width); got {len(size)} values: {tuple(size)}.")
        height, width = size[-2:]
        if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
            return self._forward_exported(input, height, width)
        rows, columns = self._signed_output_padding(input.shape[-2:], (height, width))
        output = self._conv_transpose(input, (max(rows, 0), max(columns, 0)))
        if rows < 0 or columns < 0:
            output = output[..., :height, :width]  # (N, C_out, height, width)
        return output

    def _forward_exported(self, input: Tensor, height: int, width: int) -> Tensor:  # noqa: A002
        if all(isinstance(side, int) for side in (*input.shape[-2:], height, width)):
            self._signed_output_padding(input.shape[-2:], (height, width))  # known sizes are checked here too
        # Exported graphs want a constant output padding, and a slice would specialise on the size. F.pad with
        # negative amounts crops; it is exact, but copies, which is why eager mode doesn't use it.
        most = tuple(max(s, d) - 1 for s, d in zip(self.stride, self.dilation, strict=True))
        output = self._conv_transpose(input, (most[0], most[1]))
        return F.pad(output, (0, width - output.shape[-1], 0, height - output.shape[-2]))

    def _conv_transpose(self, input: Tensor, output_padding: tuple[int, int]) -> Tensor:  # noqa: A002
        return F.conv_transpose2d(
            input,
            self.weight,
            self.bias,
            self._ints(self.stride),
            self._ints(self.padding),
            output_padding,
            self.groups,
            self._ints(self.dilation),
        )

    @staticmethod
    def _ints(values: Any) -> tuple[int, int]:
        # torch types these attributes as tuples of any length, and padding as possibly a string
        return values[0], values[1]

    @property
    def axes(self) -> list[tuple[int, int, int, int]]:
        """(kernel size, stride, padding, dilation) along the height and along the width."""
        settings = (self.kernel_size, self.stride, self.padding, self.dilation)
        return list(zip(*map(self._ints, settings), strict=True))

    def _signed_output_padding(self, sides: Sequence[int], size: Sequence[int]) -> tuple[int, int]:
        """Per axis, as ``geometry.signed_output_padding``; the error names the layer and the axis."""
        deltas = []
        for axis, (k, s, p, d) in enumerate(self.axes):
            try:
                deltas.append(signed_output_padding(sides[axis], size[axis], k, s, p, d))
            except AlignmentError as error:
                raise AlignmentError(f"{self.label}, {('height', 'width')[axis]}: {error}") from None
        return deltas[0], deltas[1]

    def extra_repr(self) -> str:
        """PyTorch's, and whether the size follows the skip."""
        plain: str = super().extra_repr()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return f"{plain}, aligned" if self.aligns else plain
