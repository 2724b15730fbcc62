"""A header that claims more pixels than are read whole is refused before anything is allocated."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetseg.data.image_header import MAX_PIXELS, image_size
from unetseg.data.images import ImageReader
from unetseg.data.masks import IndexMaskReader
from unetseg.errors import DataError, ImageError

SIDE = 30_000
FIX_TIFF = r"Cut it into smaller images; or, to predict it, install rasterio, .* -e '\.\[raster\]'"
FIX = r"Cut it into smaller images; or, to predict it, save it as a TIFF .* -e '\.\[raster\]'"


def png(height: int, width: int, depth: int = 8) -> bytes:
    """A colour PNG of that size whose rows end after a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def bmp(height: int, width: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 100, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(50)


def ppm(height: int, width: int) -> bytes:
    return b"P6 %d %d 255\n" % (width, height) + bytes(50)


def tiff(path: Path, height: int, width: int, bands: int, dtype: type = np.uint8) -> bytes:
    """A TIFF whose tags are changed to claim that size."""
    pixels = np.zeros((16, 16, bands) if bands > 1 else (16, 16), dtype)
    photometric = "rgb" if bands == 3 else "minisblack"
    planarconfig = "contig" if bands > 1 else None
    tifffile.imwrite(path, pixels, tile=(16, 16), photometric=photometric, planarconfig=planarconfig)
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages.first.tags
        tags["ImageLength"].overwrite(height)
        tags["ImageWidth"].overwrite(width)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["png", "png, 16 bits", "bmp", "ppm", "tiff, grey", "tiff, rgb", "tiff, 5 bands"])
def test_huge_claims_are_refused_at_once(tmp_path: Path, kind: str):
    bands = {"tiff, grey": 1, "tiff, 5 bands": 5}.get(kind, 3)
    makers = {"png": png, "bmp": bmp, "ppm": ppm, "tiff": lambda *size: tiff(tmp_path / "b.tif", *size, bands)}
    data = png(SIDE, SIDE, 16) if "16" in kind else makers[kind.split(",")[0]](SIDE, SIDE)
    path = tmp_path / "a.img"
    path.write_bytes(data)
    fix = FIX_TIFF if "tiff" in kind else FIX
    tracemalloc.start()
    with pytest.raises(ImageError, match=rf"a\.img: .* has 900,000,000 pixels, and at most 178,956,970 .* {fix}"):
        ImageReader(bands)(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    with pytest.raises(DataError, match=r"a\.img: .* has 900,000,000 pixels"):
        IndexMaskReader(2, 255)(path, (SIDE, SIDE))


def test_size_of_a_huge_tiff_is_told(tmp_path: Path):
    tiff(tmp_path / "a.tif", SIDE, SIDE + 1, 3)
    assert image_size(tmp_path / "a.tif") == (SIDE, SIDE + 1)
    (tmp_path / "a.png").write_bytes(png(SIDE, SIDE))
    with pytest.raises(ImageError, match="has 900,000,000 pixels"):
        image_size(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_a_huge_file_is_refused_before_its_bytes_are_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.img"
    path.write_bytes(png(SIDE, SIDE) if kind == "png" else tiff(tmp_path / "b.tif", SIDE, SIDE, 3))
    with path.open("r+b") as file:
        file.truncate(2**27)  # sparse
    monkeypatch.setattr("unetseg.data.images.decode", None)
    with pytest.raises(ImageError, match="has 900,000,000 pixels"):
        ImageReader()(path)


def test_a_large_file_of_few_pixels_is_read(tmp_path: Path):
    for path in (tmp_path / "a.bmp", tmp_path / "a.tif"):
        Image.fromarray(np.full((3, 5, 3), 7, np.uint8)).save(path)
        with path.open("r+b") as file:
            file.truncate(2**26 + 1)
        assert ImageReader()(path).tolist() == np.full((3, 5, 3), 7).tolist()


def test_pillow_does_not_warn_below_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        assert ImageReader()(tmp_path / name).shape == (5, 7, 3)
        assert image_size(tmp_path / name) == (5, 7)


def test_the_bound_holds_where_pillows_was_lifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert 2 * (Image.MAX_IMAGE_PIXELS or 0) == MAX_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "a.png").write_bytes(png(SIDE, SIDE))
    with pytest.raises(ImageError, match="has 900,000,000 pixels"):
        ImageReader()(tmp_path / "a.png")
