"""TIFF, GeoTIFF and COG read part by part, with the very pixels that reading the whole file gives."""

import os
import threading
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.data.decoding import Decoded
from unetseg.data.images import ImageReader, Pixels
from unetseg.data.tiff_header import TIFF_STARTS, TiffHeader
from unetseg.errors import ImageError
from unetseg.inference.gdal import gdal, gdal_errors, gdal_reason, has_rasterio
from unetseg.inference.georeference import Georeference

__all__ = ["RasterImage", "open_raster"]

_CORNER = 256  # pixels a side that are read when a file is opened, for its mistakes to show at once


def open_raster(path: str | os.PathLike[str], reader: ImageReader) -> "RasterImage | None":
    """Open a TIFF file to be read part by part.

    Args:
        path: any file.
        reader: the rules by which channels and values become the network's.

    Returns:
        None where ``reader(path)`` has to read it whole: without rasterio, or a file that isn't a TIFF or one whose
        parts wouldn't equal the whole, as it is turned by EXIF, has a palette, CMYK, Lab, or white as 0, holds its
        channels as pages, or has bits that don't fill bytes.

    Raises:
        ImageError: if it has other channels or values than are wanted, or its first pixels are damaged.
    """
    if not has_rasterio() or (header := _header(path, reader.in_channels)) is None:
        return None
    if not header.plain or header.turn != 1:
        return None
    try:
        # a full path has no scheme, and the driver keeps other formats from being opened under this name
        with gdal() as rasterio:
            dataset = rasterio.open(os.path.abspath(path), driver="GTiff")
    except gdal_errors():
        return None
    # GDAL widens half-precision numbers
    dtypes = {str(header.dtype), "float32"} if header.dtype == np.float16 else {str(header.dtype)}
    if (dataset.shape, dataset.count) != ((header.height, header.width), header.samples) or {*dataset.dtypes} - dtypes:
        dataset.close()
        return None
    image = RasterImage(dataset, header, reader, os.fspath(path))
    try:
        image.read(0, 0, min(_CORNER, image.height), min(_CORNER, image.width))
    except BaseException:
        image.close()
        raise
    return image


def _header(path: str | os.PathLike[str], channels: int) -> TiffHeader | None:
    try:
        import tifffile

        with open(path, "rb") as file:
            if file.read(4) not in TIFF_STARTS:
                return None
            file.seek(0)
            with tifffile.TiffFile(file) as tiff:
                return TiffHeader.of(tiff, channels)
    except Exception:  # of whatever is wrong in it, reading it whole tells
        return None


