"""Sizes of transposed convolutions, per axis: integers only, no torch.

Letters, as in Dumoulin & Visin, "A guide to convolution arithmetic for deep learning"
(arXiv:1603.07285, relationships of transposed convolution) and in PyTorch's ``ConvTranspose2d``:

    n  input side          k  kernel size      s  stride
    p  padding             d  dilation         op output padding

A transposed convolution is the adjoint of a convolution, not its inverse: ``p`` *removes* p rows from
each side, and ``op`` adds rows at the bottom/right only. Those rows are computed, not filled with zeros.
"""

from collections.abc import Iterable
from itertools import count
from typing import Literal

from unetseg.errors import AlignmentError

__all__ = [
    "Rounding",
    "bias_only_rows",
    "ceil_div",
    "classify_rounding",
    "conv_transpose_output_size",
    "filling_kernel",
    "leaves_bias_only_rows",
    "leaves_holes",
    "overlap",
    "plan_padding",
    "reachable_sizes",
    "signed_output_padding",
    "skip_sizes",
]

Rounding = Literal["up", "down", "any"]
"""How a strided encoder stage rounds: L = ceil(T / s) is "up", L = floor(T / s) is "down", not known is "any"."""


def ceil_div(n: int, s: int) -> int:
    """``n / s`` rounded up, of positive integers.

    Python's idiom -(-n // s) has another result in an ONNX graph, whose division rounds towards zero.

    Example:
        >>> ceil_div(6, 2), ceil_div(7, 2)
        (3, 4)
    """
    return (n + s - 1) // s


def conv_transpose_output_size(n: int, k: int, s: int = 1, p: int = 0, d: int = 1, output_padding: int = 0) -> int:
    """Output side of a transposed convolution.

    ``(n - 1) * s - 2 * p + d * (k - 1) + 1 + output_padding``, the relation that PyTorch documents for
    ``ConvTranspose2d``. Any integers do, symbolic ones of ``torch.export`` too.

    Example:
        >>> conv_transpose_output_size(8, k=3, s=2, p=1, output_padding=1)
        16
        >>> conv_transpose_output_size(16, k=2, s=2)
        32
    """
    return (n - 1) * s - 2 * p + d * (k - 1) + 1 + output_padding


def reachable_sizes(n: int, k: int, s: int = 1, p: int = 0, d: int = 1) -> tuple[int, int]:
    """The least and the greatest output side that signed output padding reaches from an input side ``n``.

    The least is ``s * (n - 1)``: cropping more would drop whole input rows, which means that the skip
    isn't this stage's. The greatest is that of PyTorch's largest legal output padding, ``max(s, d) - 1``.

    Example:
        >>> reachable_sizes(16, k=4, s=2, p=1)
        (30, 33)
    """
    return max(1, s * (n - 1)), conv_transpose_output_size(n, k, s, p, d) + max(s, d) - 1


def signed_output_padding(n: int, size: int, k: int, s: int = 1, p: int = 0, d: int = 1) -> int:
    """Rows to add (positive) or to crop (negative) at the bottom/right so that ``n`` becomes ``size``.

    Positive values are PyTorch's ``output_padding``. Negative ones extend it below zero: the last rows are
    not wanted. Never the first ones: the encoder's pixel 0 stays on the skip's pixel 0.

    Raises:
        AlignmentError: If ``size`` isn't in :func:`reachable_sizes`.

    Example:
        >>> signed_output_padding(16, 33, k=4, s=2, p=1)
        1
        >>> signed_output_padding(16, 31, k=4, s=2, p=1)
        -1
    """
    least, greatest = reachable_sizes(n, k, s, p, d)
    if not least <= size <= greatest:
        span = f"{least}..{greatest}" if least <= greatest else "nothing"
        raise AlignmentError(
            f"from {n}, kernel {k} stride {s} padding {p} dilation {d} reaches {span}; the wanted size is {size}. "
            f"{_remedy(n, size, k, s, d)}"
        )
    return size - conv_transpose_output_size(n, k, s, p, d)


def _remedy(n: int, size: int, k: int, s: int, d: int) -> str:
    """A setting that takes ``n`` to ``size``, or what is wrong with the pair."""
    if s * (n - 1) < size < s * (n + 1):
        kernel = max(k, s)
        return f'Kernel {kernel} with padding {plan_padding(kernel, s, d)}, which padding="auto" gives, reaches it.'
    fitting = [stride for stride in range(1, size + 1) if stride * (n - 1) < size < stride * (n + 1)]
    if fitting:
        return f"Is this skip another stage's? Stride {min(fitting, key=lambda other: abs(other - s))} would fit it."
    return "Is this skip another stage's?"


