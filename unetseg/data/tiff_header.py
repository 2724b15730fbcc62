"""What the header of a TIFF file says about its pixels, before any is decoded."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile

__all__ = ["TIFF_STARTS", "TiffHeader", "tiff_orientation"]

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First four bytes of TIFF files; of large ones (BigTIFF) the last two."""

_ORIENTATION_TAG, _XMP_TAG = 274, 700
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_ALPHA_SAMPLES = (1, 2)  # of TIFF's tag ExtraSamples


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

    @classmethod
    def of(cls, tiff: tifffile.TiffFile, channels: int) -> "TiffHeader":
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
        return cls(
            height=page.imagelength,
            width=page.imagewidth,
            samples=samples,
            bits=page.bitspersample,
            dtype=None if page.dtype is None else page.dtype.newbyteorder("="),
            unsigned=page.sampleformat == tifffile.SAMPLEFORMAT.UINT,
            photometric=photometric,
            compression=int(page.compression),
            compression_name=compression,
            pages=pages,
            as_pages=pages > 1 and channels > 1 and (channels != 3 or samples == 1),
            last_is_alpha=int(extra[-1]) in _ALPHA_SAMPLES if extra else photometric == "RGB" and samples == 4,
            turn=tiff_orientation(page),
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
