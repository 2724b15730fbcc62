"""Where tiles of a large image lie, and how their overlaps are blended: integers and one-dimensional windows."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Blend", "BlendedTiles", "Tiling", "blend_window", "split_axis"]

Blend = Literal["gaussian", "linear", "none"]
"""How an overlap passes from one tile to the next: in its middle half, along the integral of a Gaussian; in all of it,
along a straight line; or at once, in its middle. So the tiles equal the whole where an overlap is twice the receptive
field, or with "none" as large as it."""

MapsT = TypeVar("MapsT", "NDArray[np.float32]", "Tensor")

_UNUSED = 0.25  # of an overlap, at each tile's edge, where its pixels know least of what is around them
_SIGMAS = 6  # of the Gaussian in the rest of an overlap
_LEAST_STRIDES = 4  # in a tile, so that none is left with less than one


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    Args:
        tile: Most rows and columns of a tile, in pixels.
        overlap: Rows and columns that neighbours share, in pixels.
        stride: The network's total stride. Tiles begin at its multiples, so that the network's grid lies on the image
            as it does when the image is whole; ``tile`` is rounded down to one, ``overlap`` up.
        blend: How an overlap passes from one tile to the next.

    Raises:
        OptionError: If the overlap is more than two fifths of a tile, or a tile is less than four strides.

    Example:
        >>> Tiling(1000, 100).tile, Tiling(1000, 100).overlap
        (992, 128)
    """

    tile: int
    overlap: int
    stride: int = 32
    blend: Blend = "gaussian"

    def __post_init__(self) -> None:
        tile, overlap = self.tile // self.stride * self.stride, ceil(self.overlap / self.stride) * self.stride
        if self.overlap < 0:
            raise OptionError(f"overlap is {self.overlap}; it must be at least 0.")
        if tile < _LEAST_STRIDES * self.stride:
            least = _LEAST_STRIDES * self.stride
            raise OptionError(f"tile is {self.tile}; this network needs at least {least}, such as 1024.")
        if 5 * overlap > 2 * tile:  # beyond that, three of the shorter tiles of an even division might meet
            rounded = "" if overlap == self.overlap else f" (rounded up to {overlap})"
            raise OptionError(
                f"overlap is {self.overlap}{rounded} and tile is {self.tile}; the overlap can be no more than two "
                f"fifths of the tile: {2 * tile // 5 // self.stride * self.stride} here."
            )
        object.__setattr__(self, "tile", tile)
        object.__setattr__(self, "overlap", overlap)


def split_axis(length: int, tiling: Tiling) -> list[tuple[int, int]]:
    """Start and end of the tiles along an axis.

    As few as possible, and of about one length: the network takes any size, so no tile need reach back, or be filled
    up, to be as long as the others.

    Args:
        length: Pixels of the axis.
        tiling: How it is cut.

    Returns:
        Starts, which are multiples of the stride, and ends; a tile ends ``overlap`` pixels behind the next one's start.

    Example:
        >>> split_axis(1025, Tiling(1024, 128))
        [(0, 608), (480, 1025)]
    """
    if length <= tiling.tile:
        return [(0, length)]
    own = length - tiling.overlap
    count = ceil(own / (tiling.tile - tiling.overlap))
    # the longer ones first, so that neighbours are mostly of one length and go into one batch
    steps, longer = divmod(ceil(own / tiling.stride), count)
    starts = [(i * steps + min(i, longer)) * tiling.stride for i in range(count)]
    return list(zip(starts, [*(start + tiling.overlap for start in starts[1:]), length], strict=True))


def blend_window(overlap: int, blend: Blend) -> NDArray[np.float32]:
    """Weights of the tile that begins in an overlap; those of the one that ends there are what is left to 1.

    Args:
        overlap: Pixels of the overlap.
        blend: Its kind.

    Returns:
        (overlap,) float32, rising from about 0 to about 1.

    Example:
        >>> blend_window(4, "linear").tolist(), blend_window(4, "none").tolist()
        ([0.125, 0.375, 0.625, 0.875], [0.0, 0.0, 1.0, 1.0])
    """
    position = (np.arange(overlap) + 0.5) / max(overlap, 1)  # in (0, 1), centres of pixels
    if blend == "linear":
        window = position
    elif blend == "none":
        window = np.where(position > 0.5, 1.0, 0.0)
    else:
        position = (position - _UNUSED).clip(0, 1 - 2 * _UNUSED) / (1 - 2 * _UNUSED)
        least = _normal_integral(-_SIGMAS / 2)
        window = np.array([(_normal_integral((x - 0.5) * _SIGMAS) - least) / (1 - 2 * least) for x in position])
    return window.astype(np.float32)


