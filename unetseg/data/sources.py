"""Where pairs of image and mask come from, by number."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetseg.data.image_header import image_size, orientation
from unetseg.data.images import ImageReader, Pixels
from unetseg.data.masks import MaskReader
from unetseg.data.splits import Sample
from unetseg.errors import MaskSizeError

__all__ = ["FileSource", "Pair", "Source", "read_sizes"]

_HEADER_THREADS = 8

Pair = tuple[Pixels, NDArray[np.uint8], str]


class Source(Protocol):
    """A sequence of pairs that can be sent to another process."""

    def __len__(self) -> int:
        """Number of pairs."""
        ...

    def name(self, index: int) -> str:
        """What a pair is called."""
        ...

    def read(self, index: int) -> Pair:
        """Read a pair.

        Returns:
            The image, (H, W, C) uint8 or float32 in [0, 1]; its mask, (H, W) or, for multilabel data, (H, W, classes)
            uint8; and its name.

        Raises:
            ImageError: if the image can't be read.
            DataError: if the mask can't, or doesn't fit the image.
        """
        ...

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        """Read the mask of a pair, the same as `read` does, without decoding the image where that can be.

        Raises:
            ImageError: if the image can't be read.
            DataError: if the mask can't, or doesn't fit the image.
        """
        ...

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of a pair, without reading it whole.

        Raises:
            ImageError: if the image can't be read.
        """
        ...


def read_sizes(source: Source) -> list[tuple[int, int]]:
    """(H, W) of all pairs, read by several threads, as each may be a trip to a disk far away.

    Raises:
        ImageError: if an image can't be read.
    """
    with ThreadPoolExecutor(_HEADER_THREADS) as threads:
        return list(threads.map(source.size, range(len(source))))


@dataclass(frozen=True)
class FileSource:
    """Pairs of files, read and checked when they are asked for.

    Args:
        samples: the pairs.
        image_reader: reads the images.
        mask_reader: reads the masks.
    """

    samples: Sequence[Sample]
    image_reader: ImageReader
    mask_reader: MaskReader

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, index: int) -> str:
        """The sample's name."""
        return self.samples[index].name

    def read(self, index: int) -> Pair:
        """Read a pair, see `Source`."""
        sample = self.samples[index]
        image = self.image_reader(sample.image)
        return image, self._fitting_mask(sample, (image.shape[0], image.shape[1])), sample.name

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        """Read a mask, and of the image its header."""
        return self._fitting_mask(self.samples[index], self.size(index))

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) by the image's header."""
        return image_size(self.samples[index].image)

    def _fitting_mask(self, sample: Sample, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The mask of an image of such a size."""
        mask = self.mask_reader(sample.mask, size)
        if mask.shape[:2] != size:
            (height, width), (mask_height, mask_width) = size, mask.shape[:2]
            raise MaskSizeError(
                f"{sample.image} is {width} x {height} pixels (width x height), but its mask{_place(sample.mask)} is "
                f"{mask_width} x {mask_height}{_orientation_hint(sample)}"
            )
        return mask


def _place(mask: Any) -> str:
    """Say where a mask is."""
    if isinstance(mask, Mapping):
        return f" {next(iter(mask.values()))}"
    return f" {mask}" if isinstance(mask, str | os.PathLike) else f" ({mask.where})" if hasattr(mask, "where") else ""


def _orientation_hint(sample: Sample) -> str:
    """Explain a difference in size by the image's EXIF orientation, if it has one."""
    turn = orientation(sample.image)
    if turn == 1:
        return ""
    return (
        f"; the image has EXIF orientation {turn}, which was applied: was the mask drawn on the image as it is stored?"
    )
