"""An image at other sizes, as views for test-time augmentation: resized by torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["resized"]


def resized(image: Any, scale: float, min_size: int) -> tuple[Any, Callable[[Any], Any]]:
    """A view of another size, and the way back for its maps.

    Args:
        image: (N, C, H, W), uint8 in 0..255 or floating point in [0, 1]: a tensor, or an array of NumPy.
        scale: Of its height and width.
        min_size: Least side of the view.

    Returns:
        The view, and a function that brings its maps (N, classes, h, w) to (N, classes, H, W), both of the image's
        kind.

    Example:
        >>> view, back = resized(np.ones((1, 3, 4, 8), np.float32), 0.75, min_size=1)
        >>> view.shape, back(view).shape
        ((1, 3, 3, 6), (1, 3, 4, 8))
    """
    if isinstance(image, np.ndarray):
        view, back = resized(torch.from_numpy(np.ascontiguousarray(image)), scale, min_size)
        return view.numpy(), lambda maps: back(torch.from_numpy(np.ascontiguousarray(maps))).numpy()
    size = [int(side) for side in image.shape[-2:]]
    if scale == 1:
        return image, lambda maps: maps
    if not image.is_floating_point():
        image = image.float() / 255
    # antialias, as the smaller view would alias else
    view = F.interpolate(image, [max(round(scale * side), min_size) for side in size], mode="bilinear", antialias=True)
    return view, lambda maps: F.interpolate(maps, size, mode="bilinear")
