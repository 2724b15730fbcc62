"""Colours of classes, and pictures of images and classes as arrays."""

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unetseg.data.images import Pixels
from unetseg.data.masks import Color

__all__ = ["IGNORED", "class_colors", "overlay", "paint", "palette", "preview", "topmost"]

IGNORED: Color = (128, 128, 128)
"""Of pixels that don't count."""


def palette(classes: int) -> list[Color]:
    """A colour for each class: black for the first, then hues a golden angle apart, so neighbours differ.

    Example:
        >>> palette(2)
        [(0, 0, 0), (230, 46, 46)]
    """
    colors: list[Color] = [(0, 0, 0)]
    for i in range(classes - 1):
        rgb = colorsys.hsv_to_rgb(i * 0.381966 % 1.0, (0.8, 0.5)[i // 8 % 2], (0.9, 1.0, 0.65)[i // 4 % 3])
        colors.append((round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])))
    return colors


def class_colors(classes: int, *, multilabel: bool = False) -> list[Color]:
    """The palette's colours; black is for the first class, or of multilabel data for none.

    Example:
        >>> class_colors(1, multilabel=True)
        [(230, 46, 46)]
    """
    return palette(classes + 1)[1:] if multilabel else palette(classes)


def preview(image: Pixels) -> NDArray[np.uint8]:
    """An image that a person can look at: RGB of the first three channels, or grey.

    Args:
        image: (H, W, C), uint8 or float32 in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.
    """
    shown = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    if shown.dtype == np.float32:
        shown = (shown.clip(0, 1) * 255).round()
    return shown.astype(np.uint8)


def topmost(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One class a pixel of any number of them: where classes overlap, the last one shows.

    Args:
        planes: (classes, H, W) uint8; a pixel belongs to a class where its value is 1.

    Returns:
        (H, W) uint8: 0 for no class, else the class's index + 1.

    Example:
        >>> topmost(np.array([[[1, 1, 0]], [[0, 1, 0]]], dtype=np.uint8)).tolist()
        [[1, 2, 0]]
    """
    shown = np.zeros(planes.shape[1:], np.uint8)
    for i, plane in enumerate(planes):
        shown[plane == 1] = i + 1
    return shown


def paint(class_map: NDArray[np.uint8], colors: Sequence[Color], ignore_index: int | None = None) -> NDArray[np.uint8]:
    """The classes in their colours.

    Args:
        class_map: (H, W) uint8 class indices.
        colors: One for each class.
        ignore_index: Value of pixels that don't count, which become grey.

    Returns:
        (H, W, 3) uint8 RGB.

    Example:
        >>> paint(np.array([[0, 1, 255]], dtype=np.uint8), palette(2), ignore_index=255).tolist()
        [[[0, 0, 0], [230, 46, 46], [128, 128, 128]]]
    """
    table = np.full((256, 3), IGNORED, dtype=np.uint8)
    table[: len(colors)] = colors
    if ignore_index is not None:
        table[ignore_index] = IGNORED
    painted: NDArray[np.uint8] = table[class_map]
    return painted


def overlay(image: Pixels, class_map: NDArray[np.uint8], colors: Sequence[Color]) -> NDArray[np.uint8]:
    """The image with the classes' colours over it; the first class stays clear.

    Args:
        image: (H, W, C), uint8 or float32 in [0, 1].
        class_map: (H, W) uint8 class indices.
        colors: One for each class.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    tint = np.asarray(colors, dtype=np.float32)[class_map]
    weight = np.where(class_map == 0, 0.0, 0.5).astype(np.float32)[..., None]
    blend: NDArray[np.uint8] = (preview(image) * (1 - weight) + tint * weight).round().astype(np.uint8)
    return blend
