"""One pair of image and mask, reduced to a few numbers."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.data.frequencies import value_counts
from unetseg.data.images import Pixels
from unetseg.data.labels import Labels
from unetseg.data.sources import Pair

__all__ = ["Moments", "PairFigures", "measure_pair"]


@dataclass(frozen=True)
class Moments:
    """What mean and standard deviation of each channel follow from; those of two images can be added.

    Attributes:
        count: number of pixels.
        mean: mean of each channel.
        squares: sum of the squared deviations from it.
        low: least value of all channels.
        high: greatest value of all channels.

    Example:
        >>> both = Moments.of(np.zeros((1, 1, 1), np.uint8)) + Moments.of(np.full((1, 3, 1), 255, np.uint8))
        >>> both.mean.tolist(), both.std.round(4).tolist()
        ([0.75], [0.433])
    """

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    low: float
    high: float

    @classmethod
    def of(cls, image: Pixels) -> "Moments":
        """Those of an image, (H, W, C) uint8 in [0, 255] or float32; of values in [0, 1]."""
        count = image.shape[0] * image.shape[1]
        mean, squares = np.zeros(image.shape[2]), np.zeros(image.shape[2])
        for i in range(image.shape[2]):
            if image.dtype == np.uint8:
                # in Python's integers, so that nothing is rounded
                counts = value_counts(image[..., i]).tolist()
                total = sum(number * value for value, number in enumerate(counts))
                total_squares = sum(number * value**2 for value, number in enumerate(counts))
                mean[i] = total / (count * 255)
                squares[i] = (count * total_squares - total**2) / (count * 255**2)
            else:
                values = image[..., i].astype(np.float64)
                mean[i] = values.mean()
                squares[i] = np.square(values - mean[i]).sum()
        full = 255 if image.dtype == np.uint8 else 1
        return cls(count, mean, squares, float(image.min()) / full, float(image.max()) / full)

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        difference = other.mean - self.mean
        return Moments(
            count,
            self.mean + difference * (other.count / count),
            self.squares + other.squares + difference**2 * (self.count * other.count / count),
            min(self.low, other.low),
            max(self.high, other.high),
        )

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of each channel over all pixels."""
        deviations: NDArray[np.float64] = np.sqrt(self.squares / self.count)
        return deviations


@dataclass(frozen=True)
class PairFigures:
    """What is kept of a pair.

    Attributes:
        size: (H, W).
        image_digest: a hash that two images share if they are the same, pixel by pixel, whatever their files are.
        mask_digest: the same of the mask.
        class_pixels: number of pixels of each class.
        ignored_pixels: number of pixels that don't count: one for all classes, or for multilabel data one a class.
        stray: values of the mask that are neither a class nor ignored.
        moments: those of the image, if they were asked for.
    """

    size: tuple[int, int]
    image_digest: bytes
    mask_digest: bytes
    class_pixels: NDArray[np.int64]
    ignored_pixels: NDArray[np.int64]
    stray: tuple[int, ...]
    moments: Moments | None

    @property
    def all_ignored(self) -> bool:
        """Whether no pixel of the mask counts."""
        return bool((self.ignored_pixels == math.prod(self.size)).all())


def measure_pair(pair: Pair, labels: Labels, *, with_moments: bool) -> PairFigures:
    """Count what a pair holds.

    Args:
        pair: image and mask, see `unetseg.data.sources.Source`.
        labels: what the mask's values mean.
        with_moments: whether mean and deviation of the image are wanted.
    """
    image, mask, _ = pair
    planes = mask if mask.ndim == 3 else mask[..., None]
    counts = np.stack([value_counts(planes[..., i]) for i in range(planes.shape[2])])  # (planes, 256)
    ignored = counts[:, labels.ignore_index].copy()
    counts[:, labels.ignore_index] = 0  # it may be a class's number, too
    values = len(labels.classes) if labels.mode == "multiclass" else 2
    return PairFigures(
        size=(image.shape[0], image.shape[1]),
        image_digest=_digest(image),
        mask_digest=_digest(mask),
        class_pixels=counts[0, :values] if labels.mode == "multiclass" else counts[:, 1],
        ignored_pixels=ignored,
        stray=tuple(int(value) + values for value in np.flatnonzero(counts[:, values:].any(axis=0))),
        moments=Moments.of(image) if with_moments else None,
    )


def _digest(pixels: NDArray[Any]) -> bytes:
    content = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    content.update(np.ascontiguousarray(pixels).data)
    return content.digest()
