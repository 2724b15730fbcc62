"""Class maps as GeoJSON: an outline for each connected region, along the edges of its pixels."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.atomic import atomic_path
from unetseg.errors import UnetsegError
from unetseg.inference.gdal import gdal, gdal_errors, gdal_reason, has_rasterio

__all__ = ["PolygonWriter"]

_WGS84 = "OGC:CRS84"  # longitude before latitude
_DECIMALS = 9  # a tenth of a millimetre
_BATCH = 1000  # outlines that are projected at once

Outline = tuple[dict[str, Any], int]


class PolygonWriter:
    """Writes a GeoJSON FeatureCollection, an outline at a time; a context manager.

    Each connected region (pixels that share an edge) of a class is a feature with the properties ``value`` and
    ``class``: a polygon with its holes, exterior rings counter-clockwise as numbers, by RFC 7946. Coordinates are
    longitude and latitude in degrees (WGS 84) where a mask has a coordinate reference system; those of its transform
    where it has that alone; else pixels, x to the right, y down, from the upper left corner of the image. Corners are
    projected, and lines between them are straight. The file appears whole at a clean exit or not at all.

    Args:
        path: file to write; its folders are made.

    Raises:
        UnetsegError: if rasterio isn't installed, or a mask can't be read or projected.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.geojson"
        >>> with PolygonWriter(path) as writer:
        ...     writer.add(np.array([[0, 1, 1]], np.uint8), {1: "road"})
        >>> json.loads(path.read_text())["features"][0]["geometry"]["coordinates"]
        [[[1, 0], [3, 0], [3, 1], [1, 1], [1, 0]]]
    """

    def __init__(self, path: Path) -> None:
        if not has_rasterio():
            raise UnetsegError("polygons need rasterio, which isn't installed: pip install -e '.[raster]'")
        self.path = path
        self._empty = True

    def add(self, classes: NDArray[np.uint8], names: Mapping[int, str]) -> None:
        """Add the regions of an array, in pixels.

        Args:
            classes: (H, W) uint8; of multilabel data the plane of one class, with 0 and 1.
            names: class of each value; others make no feature, as "nodata", or 0 in the plane of a class.
        """
        from rasterio import features

        with gdal():
            named = np.isin(classes, list(names))
            self._write(features.shapes(classes, named, connectivity=4), names, whole_numbers=True)

    def add_file(self, mask: Path, names: Mapping[int, str], *, band: int = 1) -> None:
        """Add the regions of a GeoTIFF, which isn't read into memory; the outlines are held there.

        Args:
            mask: file of uint8, as ``RasterWriter`` writes it.
            names: as in ``add``.
            band: from 1; of multilabel data that of one class.

        Raises:
            UnetsegError: if it can't be read, or its outlines can't be projected.
        """
        from rasterio import features

        try:
            with gdal() as rasterio, rasterio.open(mask.absolute(), driver="GTiff") as file:
                plane = rasterio.band(file, band)
                # by itself as a mask, the ground of a plane of 0 and 1 makes no outline
                outlines = features.shapes(
                    plane, None if 0 in names else plane, connectivity=4, transform=file.transform
                )
                whole_numbers = file.transform.is_identity
                named = (outline for outline in outlines if outline[1] in names)
                located = whole_numbers or file.crs is None or not file.crs
                self._write(named if located else _projected(named, file.crs), names, whole_numbers=whole_numbers)
        except gdal_errors() as error:
            raise UnetsegError(f"{mask}: its polygons can't be made: {gdal_reason(error)}") from error

    def _write(self, outlines: Iterable[Outline], names: Mapping[int, str], *, whole_numbers: bool) -> None:
        for geometry, value in outlines:
            feature = {
                "type": "Feature",
                "properties": {"value": int(value), "class": names[int(value)]},
                "geometry": _turned(geometry, whole_numbers),
            }
            text = json.dumps(feature, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            self._file.write(f"{'' if self._empty else ','}\n{text}")
            self._empty = False

    def __enter__(self) -> "PolygonWriter":
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._file = stack.enter_context(temporary.open("w", encoding="utf-8"))
            self._file.write('{"type": "FeatureCollection", "features": [')
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._file.write("\n]}\n")


def _projected(outlines: Iterator[Outline], crs: Any) -> Iterator[Outline]:
    """To longitude and latitude, in batches: each sets up a projection."""
    from rasterio.errors import TransformError
    from rasterio.warp import transform, transform_geom

    while batch := list(islice(outlines, _BATCH)):
        points = [point for geometry, _ in batch for ring in geometry["coordinates"] for point in ring]
        projected = np.round(transform(crs, _WGS84, *zip(*points, strict=True)), _DECIMALS)
        if not np.isfinite(projected).all():
            raise TransformError(f"corners lie outside of what {crs} can express")
        corners = iter(projected.T.tolist())
        for geometry, value in batch:
            rings = [[next(corners) for _ in ring] for ring in geometry["coordinates"]]
            longitudes = [x for x, _ in rings[0]]
            if max(longitudes) - min(longitudes) < 180:
                yield {"type": "Polygon", "coordinates": rings}, value
            else:  # it is cut at the date line, by what is too slow for all
                yield transform_geom(crs, _WGS84, geometry, precision=_DECIMALS), value


def _turned(geometry: Mapping[str, Any], whole_numbers: bool) -> dict[str, Any]:
    """With rings as RFC 7946 wants them, and pixels as integers."""
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    parts = [[_ring(ring, i == 0, whole_numbers) for i, ring in enumerate(part)] for part in parts]
    return {"type": geometry["type"], "coordinates": parts if geometry["type"] == "MultiPolygon" else parts[0]}


def _ring(points: Iterable[tuple[float, float]], exterior: bool, whole_numbers: bool) -> list[list[float]]:
    ring: list[list[float]] = [[int(x), int(y)] if whole_numbers else [x, y] for x, y in points]
    first_x, first_y = ring[0]  # differences from it keep the precision of large coordinates
    doubled_area = sum(
        (x - first_x) * (next_y - first_y) - (next_x - first_x) * (y - first_y)
        for (x, y), (next_x, next_y) in pairwise(ring)
    )
    return ring if (doubled_area > 0) == exterior else ring[::-1]
