"""What encoders do to sizes, measured: which they take, how many times they halve them, and how they round."""

import copy
import dataclasses
import functools
import math
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from unetseg.encoders.padded import PaddedEncoder
from unetseg.errors import EncoderError
from unetseg.geometry import Rounding, classify_rounding, skip_sizes

__all__ = ["AnySize", "EncoderGeometry", "accepted_sizes", "encoder_geometry", "meta_copy"]

# 32 consecutive sides: every stage down to stride 32 meets even and odd ones
_PROBES = [(side, side + 1) for side in range(97, 129, 2)]
# a few, odd at every stage, that tell an encoder with restrictions from one without
_FEW_PROBES = [(97, 98), (100, 127), (113, 106), (125, 120)]
# what patches, windows and branches of encoders demand
_MULTIPLES = (4, 8, 16, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512)
# what encoders with position embeddings are made for
_FIXED_SIDES = (128, 160, 192, 224, 240, 256, 288, 320, 336, 384, 448, 512)

# what the meta device takes nearly all of its time for, and leaves shapes as they are
_SHAPE_KEEPING = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish)

ModuleT = TypeVar("ModuleT", bound=nn.Module)

Shapes = list[tuple[int, int, int]]
"""(channels, height, width) of each feature map, full resolution first."""


@dataclasses.dataclass(frozen=True)
class EncoderGeometry:
    """What an encoder does to sizes.

    Attributes:
        channels: Channels of its feature maps, full resolution first; 0 for the image itself, and for a map
            without content: neither is a skip.
        strides: Stride of each against the image.
        rounding: How it rounds from each map to the next deeper one, deepest first.
        min_size: Least side of a square image that it takes, in pixels.
        padded_to: It pads images to multiples of this many pixels by itself; 1 if it takes them as they are.
        unused: Names of parameters that no feature map depends on, as those beyond a smaller depth.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    rounding: tuple[Rounding, ...]
    min_size: int
    padded_to: int
    unused: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class AnySize:
    """How an encoder comes to take images of any size.

    Attributes:
        multiple: To which it wants them padded; 1 if it doesn't.
        strides: Stride of each feature map.
    """

    multiple: int
    strides: tuple[int, ...]


def accepted_sizes(encoder: nn.Module, in_channels: int = 3) -> AnySize | tuple[int, ...]:
    """Whether an encoder takes any size, at most padded, or else the sides of the square images that it takes.

    Padding is tried where it refuses a size, or its feature maps don't halve; where that mends neither, one that runs
    at any size is left as it is. A copy runs on the meta device, which computes shapes only.
    """
    copied = _shape_copy(encoder)
    run = functools.partial(_feature_shapes, copied, in_channels)
    seen = [shapes for size in _FEW_PROBES if (shapes := run(*size)) is not None]
    runs_at_any = len(seen) == len(_FEW_PROBES)
    if runs_at_any and not _misfits(seen):
        return AnySize(1, _strides(seen))
    for multiple in _MULTIPLES:
        side = multiple * math.ceil(256 / multiple)
        if (whole := run(side, side)) is None:
            continue
        padded = PaddedEncoder(copied, multiple=multiple, strides=_strides([whole]))
        sides = range(multiple, max(96, 3 * multiple) + 1, multiple)
        if all(_feature_shapes(padded, in_channels, *size) for size in pairwise(sides)):
            return AnySize(multiple, padded.strides)
    if runs_at_any:
        return AnySize(1, _strides(seen))
    return tuple(side for side in _FIXED_SIDES if run(side, side) is not None)


def encoder_geometry(encoder: nn.Module, name: str, *, depth: int = 5, in_channels: int = 3) -> EncoderGeometry:
    """Probe an encoder's channels, strides, rounding and least size by running it on the meta device.

    Rounding is a fact of each stage, not of a family of encoders, so it is measured. No arithmetic is done: the
    meta device computes shapes only. Results are kept for each name, depth and in_channels.

    Raises:
        EncoderError: If the encoder takes none of the sizes that were tried, or its feature maps don't halve.
    """
    key = (name, depth, in_channels)
    if key not in _geometries:
        _geometries[key] = _probe(encoder, name, in_channels)
    return _geometries[key]


_geometries: dict[tuple[str, int, int], EncoderGeometry] = {}


def _probe(encoder: nn.Module, name: str, in_channels: int) -> EncoderGeometry:
    run = functools.partial(_feature_shapes, _shape_copy(encoder), in_channels)
    seen = [shapes for size in _PROBES if (shapes := run(*size)) is not None]
    if len(seen) < len(_PROBES):
        raise EncoderError(
            f"encoder {name!r} took {len(seen)} of the {len(_PROBES)} image sizes from {_PROBES[0]} to {_PROBES[-1]} "
            f"that were tried; a UNet meets all sizes. For example resnet34, mobilenet_v2 or tu-convnext_tiny can."
        )
    channels = tuple(channel for channel, _, _ in seen[-1])
    strides = _strides(seen)
    if misfits := _misfits(seen):
        raise EncoderError(
            f"encoder {name!r} has feature maps of {max(misfits)[1]} and {max(misfits)[0]} pixels, which fit no "
            f"stride: its convolutions are not padded. Use one whose maps halve, such as resnet34 or inceptionv4."
        )
    rounding: list[Rounding] = []
    for high, low in _levels_with_grid(channels):
        ratio = strides[low] // strides[high]
        sides = _sides(seen, high, low)
        # stages that share a map without grid share its rounding; "down" holds only over both of them
        over_all = classify_rounding(sides, ratio)
        rounding += ["any" if over_all == "down" and low - high > 1 else over_all] * (low - high)
    largest = max(_PROBES[-1])
    return EncoderGeometry(
        channels=channels,
        strides=strides,
        rounding=tuple(rounding[::-1]),
        min_size=_least_side(run, largest),
        padded_to=encoder.multiple if isinstance(encoder, PaddedEncoder) else 1,
        unused=_unused_parameters(meta_copy(encoder), in_channels, largest),
    )


def meta_copy(module: ModuleT) -> ModuleT:
    """A copy on the meta device, in eval mode, whose weights are never made; building there directly often fails."""
    empty: dict[int, Tensor] = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in module.parameters()}
    empty |= {id(buffer): buffer.to("meta") for buffer in module.buffers()}
    return copy.deepcopy(module, empty).eval()


def _shape_copy(encoder: ModuleT) -> ModuleT:
    """As ``meta_copy``, for the shapes of feature maps alone."""
    copied = meta_copy(encoder)
    for module in copied.modules():
        if isinstance(module, _SHAPE_KEEPING):
            module.forward = _another_view  # type: ignore[assignment, method-assign]  # of this one alone
    return copied


def _another_view(map_: Tensor) -> Tensor:
    return map_.view_as(map_)  # not the image itself, as which a feature map would be without content


def _strides(seen: list[Shapes]) -> tuple[int, ...]:
    """Stride of each feature map against the first, powers of two."""
    return tuple(2 ** max(0, round(math.log2(seen[-1][0][1] / side))) for _, side, _ in seen[-1])


def _sides(seen: list[Shapes], high: int, low: int) -> set[tuple[int, int]]:
    """(low-resolution, high-resolution) sides of two levels."""
    return {(shapes[low][axis], shapes[high][axis]) for shapes in seen for axis in (1, 2)}


def _misfits(seen: list[Shapes]) -> list[tuple[int, int]]:
    """Sides of neighbouring levels that no stage of the encoder's strides can have."""
    channels, strides = tuple(channel for channel, _, _ in seen[-1]), _strides(seen)
    return [
        (small, large)
        for high, low in _levels_with_grid(channels)
        for small, large in _sides(seen, high, low)
        if large not in skip_sizes(small, strides[low] // strides[high])
    ]


def _unused_parameters(encoder: nn.Module, in_channels: int, side: int) -> tuple[str, ...]:
    """Parameters without a gradient; distributed training stops at them."""
    with torch.enable_grad():
        features = encoder(torch.empty(2, in_channels, side, side, device="meta"))
        torch.stack([feature.sum() for feature in features if feature.requires_grad]).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return tuple(name for name, parameter in encoder.named_parameters() if parameter.grad is None)


def _levels_with_grid(channels: tuple[int, ...]) -> list[tuple[int, int]]:
    """Neighbouring levels, leaving out those without content; the image's own is always one."""
    levels = [i for i, channel in enumerate(channels) if channel or i == 0]
    return list(pairwise(levels))


def _feature_shapes(encoder: nn.Module, in_channels: int, height: int, width: int) -> Shapes | None:
    """Shapes of the feature maps of an image; None if the encoder refuses its size."""
    image = torch.empty(2, in_channels, height, width, device="meta")
    try:
        with torch.no_grad():
            features: list[Tensor] = encoder(image)
    except Exception:  # encoders refuse sizes with AssertionError, RuntimeError, ValueError and others
        return None
    shapes = [(0 if f is image else f.shape[1], f.shape[2], f.shape[3]) for f in features]
    return shapes if all(height and width for _, height, width in shapes) else None


def _least_side(run: Callable[[int, int], Shapes | None], accepted: int) -> int:
    low, high = 1, accepted  # bisection: what an encoder takes at a side, it takes above
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if run(middle, middle) else (middle + 1, high)
    return low
