"""Rows go in from top to bottom; a whole GeoTIFF comes out, in the image's place, or nothing."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import tifffile
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC

from unetseg.data.images import ImageReader
from unetseg.errors import UnetsegError
from unetseg.inference.raster_reading import RasterImage, open_raster
from unetseg.inference.raster_writing import BLOCK, RasterWriter

HEIGHT, WIDTH = 2 * BLOCK + 93, BLOCK + 141
NORTH_UP = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_800_000)
COLORS = [(0, 0, 0), (250, 128, 7), (4, 5, 6)]


def make_image(path: Path, **options: Any) -> Path:
    size = {"count": 1, "height": HEIGHT, "width": WIDTH, "dtype": "uint8"}
    options = options or {"crs": "EPSG:32633", "transform": NORTH_UP}
    with rasterio.open(path, "w", driver="GTiff", compress="deflate", **size, **options) as file:
        file.write(np.full((1, HEIGHT, WIDTH), 7, np.uint8))
    return path


def opened(path: Path) -> RasterImage:
    image = open_raster(path, ImageReader(1))
    assert image is not None
    return image


@pytest.fixture
def image(tmp_path: Path) -> Iterator[RasterImage]:
    (tmp_path / "in").mkdir()
    with opened(make_image(tmp_path / "in" / "image.tif")) as image:
        yield image


@pytest.fixture
def cog(tmp_path: Path) -> Iterator[RasterImage]:
    plain = make_image(tmp_path / "plain.tif")
    (tmp_path / "in").mkdir()
    rasterio.shutil.copy(plain, tmp_path / "in" / "cog.tif", driver="COG")
    plain.unlink()
    with opened(tmp_path / "in" / "cog.tif") as image:
        yield image


def values(bands: int, dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (bands, HEIGHT, WIDTH)
    return rng.integers(0, 3, shape, dtype=np.uint8) if dtype == "uint8" else rng.random(shape).astype(np.float16)


def write(path: Path, image: RasterImage, pixels: np.ndarray, rows: int = HEIGHT, **options: Any) -> None:
    with RasterWriter(path, image, bands=len(pixels), dtype=pixels.dtype.name, **options) as writer:
        for top in range(0, HEIGHT, rows):
            part = pixels[:, top : top + rows].copy()
            writer.write(part)
            part[:] = 0  # its memory is used again


@pytest.mark.parametrize("rows", [1, 300, BLOCK, 700, HEIGHT])
@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (3, "uint8"), (3, "float16")])
def test_rows_in_any_number_give_the_same_file(
    tmp_path: Path, image: RasterImage, bands: int, dtype: str, rows: int
) -> None:
    if rows == 1 and bands > 1:
        pytest.skip("one case is enough, and this is slow")
    pixels = values(bands, dtype)
    path = tmp_path / "out" / "deep" / "mask.tif"
    write(path, image, pixels, rows)
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages.first
        np.testing.assert_array_equal(page.asarray().reshape(pixels.shape), pixels)
        assert page.dtype == dtype
        assert (page.tile, page.compression.name, len(file.pages)) == ((BLOCK, BLOCK), "ADOBE_DEFLATE", 1)
        # every block was written once
        assert path.stat().st_size - sum(page.databytecounts) < 3000
    with rasterio.open(path) as file:
        assert (file.crs, file.transform) == (rasterio.CRS.from_epsg(32633), NORTH_UP)
    assert [path.name for path in path.parent.iterdir()] == ["mask.tif"]


def test_colours_and_nodata(tmp_path: Path, image: RasterImage) -> None:
    pixels = values(1, "uint8")
    write(tmp_path / "mask.tif", image, pixels, colors=COLORS, nodata=255)
    with Image.open(tmp_path / "mask.tif") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), np.array(COLORS, np.uint8)[pixels[0]])
    with rasterio.open(tmp_path / "mask.tif") as file:
        assert file.nodata == 255


def test_probabilities_may_be_missing(tmp_path: Path, image: RasterImage) -> None:
    pixels = values(2, "float16")
    pixels[:, 5:9] = np.nan
    write(tmp_path / "p.tif", image, pixels, nodata=float("nan"))
    with rasterio.open(tmp_path / "p.tif") as file:
        assert np.isnan(file.nodata)
        np.testing.assert_array_equal(file.read(), pixels.astype(np.float32))


def test_control_points_and_rational_polynomials_are_kept(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, col, 13 + col / 1e4, 52 - row / 1e4, 0) for row in (0, 90) for col in (0, 80)]
    path = make_image(tmp_path / "gcps.tif", gcps=points, crs="EPSG:4326")
    with opened(path) as image:
        write(tmp_path / "a.tif", image, values(1, "uint8"))
    with rasterio.open(tmp_path / "a.tif") as file:
        found, crs = file.gcps
        assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]
        assert crs == rasterio.CRS.from_epsg(4326)
    ones = [1.0] + [0.0] * 19
    rpc = RPC(0, 1, 52, 1, ones, ones, 0, 1, 13, 1, ones, ones, 0, 1)
    path = make_image(tmp_path / "rpcs.tif", rpcs=rpc)
    with opened(path) as image:
        write(tmp_path / "b.tif", image, values(1, "uint8"))
    with rasterio.open(tmp_path / "b.tif") as file:
        assert file.rpcs is not None
        assert file.rpcs.lat_off == 52


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_plain_images_give_plain_files(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((HEIGHT, WIDTH), np.uint8))
    with opened(tmp_path / "a.tif") as image:
        write(tmp_path / "b.tif", image, values(1, "uint8"))
    with rasterio.open(tmp_path / "b.tif") as file:
        assert file.crs is None
        assert file.transform.is_identity


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (2, "float16")])
def test_of_a_cog_it_is_one(tmp_path: Path, cog: RasterImage, bands: int, dtype: str) -> None:
    pixels = values(bands, dtype)
    if dtype == "uint8":
        pixels[:, :300, :300] = 0
        pixels[:, :300:5, :300:5] = 2  # at most one in four
    else:
        pixels[:, :300, :300:2], pixels[:, :300, 1:300:2] = 0, 1
    write(tmp_path / "out.tif", cog, pixels, 300, colors=COLORS if bands == 1 else None)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        np.testing.assert_array_equal(file.read(), pixels)
        assert file.overviews(1)[0] == 2
        assert file.transform == NORTH_UP
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert {str(page.dtype) for page in file.pages} == {dtype}
        overview = file.pages[1].asarray()[:140, :140]
    assert np.abs(overview - (0 if dtype == "uint8" else 0.5)).max() < (1 if dtype == "uint8" else 0.25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.tif"]


@pytest.mark.parametrize("kind", ["image", "cog"])
def test_an_error_leaves_what_was_there(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    raster = request.getfixturevalue(kind)
    target = tmp_path / "mask.tif"
    target.write_text("before")
    pixels = values(1, "uint8")

    def stop() -> None:
        with RasterWriter(target, raster) as writer:
            writer.write(pixels[:, :600])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    with pytest.raises(ValueError, match=f"600 rows of {HEIGHT} were written"):
        write(target, raster, pixels[:, :600])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "mask.tif"]
    assert target.read_text() == "before"


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Fail as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(("kind", "size"), [("image", 100_000), ("image", 725_000), ("cog", 725_000), ("cog", 900_000)])
def test_a_full_disk_is_noticed(tmp_path: Path, kind: str, size: int, request: pytest.FixtureRequest) -> None:
    """Of 730 kB of noise, and 200 kB more of its overviews, the last is written when the file is closed."""
    raster = request.getfixturevalue(kind)
    noise = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH), dtype=np.uint8)
    with no_file_larger_than(size), pytest.raises(UnetsegError, match=r"a\.tif: can't be written: \S"):
        write(tmp_path / "a.tif", raster, noise)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    write(tmp_path / "a.tif", raster, noise)
    assert (tmp_path / "a.tif").stat().st_size > size


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, image: RasterImage) -> None:
    (tmp_path / ".mask.tif.part").mkdir()
    with pytest.raises((UnetsegError, OSError)), RasterWriter(tmp_path / "mask.tif", image):
        pass


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((1, 3, WIDTH + 1), np.uint8), r"rows must be \(1, rows, 653\) uint8; got \(1, 3, 654\) uint8"),
        (np.zeros((2, 3, WIDTH), np.uint8), r"got \(2, 3, 653\) uint8"),
        (np.zeros((1, 3, WIDTH), np.float32), r"got \(1, 3, 653\) float32"),
        (np.zeros((1, HEIGHT + 1, WIDTH), np.uint8), f"more rows than the {HEIGHT} of the image"),
    ],
)
def test_other_rows_are_refused(tmp_path: Path, image: RasterImage, rows: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message), RasterWriter(tmp_path / "mask.tif", image) as writer:
        writer.write(rows)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
