"""What the header of a TIFF file says about its pixels, before any is decoded."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tifffile

__all__ = ["TIFF_STARTS", "TiffHeader", "tiff_orientation"]

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First four bytes of TIFF files; of large ones (BigTIFF) the last two."""

_ORIENTATION_TAG, _XMP_TAG = 274, 700
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_ALPHA_SAMPLES = (1, 2)  # of TIFF's tag ExtraSamples
_REDUCED, _MASK = 1, 4  # bits of the tag NewSubfileType
# none, LZW, JPEG, deflate, packed bits, LERC, LZMA, ZSTD, WebP
_COMMON_COMPRESSIONS = (1, 5, 7, 8, 32773, 32946, 34887, 34925, 50000, 50001)
_JPEG = 7
_UNSIGNED = 1  # of TIFF's tag SampleFormat


@dataclass(frozen=True)
class TiffHeader:
    """The first page of a TIFF file.

    Attributes:
        height: as it is stored, in pixels.
        width: as it is stored.
        samples: channels of the page.
        bits: of each sample.
        dtype: of the samples, in native byte order; None where numpy has none.
        unsigned: whether samples are unsigned integers.
        photometric: what the samples mean by TIFF's name, such as ``RGB``; empty if it is unknown.
        compression: TIFF's number of the compression.
        compression_name: its name, such as ``JPEG``; empty if it is unknown.
        pages: images of the size and kind of the first; smaller copies don't count.
        as_pages: whether these are the channels, given how many are wanted.
        last_is_alpha: whether the last sample is alpha.
        turn: EXIF orientation, 1 for upright.
        plain: whether its samples are the image, in any program: whole bytes that mean grey, RGB or other bands, or
            JPEG's YCbCr, without pages beside it that belong to it.
        masked: whether a page of the file says which pixels of the first are valid.
    """

    height: int
    width: int
    samples: int
    bits: int
    dtype: np.dtype[Any] | None
    unsigned: bool
    photometric: str
    compression: int
    compression_name: str
    pages: int
    as_pages: bool
    last_is_alpha: bool
    turn: int
    plain: bool
    masked: bool

    @classmethod
    def of(cls, tiff: "tifffile.TiffFile", channels: int) -> "TiffHeader":
        """Read it from an open file.

        Args:
            tiff: the file.
            channels: how many are wanted.
        """
        page: Any = tiff.pages.first  # typed as if tags were plain numbers
        photometric, compression = (getattr(value, "name", "") for value in (page.photometric, page.compression))
        samples = page.samplesperpixel
        # a page beside the first may also be a smaller copy, which isn't in the first series
        pages = len(tiff.series[0].pages)
        extra = tuple(page.extrasamples or ())
        as_pages = pages > 1 and channels > 1 and (channels != 3 or samples == 1)
        return cls(
            height=page.imagelength,
            width=page.imagewidth,
            samples=samples,
            bits=page.bitspersample,
            dtype=None if page.dtype is None else page.dtype.newbyteorder("="),
            unsigned=page.sampleformat == _UNSIGNED,
            photometric=photometric,
            compression=int(page.compression),
            compression_name=compression,
            pages=pages,
            as_pages=as_pages,
            last_is_alpha=int(extra[-1]) in _ALPHA_SAMPLES if extra else photometric == "RGB" and samples == 4,
            turn=tiff_orientation(page),
            plain=not as_pages and _is_plain(page, photometric),
            masked=any(getattr(other, "subfiletype", 0) & (_MASK | _REDUCED) == _MASK for other in tiff.pages[1:]),
        )


def _is_plain(page: Any, photometric: str) -> bool:
    jpeg = photometric == "YCBCR" and page.compression == _JPEG and page.samplesperpixel == 3
    return (
        (photometric in ("MINISBLACK", "RGB") or jpeg)
        and page.compression in _COMMON_COMPRESSIONS
        and page.dtype is not None
        and page.dtype.kind in "uif"
        and page.bitspersample == 8 * page.dtype.itemsize
        and page.fillorder == 1
        and not page.subfiletype & (_MASK | _REDUCED)
        and set(page.axes) <= set("YXS")
    )


def tiff_orientation(page: Any) -> int:
    """EXIF orientation of a page of tifffile's, by its tag or, as Pillow does, by its XMP data."""
    try:
        if tag := page.tags.get(_ORIENTATION_TAG):
            return int(tag.value)
        xmp = page.tags.get(_XMP_TAG)
        match = _XMP_ORIENTATION.search(bytes(xmp.value)) if xmp else None
        return int(match[1]) if match else 1
    except (TypeError, ValueError):
        return 1
