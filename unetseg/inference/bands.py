"""Rectangles of an image, put together to bands as wide as it is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetseg.inference.prediction import Block

__all__ = ["Band", "bands"]


@dataclass(frozen=True)
class Band:
    """Rows of an image.

    Attributes:
        top: The first one.
        classes: (planes, h, W) uint8: one plane of class indices, or of a "multilabel" model one of 0 and 1 a class.
        probabilities: (classes, h, W) float16 in [0, 1], if the blocks have some.
    """

    top: int
    classes: NDArray[np.uint8]
    probabilities: NDArray[np.float16] | None

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.classes.shape[1])


def bands(blocks: Iterable[Block], width: int) -> Iterator[Band]:
    """Put blocks together to bands.

    Args:
        blocks: As ``Predictor.blocks`` gives them: row by row, in each from the left, those of a row of one height.
        width: Of the image.

    Example:
        >>> left, right = np.zeros((2, 3), np.uint8), np.ones((2, 1), np.uint8)
        >>> [band.classes.tolist() for band in bands([Block(left), Block(right, left=3)], width=4)]
        [[[[0, 0, 0, 1], [0, 0, 0, 1]]]]
    """
    band = None
    for block in blocks:
        planes = block.classes if block.classes.ndim == 3 else block.classes[None]
        if band is None:
            maps = block.probabilities
            whole = None if maps is None else np.empty((len(maps), planes.shape[1], width), np.float16)
            band = Band(block.top, np.empty((*planes.shape[:2], width), np.uint8), whole)
        right = block.left + planes.shape[2]
        band.classes[..., block.left : right] = planes
        if band.probabilities is not None and block.probabilities is not None:
            band.probabilities[..., block.left : right] = block.probabilities
        if right == width:
            yield band
            band = None
