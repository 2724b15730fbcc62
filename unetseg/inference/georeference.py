"""Where on Earth the pixels of a raster lie."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Georeference"]


@dataclass(frozen=True)
class Georeference:
    """What one raster's geometry hands on to another of the same size; falsy where nothing is known.

    Attributes:
        crs: coordinate reference system, of rasterio; that of the control points where there are some.
        transform: affine transform from pixels (x right, y down, at pixel edges) to coordinates.
        gcps: ground control points, instead of a transform.
        rpcs: rational polynomial coefficients.
    """

    crs: Any = None
    transform: Any = None
    gcps: tuple[Any, ...] = ()
    rpcs: Any = None

    @classmethod
    def of(cls, dataset: Any) -> "Georeference":
        """That of an open dataset of rasterio's."""
        gcps, gcps_crs = dataset.gcps
        transform = None if dataset.transform.is_identity else dataset.transform
        return cls(dataset.crs or (gcps_crs if gcps else None), transform, tuple(gcps), dataset.rpcs)

    def __bool__(self) -> bool:
        return bool(self.crs or self.transform is not None or self.gcps or self.rpcs)

    def options(self) -> dict[str, Any]:
        """As arguments of ``rasterio.open`` for a dataset that is written."""
        known = {"crs": self.crs, "transform": self.transform, "gcps": list(self.gcps), "rpcs": self.rpcs}
        return {name: value for name, value in known.items() if value}