def plan_padding(k: int, s: int = 1, d: int = 1, rounding: Rounding = "any") -> int:
    """The padding with which every skip side of a stage is within reach.

    A stage with ratio s and low-resolution side L has skip sides ``s*L - (s - 1) .. s*L`` where the
    encoder rounds up, ``s*L .. s*L + (s - 1)`` where it rounds down, and both where that isn't known.

    Raises:
        AlignmentError: If no padding >= 0 does: the kernel is too small for the stride.

    Example:
        >>> plan_padding(3, s=2, rounding="up"), plan_padding(3, s=2, rounding="any"), plan_padding(4, s=2)
        (1, 0, 1)
    """
    if rounding == "up":
        p = d * (k - 1) // 2
        reaches_all = conv_transpose_output_size(1, k, s, p, d) + max(s, d) > s
    else:
        p = (d * (k - 1) + max(s, d) - 2 * s + 1) // 2
        reaches_all = p >= 0
    if k < s or not reaches_all:
        raise AlignmentError(
            f"kernel {k} is too small for stride {s} with dilation {d}: no padding reaches every size, and the "
            f"kernel's steps leave holes. Use a kernel of at least {s}, best a multiple of it, such as {2 * s}."
        )
    return p


def skip_sizes(n: int, s: int, rounding: Rounding = "any") -> range:
    """The sides that the skip of a stage can have, where the low-resolution side is ``n``.

    Example:
        >>> [list(skip_sizes(16, 2, rounding)) for rounding in ("up", "down", "any")]
        [[31, 32], [32, 33], [31, 32, 33]]
    """
    return range(s * n if rounding == "down" else s * (n - 1) + 1, s * n + 1 if rounding == "up" else s * (n + 1))


def overlap(k: int, s: int, d: int = 1) -> tuple[int, ...]:
    """How many taps of the kernel meet in an output pixel, for each of the s phases of the stride.

    Where the phases differ, some pixels are sums of more products than their neighbours, which shows as a
    checkerboard (Odena et al., "Deconvolution and Checkerboard Artifacts", distill.pub, 2016). They are equal where
    the stride divides the kernel and shares no factor with the dilation.

    Example:
        >>> overlap(4, s=2), overlap(3, s=2), overlap(2, s=2), overlap(2, s=2, d=2)
        ((2, 2), (2, 1), (1, 1), (2, 0))
    """
    return tuple(sum(d * tap % s == phase for tap in range(k)) for phase in range(s))


def leaves_holes(k: int, s: int, d: int = 1) -> bool:
    """Whether output pixels all over the map get no input at all, only the bias.

    So it is where the kernel's steps, ``d`` apart, don't meet every phase of the stride.

    Example:
        >>> leaves_holes(2, s=2), leaves_holes(2, s=2, d=2), leaves_holes(1, s=2)
        (False, True, True)
    """
    return 0 in overlap(k, s, d)


def bias_only_rows(n: int, size: int, k: int, s: int = 1, p: int = 0, d: int = 1) -> int:
    """How many output rows of ``size`` get no input row, so that they hold the bias alone.

    Counted row by row: input row i and kernel tap t write output row ``i*s + t*d - p``.

    Example:
        >>> bias_only_rows(16, 33, k=2, s=2)
        1
        >>> bias_only_rows(16, 33, k=4, s=2, p=1)
        0
    """
    written = {i * s + tap * d - p for i in range(n) for tap in range(k)}
    return sum(row not in written for row in range(size))


def leaves_bias_only_rows(k: int, s: int, p: int, d: int = 1, rounding: Rounding = "any") -> bool:
    """Whether some skip of a stage that rounds so has rows that hold the bias alone.

    Example:
        >>> leaves_bias_only_rows(2, s=2, p=0, rounding="down"), leaves_bias_only_rows(2, s=2, p=0, rounding="up")
        (True, False)
    """
    n = d * k + 1  # the last rows of a larger map are written by the same taps
    largest = skip_sizes(n, s, rounding)[-1]  # its rows include those of the smaller ones
    return bias_only_rows(n, largest, k, s, p, d) > 0


def filling_kernel(s: int, rounding: Rounding = "any") -> int:
    """The least kernel that gives every pixel of every skip as much input as its neighbours.

    It is a multiple of the stride, at least twice it, so that neighbouring inputs overlap, and with its planned
    padding it leaves no bias-only row. Where the stride is 1 it is 3, the least that keeps the size in the middle.

    Example:
        >>> [filling_kernel(s) for s in (1, 2, 4)], filling_kernel(4, rounding="up")
        ([3, 4, 12], 8)
    """
    if s == 1:
        return 3
    kernels = count(2 * s, s)
    return next(k for k in kernels if not leaves_bias_only_rows(k, s, plan_padding(k, s, 1, rounding), 1, rounding))


def classify_rounding(pairs: Iterable[tuple[int, int]], s: int) -> Rounding:
    """How a stage with stride ``s`` rounds, from (low, high) sides that were seen of it.

    Sides that the stride divides say nothing. Until one that it doesn't divide was seen, and where two
    disagree, the answer is "any", which is right for every encoder.

    Example:
        >>> classify_rounding([(16, 31), (16, 32)], s=2), classify_rounding([(16, 32), (16, 33)], s=2)
        ('up', 'down')
        >>> classify_rounding([(16, 31), (16, 33)], s=2)
        'any'
    """
    excess = {high - s * low for low, high in pairs} - {0}
    if excess and all(-s < e < 0 for e in excess):
        return "up"
    if excess and all(0 < e < s for e in excess):
        return "down"
    return "any"
