"""Images as the network takes them: a fixed number of channels, uint8 or float32 in [0, 1]."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.data.decoding import Decoded, decode, read_bytes
from unetseg.data.image_header import reason
from unetseg.errors import DataError, ImageError

__all__ = ["ImageReader", "Pixels"]

Pixels = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True)
class ImageReader:
    """Reads image files, the same way for training and for prediction.

    The EXIF orientation is applied. Files of 8 bits stay uint8; others become float32, with ``max_value`` as 1.
    Of channels, what is wanted is what must be there, but for three safe conversions: grey is repeated as RGB,
    alpha is dropped where RGB or grey are wanted, and RGB becomes its luminance (ITU-R 601) where grey is
    wanted.

    Args:
        in_channels: channels of the image.
        max_value: value that stands for full brightness. None: 255 for 8 bits, 65535 for unsigned 16 bits; values
            of any other type have no agreed range, and need it.

    Raises:
        DataError: if ``in_channels`` or ``max_value`` isn't positive.

    Example:
        >>> ImageReader(in_channels=4, max_value=10_000)
        ImageReader(in_channels=4, max_value=10000)
    """

    in_channels: int = 3
    max_value: float | None = None

    def __post_init__(self) -> None:
        if self.in_channels < 1:
            raise DataError(f"in_channels {self.in_channels}: must be at least 1")
        if self.max_value is not None and not 0 < self.max_value < float("inf"):
            raise DataError(f"max_value {self.max_value}: must be above 0, the value that stands for full brightness")

    def __call__(self, path: str | os.PathLike[str]) -> Pixels:
        """Read a file: JPEG, PNG, TIFF, WebP, or another format that Pillow knows.

        Returns:
            (H, W, in_channels) uint8 in [0, 255], or float32, in [0, 1] unless values exceed ``max_value``.

        Raises:
            ImageError: if the file can't be read, or has other channels or values than are wanted.
        """
        return self.decode(read_bytes(path), path)

    def decode(self, data: bytes, name: str | os.PathLike[str]) -> Pixels:
        """Decode the content of an image file; ``name`` is what an error calls it. Otherwise as a call."""
        return self.convert(decode(data, name, channels=self.in_channels), name)

    def convert(self, decoded: Decoded, name: str | os.PathLike[str]) -> Pixels:
        """Choose and scale the channels of what is decoded already: an image, or a part of one.

        Args:
            decoded: with the channels and values of the file.
            name: what an error calls it.

        Returns:
            As a call does.

        Raises:
            ImageError: if it has other channels or values than are wanted.

        Example:
            >>> ImageReader(1).convert(Decoded(np.full((1, 2, 2), 65535, np.uint16), alpha=True), "a.tif").tolist()
            [[[1.0], [1.0]]]
        """
        pixels = self._scale(self._chosen_channels(decoded, name), name)
        if pixels.shape[2] == self.in_channels:
            return pixels
        if self.in_channels == 1 and pixels.dtype == np.float32:
            return _luminance(pixels)
        if self.in_channels == 3:
            return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        return _grey(pixels, name)

    def _chosen_channels(self, decoded: Decoded, name: str | os.PathLike[str]) -> NDArray[Any]:
        """Channels that can become those that are wanted, without alpha where it isn't."""
        pixels = decoded.pixels
        there = pixels.shape[2]
        if there == self.in_channels:
            return pixels
        if decoded.alpha and self.in_channels in (1, 3):
            pixels = np.ascontiguousarray(pixels[..., :-1])
        if pixels.shape[2] == self.in_channels or (pixels.shape[2], self.in_channels) in ((1, 3), (3, 1)):
            return pixels
        raise ImageError(
            f"{name} has {there} channels, and {self.in_channels} are wanted. If all images have {there}, train with "
            f"--data.in_channels {there}"
        )

    def _scale(self, pixels: NDArray[Any], name: str | os.PathLike[str]) -> Pixels:
        if pixels.dtype == np.uint8 and self.max_value in (None, 255):
            return pixels
        if pixels.dtype == np.uint8 and (self.max_value or 0) > 255:
            raise ImageError(
                f"{name} has 8 bits a channel, which hold no more than 255, and full brightness is said to be "
                f"{self.max_value:g} (max_value); save all images with the same depth"
            )
        largest = 65535 if self.max_value is None and pixels.dtype == np.uint16 else self.max_value
        if pixels.dtype.kind not in "uif" or largest is None:
            shown = f" ({pixels.min()} to {pixels.max()})" if pixels.dtype.kind in "uif" else ""
            raise ImageError(
                f"{name}: {pixels.dtype} values{shown} have no agreed range; say which value is full brightness with "
                f"--data.max_value, or save it with 8 or 16 bits a channel"
            )
        with np.errstate(all="ignore"):  # what it makes infinite is refused
            scaled: NDArray[np.float32] = np.divide(pixels, np.float32(largest), dtype=np.float32)
        if not np.isfinite(scaled).all():
            raise ImageError(
                f"{name} holds values that are no numbers; replace them, and ignore those pixels in the mask"
            )
        return scaled


def _luminance(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """ITU-R 601's of float32 RGB; the last bit of OpenCV's depends on a pixel's place, so that parts would differ."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    grey: NDArray[np.float32] = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    return grey[..., None]


def _grey(pixels: NDArray[Any], name: str | os.PathLike[str]) -> NDArray[Any]:
    """ITU-R 601's of uint8 RGB."""
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise ImageError(f"{name}: can't be read as grey: {reason(error)}") from error
    grey: NDArray[Any] = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    return grey
