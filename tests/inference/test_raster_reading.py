"""Parts of a TIFF are what the whole is, or it isn't read in parts."""

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import tifffile
from PIL import Image
from prediction_jobs import pixels, write_raster, write_tiff

from unetseg.data.images import ImageReader
from unetseg.errors import ImageError
from unetseg.inference import raster_reading
from unetseg.inference.gdal import CACHE_BYTES, gdal
from unetseg.inference.raster_reading import RasterImage, open_raster

HEIGHT, WIDTH = 93, 141
NORTH_UP = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_800_000)


def random(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def write(path: Path, bands: np.ndarray, **options: object) -> Path:
    """Write (bands, H, W) as rasterio does."""
    count, height, width = bands.shape
    options = {"transform": NORTH_UP, "crs": "EPSG:32633", **options}
    size = {"count": count, "height": height, "width": width, "dtype": bands.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **size, **options) as file:
        file.write(bands)
    return path


def opened(path: Path, reader: ImageReader) -> RasterImage:
    image = open_raster(path, reader)
    assert image is not None
    return image


def in_parts(path: Path, reader: ImageReader, side: int = 50) -> np.ndarray:
    """The image from parts in an order that no loop would take."""
    with opened(path, reader) as image:
        parts: dict[tuple[int, int], np.ndarray] = {}
        starts = [(top, left) for top in range(0, image.height, side) for left in range(0, image.width, side)]
        for top, left in starts[::-1]:
            size = min(side, image.height - top), min(side, image.width - left)
            parts[top, left] = image.read(top, left, *size)
            assert parts[top, left].shape == (*size, reader.in_channels)
        rows = [np.hstack([parts[start] for start in starts if start[0] == top]) for top, left in starts if left == 0]
    return np.vstack(rows)


def assert_same(path: Path, reader: ImageReader) -> None:
    whole, parts = reader(path), in_parts(path, reader)
    assert parts.dtype == whole.dtype
    np.testing.assert_array_equal(parts, whole)


LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (32, 48)},
    "planes": {"planarconfig": "separate"},
    "tiled planes": {"planarconfig": "separate", "tile": (32, 32)},
    "lzw": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "deflate", "tile": (32, 32), "predictor": True},
    "zstd": {"compression": "zstd", "tile": (32, 32)},
    "packbits": {"compression": "packbits"},
    "lzma": {"compression": "lzma"},
    "big-endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float16", "float32", "float64"])
