"""Warnings of settings whose output shows a pattern, or has pixels without input."""

import warnings
from collections.abc import Sequence

from unetseg.geometry import leaves_bias_only_rows, leaves_holes
from unetseg.nn.upsample.alignment import Aligned

__all__ = ["warn_of_artifacts"]


def warn_of_artifacts(layers: Sequence[Aligned], *, stacklevel: int = 3) -> None:
    """Warn, once for all layers, of settings that can't give an even map.

    Three things are looked for: a kernel that the stride doesn't divide (checkerboard), pixels all over the map that
    hold the bias alone (stride and dilation share a factor), and last rows or columns that do so at some sizes.

    Args:
        layers: One layer, or a decoder's, deepest first.
        stacklevel: Whose line the warning names, as in ``warnings.warn``; 3 is the caller's caller.

    Warns:
        UserWarning: It names the stages, and for each of the three a setting that avoids it.

    Example:
        >>> from unetseg.nn import AlignedConvTranspose2d
        >>> with warnings.catch_warnings(record=True, action="always") as caught:
        ...     _ = AlignedConvTranspose2d(8, 4, kernel_size=3, stride=2)
        >>> print(caught[0].message)
        AlignedConvTranspose2d: neighbouring pixels are sums of unequal length, which shows as a checkerboard; \
kernel_size 4, or method blurred_conv_transpose, avoids it.
    """
    uneven, holes, rows = [], [], []
    for stage, layer in enumerate(layers):
        if any(leaves_holes(k, s, d) for k, s, _, d in layer.axes):
            holes.append(stage)
            continue
        if layer.uneven:
            uneven.append(stage)
        if any(leaves_bias_only_rows(k, s, p, d, layer.rounding) for k, s, p, d in layer.axes):
            rows.append(stage)
    option = "" if len(layers) == 1 else "upsample."

    def kernel(stages: list[int]) -> str:
        kernels = [layers[stage].filling_kernel_size for stage in stages]
        return str(kernels[0]) if len(set(kernels)) == 1 else f"{kernels} there, in this order"

    said = []
    if uneven:
        said.append(
            f"{_subject(layers, uneven)}: neighbouring pixels are sums of unequal length, which shows as a "
            f"checkerboard; {option}kernel_size {kernel(uneven)}, or method blurred_conv_transpose, avoids it."
        )
    if holes:
        said.append(
            f"{_subject(layers, holes)}: pixels all over the map hold the bias alone; {option}dilation 1 leaves none."
        )
    if rows:
        said.append(
            f"{_subject(layers, rows)}: at some sizes the last rows or columns hold the bias alone; "
            f"{option}kernel_size {kernel(rows)} leaves none."
        )
    if said:
        warnings.warn(" ".join(said), stacklevel=stacklevel)


def _subject(layers: Sequence[Aligned], stages: list[int]) -> str:
    return layers[0].label if len(layers) == 1 else f"decoder stages {stages} (0 is the deepest)"
