"""Image files as arrays: decoded once here, for images and for masks, whatever the format and the bit depth."""

import io
import os
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unetseg.data.image_header import (
    EMPTY,
    PNG_START,
    open_image,
    reason,
    refuse_huge,
    refuse_many,
    stored_orientation,
    unwarned,
)
from unetseg.data.tiff_header import TIFF_STARTS, TiffHeader
from unetseg.errors import ImageError, UnetsegError

__all__ = ["IMAGE_SUFFIXES", "Decoded", "decode", "read_bytes"]

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Suffixes of image files, in lower case; upper case counts too."""

_LARGE_FILE = 2**26  # bytes; smaller ones are read before their header is

_PNG_DEPTH, _PNG_COLOUR_TYPE = 24, 25  # bytes of the header; types 2, 4 and 6 have several channels
_PNM_START = re.compile(rb"P[2356](?:\s(?:\s|#[^\r\n]*[\r\n])*(\d+)){3}\s")  # width, height, largest value

_CONVERTED_COLOURS = ("SEPARATED", "YCBCR", "CIELAB")  # by Pillow
# those that Pillow knows: none, CCITT, LZW, JPEG, deflate, packed bits, LZMA, ZSTD
_PILLOW_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000)

# by Pillow's names of formats, and by those of TIFF's compressions; some have a lossless form, which can't be told
_LOSSY_FORMATS = {"JPEG": "JPEG", "MPO": "JPEG", "JPEG2000": "JPEG 2000", "AVIF": "AVIF"}
_LOSSY_COMPRESSIONS = re.compile("JPEG|JP2000|WEBP")


@dataclass(frozen=True)
class Decoded:
    """An upright image.

    Attributes:
        pixels: (H, W, C) of the file's own dtype and channels, which can be written.
        alpha: whether the last channel is one.
        converted: name of the colours that these RGB ones were computed from, such as ``CMYK``; empty for the file's.
        lossy: name of a compression that changes values, such as ``JPEG``; empty for the others.
        palette: (colours, 3) uint8, where the pixels are its indices.
    """

    pixels: NDArray[Any]
    alpha: bool = False
    converted: str = ""
    lossy: str = ""
    palette: NDArray[np.uint8] | None = None


def read_bytes(path: str | os.PathLike[str], failure: type[UnetsegError] = ImageError) -> bytes:
    """Read a file.

    Raises:
        UnetsegError: of the class ``failure``, if it can't be read, or has more than ``MAX_PIXELS`` pixels.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > _LARGE_FILE:
                refuse_huge(file)
            return file.read()
    except (OSError, ValueError) as error:  # ValueError of a name with a zero in it
        raise failure(f"{path}: can't be read as an image: {reason(error)}") from error


def decode(
    data: bytes,
    name: str | os.PathLike[str],
    *,
    channels: int = 3,
    stored_values: bool = False,
    failure: type[UnetsegError] = ImageError,
) -> Decoded:
    """Decode an image file, the way up that a viewer shows it.

    Of a file with several frames it is the first; but the pages of a TIFF are its channels where more or fewer than
    one or three are wanted.

    Args:
        data: content of the file.
        name: what an error calls it.
        channels: how many are wanted.
        stored_values: whether a palette image gives its indices, not its colours, and one of 1, 2 or 4 bits the values
            0 to 1, 3 or 15, not grey from 0 to 255.
        failure: class of the error.

    Raises:
        UnetsegError: of the class ``failure``, if it can't be decoded, or has more than ``MAX_PIXELS`` pixels.
    """
    try:
        if not data:
            raise OSError(EMPTY)
        if data.startswith(TIFF_STARTS):
            decoded = _decode_tiff(data, channels, stored_values)
        else:
            decoded = _decode_with_pillow(data, stored_values)
        if not decoded.pixels.size:
            raise OSError("it has no pixels")
    except Exception as error:  # a damaged file makes decoders raise nearly anything, from SyntaxError to EOFError
        raise failure(f"{name}: can't be read as an image: {reason(error)}") from error
    return decoded


def _decode_with_pillow(data: bytes, stored_values: bool) -> Decoded:
    palette = None
    with open_image(io.BytesIO(data)) as file:
        # Pillow turns TIFF by itself
        turn = 1 if file.format == "TIFF" else stored_orientation(file, io.BytesIO(data))
        lossy = _LOSSY_FORMATS.get(file.format or "", "")
        if file.format == "WEBP" and b"VP8L" not in data:
            lossy = "lossy WebP"
        if data.startswith(PNG_START) and data[_PNG_DEPTH] == 16 and data[_PNG_COLOUR_TYPE] in (2, 4, 6):
            return _decode_deep_png(data, turn)
        image: Image.Image = file
        with unwarned():
            image.load()
        if image.mode in ("P", "PA") and stored_values:
            palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            if not palette.size:
                raise OSError("its palette is empty")
        elif image.mode in ("P", "PA"):
            image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
        mode = image.mode
        converted = mode if mode in ("CMYK", "YCbCr", "LAB", "HSV") else ""
        if converted or mode in ("RGBX", "RGBa", "La"):
            image = image.convert({"RGBa": "RGBA", "La": "LA"}.get(mode, "RGB"))
        pixels: NDArray[Any] = np.array(image)  # a copy, for Pillow's memory can't be written
    if mode == "1":
        pixels = pixels.astype(np.uint8) * np.uint8(1 if stored_values else 255)
    elif pixels.dtype == np.int32 and pixels.size and pixels.min() >= 0 and pixels.max() <= 65535:
        pixels = pixels.astype(np.uint16)  # what Pillow widens
    if stored_values and mode in ("L", "I", "RGB"):
        pixels = _unstretched(pixels, _largest_value(data))
    pixels = _upright(pixels if pixels.ndim == 3 else pixels[..., None], turn)
    return Decoded(pixels, image.mode in ("LA", "PA", "RGBA"), converted, lossy, palette)


