"""Images and masks from files: the one place that opens them, for training and for prediction."""

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from unetseg.errors import DataError, ImageError, UnetsegError

__all__ = ["IMAGE_SUFFIXES", "MaskFormat", "abridged", "mask_values", "read_image", "read_mask", "read_pair"]

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Suffixes of image files, in lower case; upper case counts too."""

MaskFormat = Literal["index", "binary"]
"""What a mask's values mean: ``index``, the value is the class; ``binary``, any non-zero value is class 1."""

_WIDE_GREY = {"I", "I;16", "I;16B", "I;16L", "I;16N"}  # Pillow's modes for a 16-bit grey image
_INDEX_MODES = {"1", "L", "P", *_WIDE_GREY}
_MULTICHANNEL_MODES = {"LA", "PA", "RGB", "RGBA"}


def abridged(items: Iterable[object], limit: int = 5) -> str:
    """List the first few items for an error message and count the others.

    >>> abridged("abc"), abridged(range(1000), limit=2)
    ('a, b, c', '0, 1 and 998 more')
    """
    remaining = iter(items)
    shown = ", ".join(str(item) for item in islice(remaining, limit))
    left = sum(1 for _ in remaining)
    return f"{shown} and {left} more" if left else shown


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image file as RGB, the way up that a viewer shows it.

    The EXIF orientation is applied; grey, palette and CMYK become RGB; alpha is dropped; 16-bit grey is
    scaled to 8 bits (65535 to 255). Of a file with several frames it is the first.

    Args:
        path: file in any format that Pillow reads.

    Returns:
        (H, W, 3) uint8 RGB in [0, 255].

    Raises:
        ImageError: if the file can't be read, or its values have no agreed meaning as RGB.
    """
    image, _ = _decode(path, ImageError)
    if image.mode in _WIDE_GREY:
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ImageError(
                f"{path}: 32-bit grey with values {grey.min()}..{grey.max()}; save it with 8 or 16 bits a channel"
            )
        eight_bits = ((grey + 128) // 257).astype(np.uint8)  # Pillow's own conversion clips at 255
        return np.repeat(eight_bits[..., None], 3, axis=2)
    if image.mode == "F":
        raise ImageError(f"{path}: floating-point values have no agreed range; save it with 8 or 16 bits a channel")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # straight to RGB, Pillow warns of transparency in the palette
    try:
        return np.array(image.convert("RGB"))
    except ValueError as error:
        raise ImageError(f"{path}: mode {image.mode} can't be converted to RGB; save it as RGB") from error


def read_mask(
    path: str | os.PathLike[str], *, mask_format: MaskFormat, num_classes: int, ignore_index: int
) -> NDArray[np.uint8]:
    """Read a mask file as class indices.

    A palette image gives its raw indices, never its colours. Colour channels that are all equal count as
    one. JPEG is refused, as its compression changes values.

    Args:
        path: PNG, or another format without loss.
        mask_format: ``index``: the value is the class. ``binary``: any non-zero value is class 1.
        num_classes: number of classes C, at most 255.
        ignore_index: value of pixels that belong to no class, 0 to 255.

    Returns:
        (H, W) uint8 in 0..C-1 or ``ignore_index``; for ``binary`` in {0, 1}.

    Raises:
        DataError: if the file can't be read, isn't an index mask, or holds any other value.
    """
    values = _read_values(path)
    if mask_format == "binary":
        return np.array(values != 0, dtype=np.uint8)
    stray = np.unique(values[((values < 0) | (values >= num_classes)) & (values != ignore_index)])
    if stray.size:
        hint = "; for masks of 0 and 255 use --data.mask_format binary" if stray.tolist() == [255] else ""
        raise DataError(
            f"{path} holds the values {abridged(stray)}; "
            f"with {num_classes} classes it may hold 0..{num_classes - 1} and {ignore_index} (ignored){hint}"
        )
    return np.array(values, dtype=np.uint8)  # a copy, for Pillow's memory can't be written


def mask_values(path: str | os.PathLike[str]) -> set[int]:
    """Tell which values a mask file holds, whatever they mean.

    Raises:
        DataError: if the file can't be read or isn't an index mask.
    """
    return set(np.unique(_read_values(path)).tolist())


def read_pair(
    image_path: str | os.PathLike[str],
    mask_path: str | os.PathLike[str],
    *,
    mask_format: MaskFormat,
    num_classes: int,
    ignore_index: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read an image and its mask, which must have one size.

    Returns:
        The image as of `read_image`, (H, W, 3), and the mask as of `read_mask`, (H, W).

    Raises:
        ImageError: if the image can't be read.
        DataError: if the mask can't be read, holds a stray value or differs in size from the image.
    """
    image = read_image(image_path)
    mask = read_mask(mask_path, mask_format=mask_format, num_classes=num_classes, ignore_index=ignore_index)
    (image_height, image_width), (mask_height, mask_width) = image.shape[:2], mask.shape
    if (image_height, image_width) != (mask_height, mask_width):
        raise DataError(
            f"{image_path} is {image_width} x {image_height} pixels (width x height), "
            f"but its mask {mask_path} is {mask_width} x {mask_height}{_orientation_hint(image_path)}"
        )
    return image, mask


def _orientation_hint(image_path: str | os.PathLike[str]) -> str:
    """Explain a difference in size by the image's EXIF orientation, if it has one."""
    with Image.open(image_path) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation == 1:
        return ""
    return (
        f"; the image has EXIF orientation {orientation}, which was applied: "
        "was the mask drawn on the image as it is stored?"
    )


def _decode(path: str | os.PathLike[str], failure: type[UnetsegError]) -> tuple[Image.Image, str | None]:
    """Open, decode and upright an image file; return it with its format, such as ``PNG``."""
    try:
        with Image.open(path) as image:
            file_format = image.format  # lost when the image is turned
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return image, file_format
    except Exception as error:  # a damaged file makes Pillow raise nearly anything, from SyntaxError to EOFError
        raise failure(f"{path}: can't be read as an image: {_reason(path, error)}") from error


def _reason(path: str | os.PathLike[str], error: Exception) -> str:
    """Say in a few words, on one line, why Pillow couldn't read a file."""
    if isinstance(error, UnidentifiedImageError):
        return "the file is empty" if Path(path).stat().st_size == 0 else "its format isn't one that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def _read_values(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read a mask's raw values, (H, W) of any integer dtype."""
    image, file_format = _decode(path, DataError)
    if file_format in ("JPEG", "MPO"):
        raise DataError(f"{path}: a JPEG mask, whose compression changes class indices; save masks as PNG")
    if image.mode not in _INDEX_MODES | _MULTICHANNEL_MODES:
        raise DataError(
            f"{path}: a mask of mode {image.mode} doesn't hold class indices; save it as an 8-bit PNG of one channel"
        )
    values: NDArray[Any] = np.asarray(image)
    if image.mode in _MULTICHANNEL_MODES:
        channels = values[..., : len(image.mode.removesuffix("A"))]
        if (channels != channels[..., :1]).any():
            raise DataError(
                f"{path}: a colour mask, and colours aren't class indices; "
                "save it as an 8-bit PNG of one channel, with 0 for the first class, 1 for the second, …"
            )
        values = channels[..., 0]
    return values.astype(np.uint8) if values.dtype == bool else values
