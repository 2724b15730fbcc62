"""Masks and probabilities written as GeoTIFF from top to bottom, in memory that doesn't grow with the height."""

import glob
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetseg.atomic import atomic_path
from unetseg.data.masks import Color
from unetseg.errors import UnetsegError
from unetseg.inference.gdal import gdal, gdal_errors, gdal_reason
from unetseg.inference.raster_reading import RasterImage

__all__ = ["BLOCK", "RasterWriter"]

BLOCK = 512
"""Height and width of the blocks of a file."""

RasterType = Literal["uint8", "float16"]


class RasterWriter:
    """Writes a GeoTIFF of an image's size and place; a context manager.

    The file is made of deflated blocks, as a BigTIFF where it may exceed 4 GB, and appears whole at a clean exit or
    not at all. If the image is a cloud-optimized GeoTIFF it is one too, with overviews of the most frequent class, or
    of mean probabilities.

    Args:
        path: file to write; its folders are made.
        image: what it is of.
        bands: how many it has; several are stored one after another.
        dtype: "uint8" for classes, "float16" for probabilities.
        colors: RGB colour of each value, of one band of uint8.
        nodata: value of pixels without data; None if every pixel has some.

    Raises:
        UnetsegError: if it can't be written.
    """

    def __init__(
        self,
        path: Path,
        image: RasterImage,
        *,
        bands: int = 1,
        dtype: RasterType = "uint8",
        colors: Sequence[Color] | None = None,
        nodata: float | None = None,
    ) -> None:
        self.path = path
        self.height, self.width, self.bands = image.height, image.width, bands
        self._dtype = np.dtype(dtype)
        self._as_cog = image.is_cog
        self._colors = colors
        self._options = {
            "driver": "GTiff",
            "height": self.height,
            "width": self.width,
            "count": bands,
            "dtype": "float32" if dtype == "float16" else dtype,
            "nodata": nodata,
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "compress": "deflate",
            "interleave": "band",  # a block row of one band at a time, or GDAL's cache would have to hold all of them
            "photometric": "minisblack",
            "bigtiff": "if_safer",
            **image.georeference.options(),
        }
        if dtype == "float16":
            self._options |= {"nbits": 16, "predictor": 3}
        self._waiting: list[NDArray[Any]] = []  # rows that don't fill blocks yet
        self._written = 0

    def write(self, rows: NDArray[Any]) -> None:
        """Append the next rows; quickest, and without a copy of them, by multiples of ``BLOCK``.

        Args:
            rows: (bands, any number of rows, width), of the file's dtype.

        Raises:
            ValueError: if the shape or dtype is another, or the image has fewer rows.
            UnetsegError: if they can't be written, as on a full disk.
        """
        if rows.ndim != 3 or (rows.shape[0], rows.shape[2]) != (self.bands, self.width) or rows.dtype != self._dtype:
            raise ValueError(
                f"rows must be ({self.bands}, rows, {self.width}) {self._dtype}; got {rows.shape} {rows.dtype}"
            )
        waiting = sum(part.shape[1] for part in self._waiting)
        if self._written + waiting + rows.shape[1] > self.height:
            raise ValueError(f"more rows than the {self.height} of the image")
        while waiting + rows.shape[1] >= BLOCK:
            taken = rows[:, : BLOCK - waiting]
            self._append(np.concatenate([*self._waiting, taken], axis=1) if waiting else taken)
            self._waiting, waiting = [], 0
            rows = rows[:, taken.shape[1] :]
        if rows.shape[1]:
            self._waiting.append(rows.copy())  # the caller may write over its own

    def _append(self, rows: NDArray[Any]) -> None:
        """Write at most one row of blocks."""
        try:
            with gdal(GDAL_PAM_ENABLED=False) as rasterio:
                window = rasterio.windows.Window(0, self._written, self.width, rows.shape[1])
                for band, values in enumerate(rows, start=1):
                    self._dataset.write(values.astype(self._options["dtype"], copy=False), band, window=window)
        except gdal_errors() as error:
            raise self._failure(error) from error
        self._written += rows.shape[1]

    def _failure(self, error: Exception) -> UnetsegError:
        return UnetsegError(f"{self.path}: can't be written: {gdal_reason(error)}")

    def __enter__(self) -> "RasterWriter":
        with ExitStack() as stack:
            self._target = stack.enter_context(atomic_path(self.path))
            stack.callback(_remove_beside, self._target)
            # a COG is made of a finished file
            self._plain = self._target.with_name(f"{self._target.name}.plain") if self._as_cog else self._target
            try:
                with gdal(GDAL_PAM_ENABLED=False) as rasterio:
                    self._dataset: Any = rasterio.open(self._plain, "w", **self._options)
                    if self._colors is not None:
                        self._dataset.write_colormap(1, dict(enumerate(self._colors)))
            except gdal_errors() as error:
                raise self._failure(error) from error
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon()
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            try:
                self._finish()
            except BaseException:
                self._abandon()
                raise

    def _abandon(self) -> None:
        try:
            with gdal(GDAL_PAM_ENABLED=False):
                self._dataset.close()
        except gdal_errors():
            pass  # what comes of a file that is deleted

    def _finish(self) -> None:
        if self._waiting:
            rows = np.concatenate(self._waiting, axis=1)
            self._waiting = []
            self._append(rows)
        if self._written != self.height:
            raise ValueError(f"{self._written} rows of {self.height} were written")
        try:
            with gdal(GDAL_PAM_ENABLED=False):
                self._dataset.close()
                self._refuse_incomplete(self._plain)
                if self._as_cog:
                    self._copy_as_cog()
                    self._refuse_incomplete(self._target)
        except gdal_errors() as error:
            raise self._failure(error) from error

    def _refuse_incomplete(self, path: Path) -> None:
        """Look for blocks that the file lacks: GDAL doesn't say what fails when it is closed, as on a full disk."""
        import tifffile

        size = path.stat().st_size
        try:
            with tifffile.TiffFile(path) as tiff:
                pages: list[Any] = list(tiff.pages)
                whole = pages != [] and all(
                    count > 0 and offset + count <= size
                    for page in pages
                    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
                )
        except (OSError, ValueError, tifffile.TiffFileError):
            whole = False
        if not whole:
            raise UnetsegError(f"{self.path}: can't be written: the file is incomplete; is the disk full?")

    def _copy_as_cog(self) -> None:
        from rasterio import shutil

        is_float = self._dtype.kind == "f"
        options = {
            "compress": "deflate",
            "predictor": "floating_point" if is_float else "no",
            "blocksize": BLOCK,
            "bigtiff": "if_safer",
            "overview_resampling": "average" if is_float else "mode",
            **({"nbits": 16} if is_float else {}),
        }
        shutil.copy(self._plain, self._target, driver="COG", **options)


def _remove_beside(target: Path) -> None:
    """Delete what GDAL may have left beside a temporary file."""
    for path in glob.glob(f"{glob.escape(str(target))}.*"):
        os.unlink(path)
