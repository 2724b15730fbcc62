"""Test-time augmentation: the mean of what a network says of several views of an image."""

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TTA", "mean_of_views"]

TTA = Literal["none", "flips", "d4", "scales"]
"""Which views: the image alone; it, mirrored either way and both; the eight mirrored and turned ones of a square's
symmetries; three sizes."""

ArrayT = TypeVar("ArrayT", "NDArray[Any]", "Tensor")
Back = Callable[[Any], Any]

_SCALES = (0.75, 1.0, 1.25)


def mean_of_views(predict: Callable[[ArrayT], ArrayT], image: ArrayT, tta: TTA, *, min_size: int = 1) -> ArrayT:
    """Average the maps of an image's views, each brought back to where the image's pixels are.

    Images and maps are arrays of NumPy, or tensors of torch; "scales" needs torch for both.

    Args:
        predict: From images to maps (N, classes, H, W) of their size, which can be averaged: probabilities, not logits.
        image: (N, C, H, W), uint8 in 0..255 or floating point in [0, 1].
        tta: Which views.
        min_size: Least side of a view in pixels.

    Returns:
        (N, classes, H, W).

    Example:
        >>> image = np.random.default_rng(0).random((1, 3, 5, 8), np.float32)
        >>> np.allclose(mean_of_views(lambda view: view, image, "d4"), image)
        True
    """
    total: ArrayT | None = None
    count = 0
    for view, back in _views(image, tta, min_size):
        maps = back(predict(view))
        if count < 2:
            total = maps if total is None else total + maps  # not in place: it may be the image's own memory
        else:
            total += maps
        count += 1
    assert total is not None  # there is a view in every set
    if count > 1:
        total /= count
    return total


def _views(image: Any, tta: TTA, min_size: int) -> Iterator[tuple[Any, Back]]:
    if tta == "scales":
        # torch's resizing, which a prediction without this set needn't load
        resized = importlib.import_module("unetseg.inference.scaled_views").resized
        yield from (resized(image, scale, min_size) for scale in _SCALES)
    elif tta == "flips":
        yield from (_mirrored(image, dims) for dims in ((), (-1,), (-2,), (-2, -1)))
    elif tta == "d4":
        yield from (_turned(image, quarters, mirror) for mirror in (False, True) for quarters in range(4))
    else:
        yield image, lambda maps: maps


def _mirrored(image: Any, dims: tuple[int, ...]) -> tuple[Any, Back]:
    return _flipped(image, dims), lambda maps: _flipped(maps, dims)


def _turned(image: Any, quarters: int, mirror: bool) -> tuple[Any, Back]:
    def back(maps: Any) -> Any:
        maps = _quarter_turns(maps, -quarters)
        return _flipped(maps, (-1,)) if mirror else maps

    return _quarter_turns(_flipped(image, (-1,)) if mirror else image, quarters), back


def _flipped(maps: Any, dims: tuple[int, ...]) -> Any:
    return np.flip(maps, dims) if isinstance(maps, np.ndarray) else maps.flip(dims)


def _quarter_turns(maps: Any, count: int) -> Any:
    return np.rot90(maps, count, (-2, -1)) if isinstance(maps, np.ndarray) else maps.rot90(count, (-2, -1))
