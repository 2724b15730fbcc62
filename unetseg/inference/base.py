"""What every predictor does around its network: check, tile, blend, decide. It needs no torch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetseg.config import Mode, check_choice
from unetseg.data.images import ImageReader, Pixels
from unetseg.data.masks import Color
from unetseg.errors import ImageError, OptionError
from unetseg.inference.augmentation import TTA
from unetseg.inference.description import ModelDescription
from unetseg.inference.prediction import Block, Prediction
from unetseg.inference.sources import ArraySource, ImageSource, read_tiles
from unetseg.inference.tiling import Blend, BlendedTiles, Tile, Tiling

__all__ = ["AUTO_TILE", "MEMORY_BUDGET", "BasePredictor"]

AUTO_TILE = 1024
DEFAULT_OVERLAP = 128
MEMORY_BUDGET = 4 * 2**30
"""Bytes that the network's maps may take before an image is tiled by itself. Not what this machine has free: the same
image gives the same mask everywhere."""

_ALWAYS_WHOLE = 2**20  # pixels, for which no network's memory is measured


class BasePredictor(ABC):
    """Classes of images, each at its own size, by whatever computes the network.

    A subclass computes; :class:`unetseg.inference.Predictor` describes the options.

    Attributes:
        description: What the network takes and gives.
        read: Reads image files as it takes them, the way they were read in training.
    """

    def __init__(
        self,
        description: ModelDescription,
        *,
        tile: int | Literal["auto"] | None = "auto",
        overlap: int | None = None,
        blend: Blend = "gaussian",
        tta: TTA = "none",
        batch_size: int = 1,
    ) -> None:
        check_choice("blend", blend, Blend)
        check_choice("tta", tta, TTA)
        for name, value in {"batch_size": batch_size, "tile": 1 if tile in ("auto", None) else tile}.items():
            if type(value) is not int or value < 1:
                hint = ' (or "auto", or None)' if name == "tile" else ""
                raise OptionError(f"{name} is {value!r}; it must be a whole number from 1 on{hint}.")
        self.description = description
        self.tile = tile
        self.tta = tta
        self.batch_size = batch_size
        stride, side = description.total_stride, AUTO_TILE if tile in ("auto", None) else int(tile)
        if tile is None:
            overlap = None
        if overlap is None:
            overlap = min(DEFAULT_OVERLAP, 2 * side // 5 // stride * stride)
        self.tiling = Tiling(side, overlap, stride, blend)
        self.read = ImageReader(description.in_channels, description.max_value)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their values."""
        return self.description.classes

    @property
    def mode(self) -> Mode:
        """What a pixel can be, see :data:`unetseg.config.Mode`."""
        return self.description.mode

    @property
    def colors(self) -> tuple[Color, ...] | None:
        """RGB colour of each class, if the masks that it learned from had some."""
        return self.description.colors

    @abstractmethod
    def predict_whole(self, images: Sequence[Pixels], probabilities: bool) -> list[Prediction]:
        """Predict images of one size, none of which is tiled."""

    @abstractmethod
    def tile_probabilities(self, tiles: Sequence[Pixels]) -> Any:
        """(N, classes, h, w) floating point of tiles of one size, a kind of array that ``BlendedTiles`` takes."""

    @abstractmethod
    def blend(self, tiles: BlendedTiles, tile: Tile, maps: Any, probabilities: bool) -> Block:
        """What a tile finishes."""

    @abstractmethod
    def map_bytes(self, height: int, width: int) -> int:
        """What the network's maps of an image take at one time."""

    def __call__(self, image: Pixels) -> NDArray[np.uint8]:
        """The class, or the classes, of every pixel.

        Args:
            image: (H, W, in_channels), uint8 in 0..255 or float32 in [0, 1]; RGB where in_channels is 3.

        Returns:
            (H, W) uint8, indices into ``classes``; of a "multilabel" model (classes, H, W) uint8 of 0 and 1.

        Raises:
            ImageError: If it is no such array, too small for the encoder, or too large for the memory.
        """
        return self.predict([image])[0].classes

    def predict(self, images: Sequence[Pixels], *, probabilities: bool = False) -> list[Prediction]:
        """Predict images of one size in one batch; those that are tiled one after the other.

        Args:
            images: As a call takes them.
            probabilities: Whether these are wanted, too.

        Raises:
            ImageError: As in a call.
        """
        for image in images:
            self.check(image)
        if len({(image.shape, image.dtype) for image in images}) > 1:
            kinds = ", ".join(sorted({f"{image.shape} {image.dtype}" for image in images}))
            raise ImageError(f"images of one batch have one size and one dtype; got {kinds}.")
        if not images or self.is_tiled(*images[0].shape[:2]):
            return [self._assembled(image, probabilities) for image in images]
        return self.predict_whole(images, probabilities)

    def is_tiled(self, height: int, width: int) -> bool:
        """Whether the network sees an image of that size in parts."""
        if self.tile is None:
            return False
        if self.tile == "auto":
            return height * width > _ALWAYS_WHOLE and self.map_bytes(height, width) > MEMORY_BUDGET
        return max(height, width) > self.tiling.tile

    def blocks(self, source: ImageSource, *, probabilities: bool = False) -> Iterator[Block]:
        """Predict an image that is read by windows, in memory that doesn't grow with its height.

        Args:
            source: The image.
            probabilities: Whether these are wanted, too.

        Returns:
            Rectangles that cover the image once, row by row from the top, in each from the left; those of a row have
            one height.

        Raises:
            ImageError: As in a call, and as the source raises.
        """
        if not self.is_tiled(source.height, source.width):
            image = source.read(0, 0, source.height, source.width)
            (whole,) = self.predict([image], probabilities=probabilities)
            yield Block(whole.classes, whole.probabilities)
            return
        tiles = BlendedTiles(source.height, source.width, self.tiling)
        for group, windows in read_tiles(source, tiles, self.batch_size):
            for window in windows:
                self.check(window)
            for tile, maps in zip(group, self.tile_probabilities(windows), strict=True):
                yield self.blend(tiles, tile, maps, probabilities)

    def check(self, image: Pixels) -> None:
        """Refuse an array that isn't such an image.

        Raises:
            ImageError: It says what an image is.
        """
        channels = self.description.in_channels
        if image.ndim != 3 or image.shape[2] != channels or image.dtype not in (np.uint8, np.float32):
            raise ImageError(
                f"an image is an (H, W, {channels}) {'RGB ' if channels == 3 else ''}array, uint8 with values in "
                f"0..255 or float32 with values in [0, 1]; got shape {image.shape}, dtype {image.dtype}."
            )

    def _assembled(self, image: Pixels, probabilities: bool) -> Prediction:
        size, classes_count = image.shape[:2], len(self.description.classes)
        classes = np.empty((classes_count, *size) if self.description.mode == "multilabel" else size, np.uint8)
        maps = np.empty((classes_count, *size), np.float32) if probabilities else None
        for block in self.blocks(ArraySource(image), probabilities=probabilities):
            height, width = block.classes.shape[-2:]
            place = (..., slice(block.top, block.top + height), slice(block.left, block.left + width))
            classes[place] = block.classes
            if maps is not None:
                maps[place] = block.probabilities
        return Prediction(classes, maps)