class RasterImage:
    """An open TIFF file, made by ``open_raster``; a context manager. Threads may share it, and read one at a time.

    Pixels without data are the file's "nodata" value, NaN, those that the mask inside the file leaves out, and those
    whose alpha is 0 if the network doesn't read alpha. A pixel is missing where all the bands that are read are, as
    GDAL and rasterio have it: 0 in one band of three is a colour. In ``read`` they are 0, as is what no brightness can
    be, such as NaN and -9999, in each band by itself; this and the rounding of JPEG's colours, where GDAL's decoder and
    Pillow's differ, is all that sets parts apart from the whole. Beside the file, a world file and what GIS programs
    add to the georeferencing (``.aux.xml``) count; overviews and masks in files of their own are never opened.

    Attributes:
        name: path as it was given, for messages.
        height: in pixels.
        width: in pixels.
        georeference: where it lies; falsy if that isn't known.
        nodata: value of pixels without data; None if there is none.
        is_cog: whether it is a cloud-optimized GeoTIFF.
    """

    def __init__(self, dataset: Any, header: TiffHeader, reader: ImageReader, name: str) -> None:
        self.name = name
        self.height, self.width = header.height, header.width
        self._dataset, self._header, self._reader = dataset, header, reader
        self._turn = threading.Lock()  # GDAL gives threads that read one file at once each other's pixels
        with gdal():
            self.georeference = Georeference.of(dataset)
            self.nodata: float | None = dataset.nodata
            self.is_cog = dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
        self._nodata_is_brightness = (
            header.dtype is not None
            and header.dtype.kind == "u"
            and self.nodata is not None
            and self.nodata <= (reader.max_value or np.iinfo(header.dtype).max)
        )
        self._alpha = header.last_is_alpha and header.samples in (2, 4)
        self._alpha_is_mask = self._alpha and reader.in_channels in (1, 3)

    @property
    def may_miss(self) -> bool:
        """Whether the file has a way to say that pixels are missing."""
        is_float = self._header.dtype is not None and self._header.dtype.kind == "f"
        return is_float or self.nodata is not None or self._header.masked or self._alpha_is_mask

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        """A part of the image, as ``ImageReader`` gives the whole; what is missing is 0.

        Args:
            top: first row, from 0.
            left: first column.
            height: rows, all inside the image.
            width: columns.

        Returns:
            (height, width, in_channels) uint8 in [0, 255], or float32, in [0, 1] unless values exceed ``max_value``.

        Raises:
            ImageError: if the file is damaged there, or holds values that can't be used.
        """
        bands, missing = self._read(top, left, height, width)
        pixels = self._reader.convert(Decoded(bands, self._alpha), self.name)
        if missing is not None:
            pixels[missing] = 0
        return pixels

    def missing(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        """Which pixels of a part have no data.

        Args:
            top: first row, from 0.
            left: first column.
            height: rows, all inside the image.
            width: columns.

        Returns:
            (height, width) bool; None if the file has no way to say so.

        Raises:
            ImageError: if the file is damaged there.
        """
        return self._read(top, left, height, width)[1] if self.may_miss else None

    def _read(self, top: int, left: int, height: int, width: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """(height, width, bands) of the file's type, 0 where a band has no data; and the pixels that are missing."""
        if min(top, left) < 0 or min(height, width) < 1 or top + height > self.height or left + width > self.width:
            raise ValueError(f"{(top, left, height, width)} isn't inside an image of {self.height} × {self.width}")
        try:
            with self._turn, gdal() as rasterio:
                window = rasterio.windows.Window(left, top, width, height)
                planes = self._dataset.read(window=window)
                mask = self._dataset.read_masks(1, window=window) if self._header.masked else None
        except gdal_errors() as error:
            raise ImageError(
                f"{self.name}: can't be read as an image: it is damaged in rows {top} to {top + height - 1} "
                f"({gdal_reason(error)})"
            ) from error
        bands = np.ascontiguousarray(np.moveaxis(planes, 0, -1), dtype=self._header.dtype)
        if not self.may_miss:
            return bands, None
        colours = bands[..., :-1] if self._alpha_is_mask else bands
        absent = _without_data(colours, self.nodata)
        missing: NDArray[np.bool_] = np.all(absent, axis=-1)
        # in one band of a pixel with data, 0 or 255 are a brightness; -9999 and NaN are none in any
        colours[missing if self._nodata_is_brightness else absent] = 0
        if mask is not None:
            missing = missing | (mask == 0)
        if self._alpha_is_mask:
            missing = missing | (bands[..., -1] == 0)
        return bands, missing

    def close(self) -> None:
        """Close the file; nothing can be read any more."""
        with self._turn, gdal():
            self._dataset.close()

    def __enter__(self) -> "RasterImage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _without_data(bands: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Where bands are NaN or "nodata"."""
    if bands.dtype.kind == "f":
        absent: NDArray[np.bool_] = np.isnan(bands)
        if nodata is not None:
            with np.errstate(over="ignore"):  # a value beyond the type's range is none that it holds
                absent |= bands == bands.dtype.type(nodata)
        return absent
    limits = np.iinfo(bands.dtype)
    if nodata is None or not limits.min <= nodata <= limits.max or nodata != int(nodata):
        return np.zeros(bands.shape, np.bool_)
    held: NDArray[np.bool_] = bands == bands.dtype.type(int(nodata))
    return held
