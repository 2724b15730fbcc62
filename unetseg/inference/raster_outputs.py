"""Outputs of an image that has coordinates or is read by windows, which are written by rows as these are finished."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetseg.drawing import overlay, topmost
from unetseg.inference.bands import Band, bands
from unetseg.inference.legend import Legend
from unetseg.inference.prediction import Block
from unetseg.inference.raster_reading import RasterImage
from unetseg.inference.raster_writing import RasterWriter
from unetseg.inference.shares import NO_DATA

__all__ = ["write_raster_outputs"]
_COLUMNS = 1024  # of the image that are read at a time


def write_raster_outputs(
    raster: RasterImage,
    blocks: Iterable[Block],
    legend: Legend,
    *,
    masks: list[Path],
    probabilities: Path | None = None,
    overlays: Path | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Write TIFFs of an image that lie where it does, without data where it has none.

    Args:
        raster: The image.
        blocks: What it shows, as ``Predictor.blocks`` gives it.
        legend: What the masks' values mean.
        masks: File of each mask, one for each of the legend's ``mask_colors``; or none.
        probabilities: File of the probabilities, float16, a band for each class.
        overlays: File of the image with the classes over it, RGB.

    Returns:
        The classes as they are finished, (planes, h, W) uint8 with ``NO_DATA`` where the image has no data. The files
        appear at the end.

    Raises:
        ImageError: If the image is damaged, or doesn't fit the network.
    """
    nodata = NO_DATA if raster.may_miss else None
    with ExitStack() as files:
        mask_files = [
            files.enter_context(RasterWriter(path, raster, bands=1, dtype="uint8", colors=colors, nodata=nodata))
            for path, colors in zip(masks, legend.mask_colors, strict=False)
        ]
        maps_file = overlay_file = None
        if probabilities is not None:
            missing_value = float("nan") if raster.may_miss else None
            count = len(legend.classes)
            maps_file = files.enter_context(
                RasterWriter(probabilities, raster, bands=count, dtype="float16", nodata=missing_value)
            )
        if overlays is not None:
            overlay_file = files.enter_context(RasterWriter(overlays, raster, bands=3, dtype="uint8"))
        for band in bands(blocks, raster.width):
            _leave_out(band, raster)
            if overlay_file is not None:
                overlay_file.write(_overlay(raster, band, legend))
            for file, plane in zip(mask_files, band.classes, strict=False):
                file.write(plane[None])
            if maps_file is not None and band.probabilities is not None:
                maps_file.write(band.probabilities)
            yield band.classes


def _leave_out(band: Band, raster: RasterImage) -> None:
    """Mark what has no data; in parts, as the image's bands may be many."""
    for left in range(0, raster.width if raster.may_miss else 0, _COLUMNS):
        width = min(_COLUMNS, raster.width - left)
        missing = raster.missing(band.top, left, band.height, width)
        band.classes[..., left : left + width][:, missing] = NO_DATA
        if band.probabilities is not None:
            band.probabilities[..., left : left + width][:, missing] = np.nan


def _overlay(raster: RasterImage, band: Band, legend: Legend) -> NDArray[np.uint8]:
    """(3, h, W) uint8 RGB of the image with the classes over it; black where it has no data."""
    painted = np.empty((3, band.height, raster.width), np.uint8)
    for left in range(0, raster.width, _COLUMNS):
        width = min(_COLUMNS, raster.width - left)
        image = raster.read(band.top, left, band.height, width)
        planes = band.classes[..., left : left + width]
        # the first class stays clear
        shown = np.where(planes[0] == NO_DATA, 0, planes[0]) if legend.folders is None else topmost(planes)
        painted[..., left : left + width] = overlay(image, shown, legend.overlay_colors).transpose(2, 0, 1)
    return painted
