"""Mask files as raw values or colours, before anything is said of what they mean."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.data.decoding import Decoded, decode, read_bytes
from unetseg.errors import DataError

__all__ = [
    "Color",
    "color_codes",
    "color_of",
    "decode_mask",
    "mask_colors",
    "mask_values",
    "read_binary",
    "values_of",
    "without_alpha",
]

Color = tuple[int, int, int]


def mask_values(path: str | os.PathLike[str]) -> set[int]:
    """Tell which values a mask file holds, whatever they mean.

    Raises:
        DataError: if the file can't be read or isn't an index mask.
    """
    return set(np.unique(read_values(path)).tolist())


def mask_colors(path: str | os.PathLike[str]) -> set[Color]:
    """Tell which RGB colours a mask file holds; none where it holds indices.

    Raises:
        DataError: if the file can't be read.
    """
    pixels = without_alpha(decode_mask(path, stored_values=True), path)
    if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        return set()
    red_green_blue = (color_of(code) for code in np.unique(color_codes(pixels)))
    return {(red, green, blue) for red, green, blue in red_green_blue}


def decode_mask(path: str | os.PathLike[str], *, stored_values: bool) -> Decoded:
    """Decode a mask file; see `unetseg.data.decoding.decode`.

    Raises:
        DataError: if it can't be decoded, or its format has changed its values.
    """
    data = read_bytes(path, DataError)
    decoded = decode(data, path, stored_values=stored_values, failure=DataError)
    if decoded.lossy:
        raise DataError(f"{path}: a {decoded.lossy} mask, whose compression changes classes; save masks as PNG")
    if decoded.converted:
        raise DataError(f"{path}: {decoded.converted} colours aren't exact; save the mask as an RGB or grey PNG")
    return decoded


def read_values(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read a mask's raw values, (H, W) of any integer dtype."""
    return values_of(decode_mask(path, stored_values=True), path)


def read_binary(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read where a mask isn't 0, (H, W) of 0 and 1."""
    decoded = decode_mask(path, stored_values=True)
    values = values_of(decoded, path)
    if decoded.palette is not None and decoded.palette[0].any():
        white_ground = [0] if decoded.palette[0].min() == 255 else []
        swapped = np.intersect1d(values, [*white_ground, *np.flatnonzero(~decoded.palette.any(axis=1))])
        if swapped.size:
            colours = "; ".join(f"{index} is {decoded.palette[index].tolist()}" for index in swapped)
            raise DataError(
                f"{path}: in its palette {colours}, so that its values and its colours contradict each other; save it "
                f"as an 8-bit grey PNG, without a palette"
            )
    return np.array(values != 0, dtype=np.uint8)


def values_of(decoded: Decoded, path: str | os.PathLike[str]) -> NDArray[Any]:
    """Values of a mask, (H, W) of any integer dtype; ``path`` is what an error calls it.

    Raises:
        DataError: if it holds colours, or no integers.
    """
    pixels = without_alpha(decoded, path)
    if pixels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {pixels.dtype} values aren't class indices; save the mask as an 8-bit PNG of one channel"
        )
    if pixels.shape[2] > 1 and (pixels != pixels[..., :1]).any():
        raise DataError(
            f"{path}: a colour mask, and colours aren't class indices; say which colour is which class with "
            f"--data.classes '{{road: [128, 64, 128], ...}}', or save it as an 8-bit PNG of one channel"
        )
    return pixels[..., 0]


def without_alpha(decoded: Decoded, path: str | os.PathLike[str]) -> NDArray[Any]:
    """Pixels of a mask but for its alpha channel, (H, W, C).

    Raises:
        DataError: if nothing but the alpha channel shows anything.
    """
    if not decoded.alpha:
        return decoded.pixels
    pixels, alpha = decoded.pixels[..., :-1], decoded.pixels[..., -1]
    if alpha.min() < alpha.max() and (pixels == pixels[0, 0]).all():
        raise DataError(
            f"{path}: it has one colour, and what it shows is in its alpha channel, which isn't read; save it as an "
            f"8-bit PNG of one channel"
        )
    return pixels


def color_codes(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """One number a colour, (..., 3) -> (...)."""
    codes = pixels[..., 0].astype(np.int32)
    for channel in (1, 2):
        codes <<= 8
        codes |= pixels[..., channel]
    return codes


def color_of(code: int) -> list[int]:
    """The colour of a number, see `color_codes`."""
    return [int(code) >> 16, int(code) >> 8 & 255, int(code) & 255]