def _normal_integral(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


@dataclass(frozen=True)
class Tile:
    """A tile, and which part of it is finished once it has been blended.

    Attributes:
        rows: Start and end.
        columns: Start and end.
        own_rows: How many of its rows, from the first, no later tile has a share in.
        own_columns: How many of its columns.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    own_rows: int
    own_columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]


class BlendedTiles:
    """Blends the maps of tiles, which come row by row, into blocks that cover the image once.

    Maps are arrays of NumPy, or tensors of torch on any device.

    Windows are products of one for the rows and one for the columns, which add up to 1 everywhere. So a tile's own
    part is finished at once, and what is kept is no more than the overlaps: one strip as wide as the image, and one as
    high as a tile. Memory doesn't grow with the image's height.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        tiling: How it is cut.

    Example:
        >>> tiles = BlendedTiles(100, 50, Tiling(64, 16, stride=16))
        >>> [tile.shape for tile in tiles]
        [(64, 50), (52, 50)]
        >>> blocks = [tiles.blend(tile, np.ones((1, *tile.shape), np.float32)) for tile in tiles]
        >>> np.unique(np.concatenate(blocks, axis=1)).tolist()
        [1.0]
    """

    def __init__(self, height: int, width: int, tiling: Tiling) -> None:
        self.rows, self.columns = split_axis(height, tiling), split_axis(width, tiling)
        self.overlap = tiling.overlap
        self._rise = blend_window(tiling.overlap, tiling.blend)
        self._width = width
        # (C, overlap, width) of this row of tiles as far as it has come, from there on of the row above
        self._strip: Any = None
        self._left: Any = None  # (C, h, overlap) of the tile on the left

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Tile]:
        """The tiles in the order in which they are blended: rows from top to bottom, in each from left to right."""
        for i, rows in enumerate(self.rows):
            for j, columns in enumerate(self.columns):
                end = self.rows[i + 1][0] if i + 1 < len(self.rows) else rows[1]
                right = self.columns[j + 1][0] if j + 1 < len(self.columns) else columns[1]
                yield Tile(rows, columns, end - rows[0], right - columns[0])

    def blend(self, tile: Tile, maps: MapsT) -> MapsT:
        """Take a tile's maps.

        Args:
            tile: The next one of the iteration.
            maps: (C, h, w) floating point, of the tile; changed.

        Returns:
            (C, own_rows, own_columns): what lies at the tile's start, finished.
        """
        height, width = tile.shape
        overlap, rise = self.overlap, _like(maps, self._rise)
        last_row, last_column = tile.own_rows == height, tile.own_columns == width
        own = slice(tile.columns[0], tile.columns[0] + tile.own_columns)
        if tile.rows[0] > 0:
            maps[:, :overlap] *= rise[:, None]
        if not last_row:
            maps[:, tile.own_rows :] *= 1 - rise[:, None]
        if tile.columns[0] > 0:
            maps[..., :overlap] *= rise
        if not last_column:
            maps[..., tile.own_columns :] *= 1 - rise
        if tile.columns[0] > 0 and self._left is not None:
            maps[..., :overlap] += self._left
        if tile.rows[0] > 0 and self._strip is not None:
            maps[:, :overlap, : tile.own_columns] += self._strip[..., own]
        self._left = None if last_column else _copy(maps[..., tile.own_columns :])
        if not last_row:
            if self._strip is None:
                self._strip = _empty_like(maps, (len(maps), overlap, self._width))
            self._strip[..., own] = maps[:, tile.own_rows :, : tile.own_columns]
        return maps[:, : tile.own_rows, : tile.own_columns]


def _like(maps: Any, values: NDArray[np.float32]) -> Any:
    """The values as what the maps are, where they are."""
    return values.astype(maps.dtype) if isinstance(maps, np.ndarray) else maps.new_tensor(values)


def _copy(maps: Any) -> Any:
    return maps.copy() if isinstance(maps, np.ndarray) else maps.clone()


def _empty_like(maps: Any, shape: tuple[int, ...]) -> Any:
    return np.empty(shape, maps.dtype) if isinstance(maps, np.ndarray) else maps.new_empty(shape)
