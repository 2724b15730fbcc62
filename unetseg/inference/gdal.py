"""GDAL by rasterio, which is optional: quiet, with a bounded cache, and failing in a few words."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unetseg.warning_filters import ignored_warnings

__all__ = ["CACHE_BYTES", "gdal", "gdal_errors", "gdal_reason", "has_rasterio"]

CACHE_BYTES = 128 * 2**20
"""What GDAL may keep of decoded and unwritten blocks; by itself it takes 5 % of the machine's memory."""


def has_rasterio() -> bool:
    """Whether rasterio is installed."""
    return importlib.util.find_spec("rasterio") is not None


@contextmanager
def gdal(**options: object) -> Iterator[Any]:
    """Give rasterio under the settings that all of this package's work has; cheap enough for every call.

    Args:
        options: GDAL's own, such as ``GDAL_PAM_ENABLED``.

    Yields:
        The module rasterio.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    settings = {
        "GDAL_CACHEMAX": CACHE_BYTES,
        "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",  # the folder may hold a million files
        "GDAL_ERROR_ON_LIBJPEG_WARNING": True,  # a JPEG that ends early isn't grey from there on
        **options,
    }
    with rasterio.Env(**settings), ignored_warnings(NotGeoreferencedWarning):
        yield rasterio


def gdal_errors() -> tuple[type[Exception], ...]:
    """Return the errors that rasterio raises of files, for an ``except`` clause."""
    from rasterio._err import CPLE_BaseError  # it has no public name
    from rasterio.errors import RasterioError

    return (RasterioError, CPLE_BaseError)


def gdal_reason(error: BaseException) -> str:
    """Say in one line what went wrong, as the first of a chain of errors tells it."""
    while error.__cause__:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__
