"""What an image file's header says: size and orientation, and whether it is too large to be read whole."""

import io
import os
import re
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from unetseg.data.tiff_header import TIFF_STARTS, tiff_orientation
from unetseg.errors import ImageError
from unetseg.warning_filters import ignored_warnings

__all__ = [
    "EMPTY",
    "MAX_PIXELS",
    "PNG_START",
    "image_size",
    "open_image",
    "orientation",
    "reason",
    "refuse_huge",
    "refuse_many",
    "stored_orientation",
    "unwarned",
]

MAX_PIXELS = 178_956_970
"""Pixels of the largest image that is read whole: those that Pillow refuses to exceed, whatever the format."""

EMPTY = "the file is empty"
PNG_START = b"\x89PNG\r\n\x1a\n"

_TURNED = range(5, 9)  # EXIF orientations that swap height and width
_ORIENTATION = ExifTags.Base.Orientation
# loaded only for the files that need them, so that the others are read without
_PACKAGES = {"tifffile": "tifffile", "cv2": "opencv-python-headless"}
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_PNG_TEXTS = b"Raw profile type exif\0", b"XML:com.adobe.xmp\0"  # that may hold the orientation


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of an upright image, from its header alone.

    Raises:
        ImageError: if the file can't be read.
    """
    height, width, turn = _header(path)
    return (width, height) if turn in _TURNED else (height, width)


def orientation(path: str | os.PathLike[str]) -> int:
    """EXIF orientation of an image file: 1 for upright, or where it can't be read; 2 to 8 for mirrored or turned."""
    try:
        return _header(path)[2]
    except ImageError:
        return 1


class _TooManyPixels(OSError):  # noqa: N818 - a reason, not an error of its own
    """An image exceeds what is read whole."""

    def __init__(self, pixels: int, *, tiff: bool) -> None:
        plain = "(upright; grey, RGB or other bands)"
        way = f"install rasterio, which reads such a TIFF {plain}" if tiff else f"save it as a TIFF {plain}, read"
        super().__init__(
            f"it has {pixels:,} pixels, and at most {MAX_PIXELS:,} are read whole. Cut it into smaller images; or, to "
            f"predict it, {way} part by part{'' if tiff else ' with rasterio'}: pip install -e '.[raster]'"
        )


def refuse_huge(file: BinaryIO) -> None:
    """Raise if a header claims more pixels than are read whole; what else is wrong with it, decoding says."""
    try:
        if file.read(4) in TIFF_STARTS:
            import tifffile

            file.seek(0)
            with tifffile.TiffFile(file) as tiff:
                page: Any = tiff.pages.first
                refuse_many(page.imagelength * page.imagewidth, tiff=True)
        else:
            open_image(file)
    except _TooManyPixels:
        raise
    except Exception:  # as in `decode`
        pass
    file.seek(0)


def refuse_many(pixels: int, *, tiff: bool) -> None:
    """Raise an OSError with the way out if these are more pixels than are read whole.

    Args:
        pixels: Height times width.
        tiff: Whether the file is a TIFF, which has another way out.
    """
    if pixels > MAX_PIXELS:
        raise _TooManyPixels(pixels, tiff=tiff)


def unwarned() -> AbstractContextManager[None]:
    """Keep Pillow from warning of images below the bound, as it does from half of it on."""
    return ignored_warnings(Image.DecompressionBombWarning)


def open_image(file: BinaryIO) -> Image.Image:
    """Open by Pillow; the bound holds even where a program has lifted Pillow's own."""
    try:
        with unwarned():
            image = Image.open(file)
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\((\d+) pixels\)", str(error))
        raise _TooManyPixels(int(pixels[1]), tiff=False) if pixels else OSError(str(error)) from error
    refuse_many(image.width * image.height, tiff=False)
    return image


def _header(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Height and width as they are stored, and the orientation."""
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            if not start:
                raise OSError(EMPTY)
            if start in TIFF_STARTS:
                import tifffile

                file.seek(0)
                with tifffile.TiffFile(file) as tiff:
                    page: Any = tiff.pages.first  # typed as if tags were plain numbers
                    return page.imagelength, page.imagewidth, tiff_orientation(page)
            with open_image(file) as image:
                return image.height, image.width, stored_orientation(image, file)
    except Exception as error:  # as in `decode`
        raise ImageError(f"{path}: can't be read as an image: {reason(error)}") from error


def stored_orientation(image: Image.Image, file: BinaryIO) -> int:
    """As of the header; one that is broken turns nothing."""
    try:
        return _png_orientation(file) if image.format == "PNG" else int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # of whatever is wrong in it
        return 1


def _png_orientation(file: BinaryIO) -> int:
    """As Pillow reads it, which would decode all pixels to look for EXIF data behind them."""
    file.seek(len(PNG_START))
    chunks = []
    while len(start := file.read(8)) == 8:
        length, kind = int.from_bytes(start[:4], "big") + 4, start[4:]  # with the checksum
        if kind in (b"IHDR", b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            chunk = file.read(length)
            if kind in (b"IHDR", b"eXIf") or chunk.startswith(_PNG_TEXTS):
                chunks.append(start + chunk)
        else:
            file.seek(length, os.SEEK_CUR)
    if len(chunks) < 2:
        return 1
    with open_image(io.BytesIO(PNG_START + b"".join(chunks) + _PNG_END)) as image:
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))


def reason(error: Exception) -> str:
    """Say in a few words, on one line, why a file couldn't be read."""
    if isinstance(error, UnidentifiedImageError):
        return "its format isn't one that Pillow knows"
    if isinstance(error, ModuleNotFoundError) and error.name in _PACKAGES:
        return f"that takes {error.name}, which isn't installed: pip install {_PACKAGES[error.name]}"
    if "imagecodecs" in str(error):
        return f"{' '.join(str(error).split())}: pip install imagecodecs"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__
