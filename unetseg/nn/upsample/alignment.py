"""What the siblings share: the size that they are asked for, and how far it may be from the input's."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unetseg.errors import AlignmentError, OptionError
from unetseg.geometry import Rounding, filling_kernel, overlap, signed_output_padding

__all__ = ["Aligned", "Axis", "IntOrPair", "crop_to", "pair", "traces_a_graph"]

IntOrPair = int | tuple[int, int]
Axis = tuple[int, int, int, int]
"""(kernel size, stride, padding, dilation) along the height or the width."""


def pair(value: Any) -> tuple[int, int]:
    """(height, width) of one integer for both, or of a pair; torch types its own attributes as tuples of any length."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def traces_a_graph() -> bool:
    """Whether a graph is being made that has to serve every size: by torch.export, torch.compile or a trace.

    The older of the two exporters to ONNX traces.
    """
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]  # public, but untyped
    return torch.compiler.is_compiling() or tracing


def crop_to(x: Tensor, height: int, width: int) -> Tensor:
    """The first rows and columns, in a form that graphs of unknown sizes can hold.

    A slice would make torch.export specialise on whether it was a no-op; ``F.pad`` with negative amounts is exact, but
    copies. So eager mode slices, but in training it copies too: a stage whose batch norm gets a slice trains 1.6 times
    as long.
    """
    if not traces_a_graph() and x.shape[-2:] == (height, width):
        return x
    if traces_a_graph() or x.requires_grad:
        return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]))
    return x[..., :height, :width]


class Aligned:
    """The part of an upsampling layer that knows sizes; a mixin.

    Attributes:
        label: What errors call the layer.
        rounding: How the encoder stage rounds whose skip is aimed at: "up", "down" or "any".
    """

    label: str
    rounding: Rounding

    @property
    def axes(self) -> list[Axis]:
        """(kernel size, stride, padding, dilation) of the transposed convolution that the layer amounts to.

        One along the height, one along the width; none if there is no such transposed convolution.
        """
        return []

    @property
    def uneven(self) -> bool:
        """Whether the phases of the stride get sums of unequal length, which shows as a checkerboard."""
        return any(len(set(overlap(k, s, d))) > 1 for k, s, _, d in self.axes)

    @property
    def filling_kernel_size(self) -> IntOrPair:
        """The least kernel_size that, with planned padding, overlaps evenly and leaves no pixel without input."""
        height, width = (filling_kernel(s, self.rounding) for _, s, _, _ in self.axes)
        return height if height == width else (height, width)

    def _set_names(self, label: str | None, rounding: Rounding) -> None:
        self.label = label or type(self).__name__
        if rounding not in ("up", "down", "any"):
            raise OptionError(f"{self.label}: rounding is {rounding!r}; it can be 'up', 'down' or 'any'.")
        self.rounding = rounding

    def _check_groups(self, groups: int, in_channels: int, out_channels: int) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise OptionError(
                f"{self.label}: groups is {groups}; it must divide both {in_channels} input and {out_channels} output "
                f"channels."
            )

    def _check_odd(self, kernel_size: IntOrPair) -> int:
        if not isinstance(kernel_size, int) or kernel_size % 2 == 0:
            raise OptionError(
                f"{self.label}: kernel_size is {kernel_size}; it is that of a convolution, which has an odd one, as 1, "
                f"3 or 5."
            )
        return kernel_size

    def _wanted(self, x: Tensor, size: Sequence[int] | None, strides: tuple[int, int]) -> tuple[int, int]:
        """(height, width) to return: those of ``size``, or stride times the input's."""
        if size is None:
            return x.shape[-2] * strides[0], x.shape[-1] * strides[1]
        if len(size) not in (2, x.dim()):
            raise AlignmentError(f"{self.label}: size is (height, width); got {len(size)} values: {tuple(size)}.")
        return size[-2], size[-1]

    def _signed_output_padding(self, sides: Sequence[int], size: Sequence[int]) -> tuple[int, int]:
        """Per axis, as ``geometry.signed_output_padding``; the error names the layer and the axis."""
        deltas = []
        for axis, (k, s, p, d) in enumerate(self.axes):
            try:
                deltas.append(signed_output_padding(sides[axis], size[axis], k, s, p, d))
            except AlignmentError as error:
                raise AlignmentError(f"{self.label}, {('height', 'width')[axis]}: {error}") from None
        return deltas[0], deltas[1]

    def _check_known_sizes(self, sides: Sequence[int], size: Sequence[int]) -> None:
        """While a graph is made, sides may be symbols, which can't be compared; those that are numbers are checked."""
        if all(type(side) is int for side in (*sides, *size)):
            self._signed_output_padding(sides, size)