@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_parts_equal_the_whole(tmp_path: Path, bands: int, dtype: str, layout: str) -> None:
    if layout == "packbits" and dtype != "uint8":
        pytest.skip("tifffile packs bytes only")
    pixels = random(HEIGHT, WIDTH, bands, dtype=dtype)
    options = {"planarconfig": "contig" if bands > 1 else None, **LAYOUTS[layout]}
    if bands == 1:
        pixels, options["planarconfig"] = pixels[..., 0], None
    elif options["planarconfig"] == "separate":
        pixels = np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb" if bands == 3 else "minisblack", **options)
    assert_same(tmp_path / "a.tif", ImageReader(bands, None if dtype in ("uint8", "uint16") else 7.0))


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "F"])
def test_parts_of_what_pillow_writes(tmp_path: Path, mode: str) -> None:
    dtype = {"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8)
    Image.fromarray(random(HEIGHT, WIDTH, *((3,) if mode == "RGB" else ()), dtype=dtype)).save(tmp_path / "a.tif")
    assert_same(tmp_path / "a.tif", ImageReader(3 if mode == "RGB" else 1, 2.0 if mode == "F" else None))


@pytest.mark.parametrize(("there", "wanted"), [(1, 3), (3, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_channels_are_converted_as_in_the_whole(tmp_path: Path, there: int, wanted: int, dtype: str) -> None:
    assert_same(write(tmp_path / "a.tif", random(there, HEIGHT, WIDTH, dtype=dtype)), ImageReader(wanted))


@pytest.mark.parametrize("options", [{"compress": "webp", "webp_lossless": True}, {"compress": "lerc"}])
def test_parts_of_what_gdal_compresses(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write(tmp_path / "a.tif", random(3, HEIGHT, WIDTH), photometric="rgb", tiled=True, **options)
    assert_same(path, ImageReader())


def scene() -> np.ndarray:
    """(3, H, W) uint8 as smooth as a photograph."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x + y, 255 - x, 2 * y]).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("photometric", "bands", "off"), [("minisblack", 1, 0), ("rgb", 3, 0), ("ycbcr", 3, 8)])
def test_parts_of_jpeg(tmp_path: Path, photometric: str, bands: int, off: int) -> None:
    options = {"photometric": photometric, "tiled": True, "blockxsize": 64, "blockysize": 64, "jpeg_quality": 90}
    path = write(tmp_path / "a.tif", scene()[:bands], compress="jpeg", **options)
    whole, parts = ImageReader(bands)(path).astype(int), in_parts(path, ImageReader(bands)).astype(int)
    assert np.abs(whole - parts).max() <= off
    assert np.abs(whole - parts).mean() <= off / 16


@pytest.mark.parametrize("bands", [2, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_alpha_that_is_dropped_is_a_mask(tmp_path: Path, bands: int, dtype: str) -> None:
    pixels = random(HEIGHT, WIDTH, bands, dtype=dtype)
    pixels[10:40, 20:90, -1] = 0
    pixels[pixels[..., -1] != 0, -1] = 1
    photometric = "rgb" if bands == 4 else "minisblack"
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric=photometric, extrasamples=["unassalpha"], planarconfig="contig"
    )
    for channels in (1, 3):
        reader = ImageReader(channels)
        whole = reader(tmp_path / "a.tif")
        whole[pixels[..., -1] == 0] = 0
        np.testing.assert_array_equal(in_parts(tmp_path / "a.tif", reader), whole)
        with opened(tmp_path / "a.tif", reader) as image:
            missing = image.missing(0, 0, HEIGHT, WIDTH)
        np.testing.assert_array_equal(missing, pixels[..., -1] == 0)
    assert_same(tmp_path / "a.tif", ImageReader(bands))
    with opened(tmp_path / "a.tif", ImageReader(bands)) as image:
        assert image.missing(0, 0, 5, 5) is None


def _palette(path: Path) -> None:
    image = Image.fromarray(random(HEIGHT, WIDTH) % 3)
    image.putpalette([1, 2, 3, 40, 50, 60, 70, 80, 90])
    image.save(path)


DECLINED: dict[str, tuple[int, Callable[[Path], object]]] = {
    "turned": (3, lambda path: tifffile.imwrite(path, random(9, 7, 3), extratags=[(274, 3, 1, 6, True)])),
    "palette": (3, _palette),
    "CMYK": (3, lambda path: Image.fromarray(random(9, 7, 3)).convert("CMYK").save(path)),
    "Lab": (3, lambda path: tifffile.imwrite(path, random(9, 7, 3), photometric="cielab")),
    "white is 0": (1, lambda path: tifffile.imwrite(path, random(9, 7), photometric="miniswhite")),
    "bilevel": (1, lambda path: Image.fromarray(random(9, 7) > 99).save(path)),
    "4 bits": (1, lambda path: write(path, random(1, 9, 7) % 16, nbits=4)),
    "12 bits": (1, lambda path: write(path, random(1, 9, 7).astype("uint16"), nbits=12)),
    "pages": (5, lambda path: tifffile.imwrite(path, random(5, 9, 7), photometric="minisblack", planarconfig=None)),
    "three pages": (3, lambda path: tifffile.imwrite(path, random(3, 9, 7), photometric="minisblack")),
    "complex": (1, lambda path: tifffile.imwrite(path, np.ones((9, 7), np.complex64))),
    "PNG": (3, lambda path: Image.fromarray(random(9, 7, 3)).save(path, "PNG")),
    "text": (3, lambda path: path.write_text("no image")),
    "VRT": (3, lambda path: path.write_text('<VRTDataset rasterXSize="9" rasterYSize="7"></VRTDataset>')),
    "start alone": (3, lambda path: path.write_bytes(b"II*\0")),
    "no file": (3, lambda path: None),
}


@pytest.mark.parametrize("kind", DECLINED)
def test_what_parts_would_not_equal_is_left_to_the_reader(tmp_path: Path, kind: str) -> None:
    channels, save = DECLINED[kind]
    save(tmp_path / "a.tif")
    assert open_raster(tmp_path / "a.tif", ImageReader(channels)) is None


def test_without_rasterio_every_file_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tif", random(3, 9, 7))
    monkeypatch.setattr(raster_reading, "has_rasterio", lambda: False)
    assert open_raster(path, ImageReader()) is None


def test_modules_import_without_rasterio() -> None:
    modules = ", ".join(f"unetseg.inference.{name}" for name in ("raster_reading", "raster_writing", "polygons"))
    code = f"import sys; sys.modules['rasterio'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pages_beside_one_that_is_wanted_do_not_count(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", random(2, HEIGHT, WIDTH), photometric="minisblack", planarconfig=None)
    assert_same(tmp_path / "a.tif", ImageReader(1))


def test_other_channels_are_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", random(5, 9, 7))
    with pytest.raises(ImageError, match=r"a\.tif has 5 channels, and 3 are wanted"):
        open_raster(path, ImageReader())
    path = write(tmp_path / "b.tif", random(3, 9, 7, dtype=np.int16))
    with pytest.raises(ImageError, match=r"b\.tif: int16 values \(-3\d+ to 3\d+\) have no agreed range"):
        open_raster(path, ImageReader())


def test_a_brightness_in_one_band_is_kept_where_nodata_is_one(tmp_path: Path) -> None:
    values = np.full((3, 40, 50), 90, np.uint8)
    values[0, :, 20:] = 255  # a saturated red
    values[:, :10] = 255
    path = write(tmp_path / "a.tif", values, nodata=255)
    with opened(path, ImageReader()) as image:
        part, missing = image.read(0, 0, 40, 50), image.missing(0, 0, 40, 50)
    assert missing[:10].all()
    assert not missing[10:].any()
    np.testing.assert_array_equal(part[10:], values[:, 10:].transpose(1, 2, 0))
    assert part[:10].max() == 0


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 0), ("uint16", 65535), ("int16", -9999), ("float32", -9999.0), ("float32", np.nan)]
)
def test_nodata_reaches_the_network_as_0(tmp_path: Path, dtype: str, nodata: float) -> None:
    values = np.full((3, HEIGHT, WIDTH), 50, dtype)
    values[:, 5:30, 60:99] = nodata
    values[1, 50:60, 100:] = nodata  # one band alone
    path = write(tmp_path / "a.tif", values, nodata=nodata)
    with opened(path, ImageReader(3, 100.0)) as image:
        part, missing = image.read(3, 55, 80, 86), image.missing(3, 55, 80, 86)
        assert image.nodata == nodata or np.isnan(nodata)
        assert image.may_miss
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[5:30, 60:99] = True
    np.testing.assert_array_equal(missing, expected[3:83, 55:])
    scaled = np.where(expected[..., None], 0, np.full(3, 0.5, np.float32))
    scaled[50:60, 100:, 1] = 0
    np.testing.assert_array_equal(part, scaled[3:83, 55:])


def test_nan_is_no_data_though_the_file_does_not_say_so(tmp_path: Path) -> None:
    values = np.full((1, 5, 7), 0.5, np.float32)
    values[0, 2, 3] = np.nan
    path = write(tmp_path / "a.tif", values, nodata=-1)
    with opened(path, ImageReader(1, 1.0)) as image:
        assert np.argwhere(image.missing(0, 0, 5, 7)).tolist() == [[2, 3]]
        assert image.read(2, 3, 1, 1).tolist() == [[[0.0]]]
    values[0, 4, 4] = np.inf
    write(path, values)
    with pytest.raises(ImageError, match="holds values that are no numbers"):
        open_raster(path, ImageReader(1, 1.0))


@pytest.mark.parametrize("nodata", [-9999, 300, 0.5])
def test_nodata_that_the_type_does_not_hold_means_nothing(tmp_path: Path, nodata: float) -> None:
    pixels = random(HEIGHT, WIDTH, 3)
    tag = (42113, 2, 0, str(nodata), True)  # GDAL_NODATA
    tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=[tag])
    assert_same(tmp_path / "a.tif", ImageReader())
    with opened(tmp_path / "a.tif", ImageReader()) as image:
        missing = image.missing(0, 0, 9, 9)
    assert missing is None or not missing.any()


def write_masked(path: Path, valid: np.ndarray, *, internal: bool) -> Path:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        pixels = random(3, HEIGHT, WIDTH)
        with rasterio.open(
            path, "w", driver="GTiff", count=3, height=HEIGHT, width=WIDTH, dtype="uint8", transform=NORTH_UP
        ) as file:
            file.write(pixels)
            file.write_mask(valid)
    return path


@pytest.mark.parametrize("cog", [False, True])
def test_mask_inside_the_file(tmp_path: Path, cog: bool) -> None:
    valid = np.ones((HEIGHT, WIDTH), bool)
    valid[20:40, 30:77] = False
    path = write_masked(tmp_path / "a.tif", valid, internal=True)
    if cog:
        rasterio.shutil.copy(path, tmp_path / "b.tif", driver="COG", blocksize=32)
        path = tmp_path / "b.tif"
    with opened(path, ImageReader()) as image:
        np.testing.assert_array_equal(image.missing(10, 20, 50, 60), ~valid[10:60, 20:80])
        part = image.read(10, 20, 50, 60)
    whole = ImageReader()(path)
    whole[~valid] = 0
    np.testing.assert_array_equal(part, whole[10:60, 20:80])


def test_files_beside_it_give_no_pixels(tmp_path: Path) -> None:
    path = write_masked(tmp_path / "a.tif", np.zeros((HEIGHT, WIDTH), bool), internal=False)
    assert (tmp_path / "a.tif.msk").exists()
    (tmp_path / "a.tif.ovr").write_text("rubbish")
    assert_same(path, ImageReader())
    with opened(path, ImageReader()) as image:
        assert image.missing(0, 0, HEIGHT, WIDTH) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "a.tif.msk", "a.tif.ovr"]


def test_georeference(tmp_path: Path) -> None:
    with opened(write(tmp_path / "a.tif", random(3, 9, 7)), ImageReader()) as image:
        assert image.georeference.crs == rasterio.CRS.from_epsg(32633)
        assert image.georeference.transform == NORTH_UP
        assert (image.height, image.width, image.name) == (9, 7, str(tmp_path / "a.tif"))
        assert not image.is_cog
    tifffile.imwrite(tmp_path / "b.tif", random(9, 7, 3))
    with opened(tmp_path / "b.tif", ImageReader()) as image:
        assert not image.georeference
    (tmp_path / "b.tfw").write_text("0.5\n0\n0\n-0.5\n400000.25\n5799999.75\n")  # of the first pixel's centre
    with opened(tmp_path / "b.tif", ImageReader()) as image:
        assert image.georeference.transform == NORTH_UP
        assert image.georeference.crs is None
    (tmp_path / "b.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:32633</SRS></PAMDataset>")
    with opened(tmp_path / "b.tif", ImageReader()) as image:
        assert image.georeference.crs == rasterio.CRS.from_epsg(32633)


def test_gdals_cache_is_bounded() -> None:
    with gdal() as library:
        assert library.env.getenv()["GDAL_CACHEMAX"] == CACHE_BYTES


def test_cog(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", random(3, 700, 600))
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "b.tif", driver="COG")
    with opened(tmp_path / "b.tif", ImageReader()) as image:
        assert image.is_cog
    assert_same(tmp_path / "b.tif", ImageReader())


@pytest.mark.parametrize("damage", ["cut", "broken"])
def test_damage_in_the_middle_is_one_line(tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.tif", random(3, 600, 300), compress="deflate", blockysize=8)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content if damage == "broken" else content[: len(content) * 6 // 10])
    with opened(path, ImageReader()) as image:
        assert image.read(0, 0, 100, 300).shape == (100, 300, 3)
        with pytest.raises(ImageError, match=r"a\.tif: .* it is damaged in rows 250 to 449 \(\w+:") as caught:
            image.read(250, 0, 200, 300)
        if damage == "broken":
            assert image.read(500, 0, 100, 300).shape == (100, 300, 3)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("part", [(-1, 0, 2, 2), (0, 0, 10, 7), (0, 5, 2, 3), (0, 0, 0, 2)])
def test_parts_lie_inside(tmp_path: Path, part: tuple[int, int, int, int]) -> None:
    with (
        opened(write(tmp_path / "a.tif", random(3, 9, 7)), ImageReader()) as image,
        pytest.raises(ValueError, match="isn't inside an image of 9 × 7"),
    ):
        image.read(*part)


def test_threads_that_share_a_file_get_their_own_pixels(tmp_path: Path) -> None:
    """While a tile is read ahead, the overlay of the one before is painted; GDAL alone would mix them up."""
    whole = pixels(700, 600)

    def wrong(seed: int) -> int:
        rng = np.random.default_rng(seed)
        corners = zip(rng.integers(0, 600, 100).tolist(), rng.integers(0, 500, 100).tolist(), strict=True)
        return sum(not np.array_equal(image.read(*at, 99, 98), whole[at[0] :, at[1] :][:99, :98]) for at in corners)

    image = open_raster(write_raster(tmp_path / "a.tif", whole), ImageReader(3))
    assert image is not None
    with image, ThreadPoolExecutor(3) as threads:
        assert list(threads.map(wrong, range(3))) == [0, 0, 0]


def test_threads_do_not_bring_back_each_others_warnings(tmp_path: Path) -> None:
    """The first leaves while the second is inside, as two that open images do."""
    before = list(warnings.filters)
    path = write_tiff(tmp_path / "nowhere.tif", pixels(33, 35))
    inside, left = threading.Event(), threading.Event()

    def second() -> None:
        with gdal() as rasterio:
            inside.set()
            assert left.wait(10)
            rasterio.open(path).close()  # a warning is an error here

    with ThreadPoolExecutor(1) as threads:
        with gdal():
            job = threads.submit(second)
            assert inside.wait(10)
        left.set()
        job.result()
    assert warnings.filters == before
