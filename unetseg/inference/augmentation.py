"""Test-time augmentation: the mean of what a network says of several views of an image."""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["TTA", "mean_of_views"]

TTA = Literal["none", "flips", "d4", "scales"]
"""Which views: the image alone; it, mirrored either way and both; the eight mirrored and turned ones of a square's
symmetries; three sizes."""

_SCALES = (0.75, 1.0, 1.25)


def mean_of_views(predict: Callable[[Tensor], Tensor], image: Tensor, tta: TTA, *, min_size: int = 1) -> Tensor:
    """Average the maps of an image's views, each brought back to where the image's pixels are.

    Args:
        predict: From images to maps (N, classes, H, W) of their size, which can be averaged: probabilities, not logits.
        image: (N, C, H, W), uint8 in 0..255 or floating point in [0, 1].
        tta: Which views.
        min_size: Least side of a view in pixels.

    Returns:
        (N, classes, H, W).

    Example:
        >>> image = torch.rand(1, 3, 5, 8)
        >>> torch.allclose(mean_of_views(lambda view: view, image, "d4"), image)
        True
    """
    total, count = None, 0
    for view, back in _views(image, tta, min_size):
        maps = back(predict(view.contiguous(memory_format=torch.channels_last)))
        total = maps if total is None else total.add_(maps)
        count += 1
    assert total is not None  # there is a view in every set
    return total if count == 1 else total.div_(count)


def _views(image: Tensor, tta: TTA, min_size: int) -> Iterator[tuple[Tensor, Callable[[Tensor], Tensor]]]:
    if tta == "scales":
        yield from (_resized(image, scale, min_size) for scale in _SCALES)
    elif tta == "flips":
        yield from (_mirrored(image, dims) for dims in ((), (-1,), (-2,), (-2, -1)))
    elif tta == "d4":
        yield from (_turned(image, quarters, mirror) for mirror in (False, True) for quarters in range(4))
    else:
        yield image, lambda maps: maps


def _mirrored(image: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    return image.flip(dims), lambda maps: maps.flip(dims)


def _turned(image: Tensor, quarters: int, mirror: bool) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    def back(maps: Tensor) -> Tensor:
        maps = maps.rot90(-quarters, (-2, -1))
        return maps.flip(-1) if mirror else maps

    return (image.flip(-1) if mirror else image).rot90(quarters, (-2, -1)), back


def _resized(image: Tensor, scale: float, min_size: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    size = [int(side) for side in image.shape[-2:]]
    if scale == 1:
        return image, lambda maps: maps
    if not image.is_floating_point():
        image = image.float() / 255
    # antialias, as the smaller view would alias else
    view = F.interpolate(image, [max(round(scale * side), min_size) for side in size], mode="bilinear", antialias=True)
    return view, lambda maps: F.interpolate(maps, size, mode="bilinear")
