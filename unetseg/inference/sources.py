"""Images that are read by windows."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from unetseg.data.images import Pixels
from unetseg.inference.loading import grouped, load_ahead
from unetseg.inference.tiling import Tile

__all__ = ["ArraySource", "ImageSource", "read_tiles"]


class ImageSource(Protocol):
    """An image that is read by windows, from one thread at a time, but not always the same."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        """A window (height, width, C), uint8 in 0..255 or float32 in [0, 1]."""


class ArraySource:
    """An image in memory, as a source of windows."""

    def __init__(self, image: Pixels) -> None:
        self.image = image
        self.height, self.width = image.shape[:2]

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        """See above."""
        return self.image[top : top + height, left : left + width]


def read_tiles(
    source: ImageSource, tiles: Iterable[Tile], batch_size: int
) -> Iterator[tuple[list[Tile], list[Pixels]]]:
    """Read tiles, the next ones while the network is at work on those before.

    Args:
        source: The image; it is read in another thread.
        tiles: Which, in their order.
        batch_size: Most of them, neighbours of one size, that come together.
    """

    def read(group: list[Tile]) -> tuple[list[Tile], list[Pixels]]:
        return group, [source.read(tile.rows[0], tile.columns[0], *tile.shape) for tile in group]

    return load_ahead(read, grouped(tiles, lambda tile: tile.shape, batch_size), threads=1, ahead=2)