def _largest_value(data: bytes) -> int:
    """Largest value in a PNG or PNM file, which Pillow stretches to 255 or 65535; of others 255."""
    if data.startswith(PNG_START):
        return int(2 ** data[_PNG_DEPTH] - 1)
    start = _PNM_START.match(data)
    return int(start[1]) if start else 255


def _unstretched(pixels: NDArray[Any], largest: int) -> NDArray[Any]:
    """Undo Pillow's stretching of the values 0 to ``largest``."""
    if largest in (255, 65535):
        return pixels
    full = 255 if pixels.dtype == np.uint8 else 65535
    return ((pixels.astype(np.int64) * largest + full // 2) // full).astype(pixels.dtype)


def _decode_deep_png(data: bytes, turn: int) -> Decoded:
    """Several channels of 16 bits, of which Pillow keeps eight."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise OSError("its 16-bit data are damaged")
    alpha = pixels.shape[2] == 4
    pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if alpha else cv2.COLOR_BGR2RGB)
    if data[_PNG_COLOUR_TYPE] == 4:  # grey and alpha, which OpenCV widens
        pixels = pixels[..., [0, 3]]
    return Decoded(_upright(pixels, turn), alpha)


def _decode_tiff(data: bytes, channels: int, stored_values: bool) -> Decoded:
    """By Pillow, unless it is what Pillow can't read: deep samples, bands that are no colours, pages as channels."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        header = TiffHeader.of(tiff, channels)
        refuse_many(header.height * header.width, tiff=True)
        kind, samples, bits = header.photometric, header.samples, header.bits
        lossy = f"{header.compression_name}-compressed" if _LOSSY_COMPRESSIONS.search(header.compression_name) else ""
        if stored_values and kind == "MINISWHITE" and bits > 1:
            raise OSError("its white is 0, so that its values may be meant either way; save it as a PNG")
        if header.as_pages and channels == 3 != header.pages:
            raise OSError(
                f"it has {header.pages} pages of one channel; where they are channels, say so (--data.in_channels "
                f"{header.pages}), otherwise save the one that is meant"
            )
        colours = samples == 1 or (kind == "RGB" and samples == 3) or kind in _CONVERTED_COLOURS
        shallow = bits <= 8 and header.unsigned
        if shallow and colours and not header.as_pages and header.compression in _PILLOW_COMPRESSIONS:
            decoded = _decode_with_pillow(data, stored_values)
            narrow = stored_values and kind == "MINISBLACK" and bits in (2, 4)
            pixels = _unstretched(decoded.pixels, 2**bits - 1) if narrow else decoded.pixels
            return replace(decoded, pixels=pixels, lossy=lossy)
        page: Any = tiff.pages.first
        pixels = tiff.series[0].asarray() if header.as_pages else page.asarray()
        axes = tiff.series[0].axes if header.as_pages else page.axes
        colormap = page.colormap if kind == "PALETTE" and not stored_values else None
    if set("YX") - set(axes):
        raise OSError(f"its axes {axes} aren't those of an image")
    # height, width, then all others as channels
    others = [i for i, axis in enumerate(axes) if axis not in "YX"]
    pixels = pixels.transpose([axes.index("Y"), axes.index("X"), *others])
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if colormap is not None:
        pixels = np.moveaxis(colormap, 0, -1)[pixels[..., 0]]
    if kind == "MINISWHITE" and pixels.dtype.kind == "u":
        pixels = pixels.dtype.type(2**bits - 1) - pixels
    alpha = header.last_is_alpha and not header.as_pages and pixels.shape[2] in (2, 4)
    return Decoded(_upright(pixels, header.turn), alpha, lossy=lossy)


def _upright(pixels: NDArray[Any], turn: int) -> NDArray[Any]:
    """Undo an EXIF orientation: rows and columns of (H, W, C) mirrored or turned."""
    if turn in (2, 7):
        pixels = pixels[:, ::-1]
    elif turn in (4, 5):
        pixels = pixels[::-1]
    quarters = {3: 2, 5: -1, 6: -1, 7: -1, 8: 1}.get(turn, 0)  # counter-clockwise
    return np.ascontiguousarray(np.rot90(pixels, quarters))
