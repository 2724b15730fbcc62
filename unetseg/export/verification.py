"""Whether an exported file computes what the network does: at sizes of every parity, and at every level of it."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetseg.config import Mode
from unetseg.errors import UnetsegError
from unetseg.export.network import ExportPrecision, Size
from unetseg.geometry import ceil_div
from unetseg.inference.array_decision import decide
from unetseg.inference.runtimes import Runtime

__all__ = ["TOLERANCES", "Check", "check_sizes", "compare", "fixed_cases", "least_side"]

TOLERANCES: dict[ExportPrecision, float] = {"32-true": 1e-4, "16-true": 3e-2}
"""Largest difference of a logit, as a share of the largest logit: what float32 in another order and float16's 11 bits
may come to through a hundred layers."""

_FIXED_IMAGES = 3  # of a network that takes one size
_NAN = float("nan")


@dataclass(frozen=True)
class Check:
    """How a file did at one size.

    Attributes:
        batch: Images at once.
        size: (height, width).
        difference: Largest absolute difference of logits; of a file that gives classes, share of the pixels whose class
            is another though the logits aren't close; nan where it couldn't compute.
        scale: Largest logit of the network at this size or one before, in absolute value: at the least sizes norms over
            an image may leave nothing but rounding.
        classes: Whether the file gives classes.
        error: What the runtime said, where it couldn't compute.
    """

    batch: int
    size: Size
    difference: float
    scale: float
    classes: bool = False
    error: str = ""

    def agrees(self, tolerance: float) -> bool:
        """Whether logits differ by no more than a share of the largest, or no class differs that must not."""
        return self.difference <= (0 if self.classes else tolerance * self.scale)


def check_sizes(total_stride: int, least: int) -> list[tuple[int, Size]]:
    """Batches and sizes at which an export for any size is compared.

    Heights and widths are even and odd in all four combinations, and so are the maps at every level of the encoder,
    whether its stages round up or down: all bits of a side, or of the side less one, are 0 or 1 below the stride.

    Args:
        total_stride: Of the encoder, a power of two as a rule.
        least: Least side of an image.

    Example:
        >>> [size for _, size in check_sizes(32, least=1)]
        [(64, 96), (64, 95), (95, 64), (127, 95), (65, 97), (65, 64), (64, 65), (83, 66), (1, 2)]
    """
    s = total_stride
    base = max(2, ceil_div(least, s)) * s
    added = [(0, s), (0, s - 1), (s - 1, 0), (2 * s - 1, s - 1), (1, s + 1), (1, 0), (0, 1), (s // 2 + 3, 2)]
    sizes = [(base + height, base + width) for height, width in added]
    sizes.append((least, least + 1))
    return [(1 + i % 3, size) for i, size in enumerate(sizes)]


def least_side(runtime: Runtime) -> int:
    """From which side on a file for any size takes images.

    That of the network as a rule. But torch's graphs have guards, which refuse sizes of which some map would be a
    single row, and OpenVINO 2026.4 refuses to pool maps that are smaller than the kernel.
    """
    description = runtime.description
    s, least = description.total_stride, description.min_size
    sides = [least, *(side for side in (s // 2 + 1, s + 1, 2 * s) if side > least)]
    for side in sides:
        with contextlib.suppress(UnetsegError):
            for size in ((side, side), (side, side + 1), (side + 1, side)):
                runtime.run(np.zeros((1, description.in_channels, *size), np.float32))
            return side
    return sides[-1]


def compare(
    runtime: Runtime,
    network: Callable[[Tensor], Tensor],
    cases: list[tuple[int, Size]],
    *,
    mode: Mode,
    tolerance: float,
) -> Iterator[Check]:
    """Compare a file with the network on seeded noise that has shapes in it.

    Args:
        runtime: The file.
        network: From (N, C, H, W) float32 in [0, 1] to float32 logits.
        cases: Batches and sizes.
        mode: What a pixel can be.
        tolerance: How close logits must be, as a share of the largest, for their order to be no matter.
    """
    generator = torch.Generator().manual_seed(0)
    scale = 0.0
    for batch, size in cases:
        image = _noise(batch, runtime.description.in_channels, size, generator)
        with torch.inference_mode():
            expected: NDArray[np.float32] = network(image).numpy()
        scale = max(scale, float(np.abs(expected).max()))
        classes = runtime.description.output == "classes"
        try:
            output = runtime.run(image.numpy())
        except UnetsegError as error:
            yield Check(batch, size, _NAN, scale, classes, str(error))
            continue
        wanted = decide(expected, mode).shape if classes else expected.shape
        if output.shape != wanted:
            yield Check(batch, size, _NAN, scale, classes, f"its output has shape {output.shape}, not {wanted}.")
        elif classes:
            share = _wrong_share(output, expected, mode, tolerance * scale)
            yield Check(batch, size, share, scale, classes)
        else:
            yield Check(batch, size, float(np.abs(output - expected).max()), scale)


def fixed_cases(size: Size) -> list[tuple[int, Size]]:
    """Of an export for one size: several images, one at a time."""
    return [(1, size)] * _FIXED_IMAGES


def _noise(batch: int, channels: int, size: Size, generator: torch.Generator) -> Tensor:
    height, width = size
    coarse = torch.rand(batch, channels, height // 8 + 1, width // 8 + 1, generator=generator)
    shapes = coarse.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)[..., :height, :width]
    return (0.7 * shapes + 0.3 * torch.rand(shapes.shape, generator=generator)).contiguous()


def _wrong_share(output: NDArray[Any], logits: NDArray[np.float32], mode: Mode, close: float) -> float:
    """Share of the pixels whose class differs though the logits are farther apart than ``close``."""
    expected = decide(logits, mode)
    if mode == "multiclass" and logits.shape[1] > 1:
        top = np.partition(logits, -2, axis=1)[:, -2:]
        apart = top[:, 1] - top[:, 0] > 2 * close
    else:
        apart = np.abs(logits[:, 0] if mode == "binary" else logits) > close
    return float(np.mean((output != expected) & apart))
