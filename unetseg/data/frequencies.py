"""How often classes occur in masks, and the weights by which a loss can make up for it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.data.sources import FileSource, Source

__all__ = ["ClassFrequencies", "count_classes", "median_frequency_weights", "value_counts"]

_THREADS = 8
_AHEAD = 1024  # masks; their counts wait for their turn
_BLOCK = 1 << 20  # values counted at a time: numpy widens them to 64 bits


@dataclass(frozen=True)
class ClassFrequencies:
    """How often each class occurs, in the order of the classes.

    Attributes:
        pixels: number of its pixels.
        pixels_beside: number of pixels in the images where it occurs; those of no class don't count.
    """

    pixels: NDArray[np.int64]
    pixels_beside: NDArray[np.int64]


def count_classes(source: Source, num_classes: int, ignore_index: int) -> ClassFrequencies:
    """Read every mask once and count.

    Args:
        source: where the pairs are; images aren't read if it can do without.
        num_classes: number of classes C.
        ignore_index: value of pixels that belong to no class; in a multilabel mask, of those where a class isn't known.

    Raises:
        DataError: if a mask can't be read, or doesn't fit its image.
        ImageError: if an image can't be read.
    """
    pixels, beside = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)

    def count(index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return _count(source.read_mask(index), num_classes, ignore_index)

    # files can be read by several threads; shards can't, nor perhaps what else there may be
    threads = ThreadPoolExecutor(_THREADS if isinstance(source, FileSource) else 1)
    with threads:
        for first in range(0, len(source), _AHEAD):
            for own, counted in threads.map(count, range(first, min(first + _AHEAD, len(source)))):
                pixels += own
                beside += np.where(own > 0, counted, 0)
    return ClassFrequencies(pixels, beside)


def median_frequency_weights(frequencies: ClassFrequencies) -> list[float]:
    """Weights of the classes in a loss: median frequency balancing.

    A class's frequency is the share of its pixels in the images where it occurs, and its weight the median of all
    classes' frequencies by its own: rare classes weigh more than 1, frequent ones less. A class that never occurs
    has no frequency; its weight is 1.

    Source: Eigen and Fergus 2015, Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale
    Convolutional Architecture, arXiv:1411.4734. Where a pixel may have several classes, each is taken by itself.

    Example:
        >>> pixels, beside = np.array([60, 30, 10, 0]), np.array([100, 100, 50, 0])
        >>> [round(weight, 2) for weight in median_frequency_weights(ClassFrequencies(pixels, beside))]
        [0.5, 1.0, 1.5, 1.0]
    """
    occurs = frequencies.pixels > 0
    weights = np.ones(len(occurs))
    if occurs.any():
        own = frequencies.pixels[occurs] / frequencies.pixels_beside[occurs]
        weights[occurs] = np.median(own) / own
    return [float(weight) for weight in weights]


def value_counts(values: NDArray[Any]) -> NDArray[np.int64]:
    """How often each of 0..255 occurs in a uint8 array of any shape."""
    flat = values.ravel()
    counts = np.zeros(256, np.int64)
    for start in range(0, flat.size, _BLOCK):
        counts += np.bincount(flat[start : start + _BLOCK], minlength=256)
    return counts


def _count(mask: NDArray[np.uint8], num_classes: int, ignore_index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels of each class in a mask, (H, W) or (H, W, C), and the pixels among which each was looked for."""
    if mask.ndim == 3:
        return (mask == 1).sum((0, 1)), (mask != ignore_index).sum((0, 1))
    counts = value_counts(mask)
    counts[ignore_index] = 0  # it may be the number of a class
    return counts[:num_classes], np.full(num_classes, counts.sum())
