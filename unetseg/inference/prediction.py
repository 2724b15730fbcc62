"""What prediction says of an image, and of a part of one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "Prediction"]


@dataclass(frozen=True)
class Prediction:
    """What an image shows.

    Attributes:
        classes: (H, W) uint8, indices of classes; of a "multilabel" model (classes, H, W) uint8 of 0 and 1.
        probabilities: (classes, H, W) float32 in [0, 1], if they were asked for.
    """

    classes: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Block(Prediction):
    """What a rectangle of an image shows.

    Attributes:
        top: Its first row in the image.
        left: Its first column.
    """

    top: int = 0
    left: int = 0
