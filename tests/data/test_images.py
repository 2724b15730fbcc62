"""Images keep their channels and all their bits, the right way up, whatever the format; or are refused with the fix."""

import io
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import tifffile._imagecodecs
from PIL import ExifTags, Image, PngImagePlugin

from unetseg.data.image_header import image_size, orientation
from unetseg.data.images import ImageReader
from unetseg.errors import DataError, ImageError

WritePng = Callable[..., Path]
ExifBytes = Callable[[int], bytes]

GREY = np.array([[0, 1, 2], [100, 200, 255]], np.uint8)
ORIENTATION_TAG = 274


def random(*shape: int, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    largest = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, largest, shape, dtype=dtype, endpoint=True)


def save(array: np.ndarray, path: Path, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def save_tiff(array: np.ndarray, path: Path, **options: object) -> Path:
    """Save (H, W), (H, W, C), or with ``planarconfig=None`` (pages, H, W)."""
    photometric = "rgb" if array.ndim == 3 and array.shape[2] in (3, 4) else "minisblack"
    planarconfig = "contig" if array.ndim == 3 else None
    tifffile.imwrite(path, array, **{"photometric": photometric, "planarconfig": planarconfig, **options})
    return path


def stored_as(upright: np.ndarray, turn: int) -> np.ndarray:
    """What a camera stores whose EXIF orientation turns it upright."""
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[turn].copy()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK"])
def test_grey_values_survive_in_any_mode(tmp_path: Path, mode: str):
    image = ImageReader()(save(GREY, tmp_path / "a.tif", mode))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.stack([GREY] * 3, axis=-1))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".ppm", ".webp", ".PNG"])
def test_formats_without_loss_are_read_exactly(tmp_path: Path, suffix: str):
    pixels = random(7, 5, 3)
    options = {"lossless": True} if suffix == ".webp" else {}
    np.testing.assert_array_equal(ImageReader()(save(pixels, tmp_path / f"a{suffix}", **options)), pixels)


@pytest.mark.parametrize("suffix", [".gif", ".pgm"])
def test_grey_formats(tmp_path: Path, suffix: str):
    np.testing.assert_array_equal(ImageReader(1)(save(GREY, tmp_path / f"a{suffix}"))[..., 0], GREY)


def test_unicode_name(tmp_path: Path):
    np.testing.assert_array_equal(ImageReader(1)(save(GREY, tmp_path / "Übung 日本.tif"))[..., 0], GREY)


@pytest.mark.parametrize(("suffix", "options"), [(".png", {}), (".tif", {}), (".tif", {"compression": "group4"})])
def test_bilevel_image_becomes_black_and_white(tmp_path: Path, suffix: str, options: dict[str, str]):
    path = save(np.array([[True, False, True]]), tmp_path / f"a{suffix}", **options)
    assert ImageReader()(path)[0, :, 0].tolist() == [255, 0, 255]


@pytest.mark.parametrize("transparency", [None, b"\x00\x80"])
def test_palette_image_becomes_its_colours(tmp_path: Path, transparency: bytes | None):
    image = Image.fromarray(np.array([[0, 2]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png", **({"transparency": transparency} if transparency else {}))
    assert ImageReader()(tmp_path / "a.png").tolist() == [[[10, 20, 30], [70, 80, 90]]]
    if transparency:
        assert ImageReader(4)(tmp_path / "a.png").tolist() == [[[10, 20, 30, 0], [70, 80, 90, 255]]]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_every_bit(tmp_path: Path, write_png: WritePng, channels: int):
    samples = random(7, 5, channels, dtype=np.uint16)
    image = ImageReader(channels)(write_png(tmp_path / "a.png", samples, depth=16))
    assert image.dtype == np.float32
    assert image.max() <= 1
    np.testing.assert_array_equal(np.rint(image * 65535.0), samples)


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("dtype", [np.uint16, np.uint8])
@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"compression": "zstd"}, {"compression": "deflate"}])
@pytest.mark.parametrize("layout", ["contig", "separate", "tiled", "tiled separate", "pages"])
@pytest.mark.parametrize("channels", [2, 5])
def test_multiband_tiff(
    tmp_path: Path, channels: int, layout: str, options: dict[str, str], dtype: type, byteorder: str
):
    bands = random(21, 35, channels, dtype=dtype)
    if layout == "pages":
        planarconfig, saved = None, bands.transpose(2, 0, 1)
    else:
        planarconfig = "separate" if "separate" in layout else "contig"
        saved = bands.transpose(2, 0, 1) if "separate" in layout else bands
    tile = (16, 16) if "tiled" in layout else None
    written = {"planarconfig": planarconfig, "tile": tile, "byteorder": byteorder, **options}
    image = ImageReader(channels)(save_tiff(saved, tmp_path / "a.tif", photometric="minisblack", **written))
    np.testing.assert_array_equal(image, bands if dtype == np.uint8 else bands / np.float32(65535))
    assert image_size(tmp_path / "a.tif") == (21, 35)


@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
def test_three_bands_need_not_be_colours(tmp_path: Path, photometric: str, layout: str):
    bands = random(7, 5, 3)
    saved = bands if layout == "contig" else bands.transpose(2, 0, 1)
    path = save_tiff(saved, tmp_path / "a.tif", photometric=photometric, planarconfig=layout)
    np.testing.assert_array_equal(ImageReader()(path), bands)


@pytest.mark.parametrize("kind", ["shaped", "ome", "imagej"])
def test_stacks_of_bands(tmp_path: Path, kind: str):
    bands = random(7, 5, 4, dtype=np.uint16)
    options = {"metadata": {"axes": "CYX"}, **({} if kind == "shaped" else {kind: True})}
    options |= {"photometric": "minisblack", "planarconfig": None}
    path = save_tiff(bands.transpose(2, 0, 1), tmp_path / "a.tif", **options)
    np.testing.assert_array_equal(ImageReader(4)(path), bands / np.float32(65535))


def test_smaller_copy_of_a_tiff_is_no_band(tmp_path: Path):
    pixels = random(16, 20, 4)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(pixels, photometric="rgb", extrasamples=["unassalpha"])
        tiff.write(pixels[::2, ::2], photometric="rgb", extrasamples=["unassalpha"], subfiletype=1)
    np.testing.assert_array_equal(ImageReader(4)(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize("compression", ["webp", "jpeg2000", "lerc"])
def test_compressions_that_pillow_lacks(tmp_path: Path, compression: str):
    options = {"compressionargs": {"lossless": True}} if compression == "webp" else {}
    pixels = random(32, 32, 3)
    path = save_tiff(pixels, tmp_path / "a.tif", compression=compression, **options)
    np.testing.assert_array_equal(ImageReader()(path), pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_whose_white_is_0(tmp_path: Path, dtype: type):
    values = random(3, 4, dtype=dtype)
    path = save_tiff(np.iinfo(dtype).max - values, tmp_path / "a.tif", photometric="miniswhite")
    image = ImageReader(1)(path)[..., 0]
    np.testing.assert_array_equal(image, values if dtype == np.uint8 else values / np.float32(65535))


def test_palette_of_a_16_bit_tiff(tmp_path: Path):
    colours = random(3, 65536, dtype=np.uint16)
    indices = random(3, 4, dtype=np.uint16)
    path = save_tiff(indices, tmp_path / "a.tif", photometric="palette", colormap=colours)
    np.testing.assert_array_equal(ImageReader()(path), colours[:, indices].transpose(1, 2, 0) / np.float32(65535))


def test_alpha_is_dropped_unless_it_is_wanted(tmp_path: Path):
    rgba = random(7, 5, 4)
    path = save(rgba, tmp_path / "a.png")
    np.testing.assert_array_equal(ImageReader(4)(path), rgba)
    np.testing.assert_array_equal(ImageReader(3)(path), rgba[..., :3])
    np.testing.assert_array_equal(ImageReader(1)(path), ImageReader(1)(save(rgba[..., :3], tmp_path / "b.png")))
    tiff = save_tiff(rgba.astype(np.uint16), tmp_path / "a.tif", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(ImageReader(3)(tiff), rgba[..., :3] / np.float32(65535))


@pytest.mark.parametrize("depth", [8, 16])
def test_colours_become_their_luminance(tmp_path: Path, write_png: WritePng, depth: int):
    rgb = random(7, 5, 3, dtype={8: np.uint8, 16: np.uint16}[depth])
    image = ImageReader(1)(write_png(tmp_path / "a.png", rgb, depth=depth))
    expected = rgb @ np.array([0.299, 0.587, 0.114]) / (1 if depth == 8 else 65535)
    assert image.shape == (7, 5, 1)
    assert np.abs(image[..., 0] - expected).max() < (0.51 if depth == 8 else 1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_is_repeated_as_rgb(tmp_path: Path, dtype: type):
    grey = random(7, 5, dtype=dtype)
    image = ImageReader(3)(save(grey, tmp_path / "a.png"))
    assert image.shape == (7, 5, 3)
    np.testing.assert_array_equal(image, np.stack([ImageReader(1)(tmp_path / "a.png")[..., 0]] * 3, axis=-1))


@pytest.mark.parametrize(("there", "wanted"), [(3, 4), (1, 2), (5, 3), (4, 5), (5, 1)])
def test_other_channels_are_refused(tmp_path: Path, there: int, wanted: int):
    pixels = random(7, 5) if there == 1 else random(7, 5, there)
    path = save_tiff(pixels, tmp_path / "a.tif", photometric="minisblack")
    expected = (
        rf"a\.tif has {there} channels, and {wanted} are wanted. If all images have {there}, train with --data.in_"
    )
    with pytest.raises(ImageError, match=expected):
        ImageReader(wanted)(path)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.float16, np.float32, np.float64])
def test_values_without_an_agreed_range_need_one(tmp_path: Path, dtype: type):
    values = np.array([[0, 1, 3], [100, 120, 125]], dtype)
    path = save_tiff(values, tmp_path / "a.tif")
    expected = rf"a\.tif: {np.dtype(dtype)} values \(0(\.0)? to 125(\.0)?\) have no agreed range; .* --data.max_value"
    with pytest.raises(ImageError, match=expected):
        ImageReader(1)(path)
    image = ImageReader(1, max_value=125)(path)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., 0], values.astype(np.float32) / np.float32(125))


def test_values_may_leave_the_range(tmp_path: Path):
    path = save_tiff(np.array([[-50, 200]], np.int16), tmp_path / "a.tif")
    assert ImageReader(1, max_value=100)(path).tolist() == [[[-0.5], [2.0]]]


def test_max_value_counts_for_8_and_16_bits_too(tmp_path: Path):
    values = (np.array([100, 200, 255], np.float32) / np.float32(200)).tolist()
    assert ImageReader(1, max_value=200)(save(GREY, tmp_path / "a.png"))[1, :, 0].tolist() == values
    deep = save(GREY.astype(np.uint16), tmp_path / "b.png")
    assert ImageReader(1, max_value=200)(deep)[1, :, 0].tolist() == values
    assert ImageReader(1, max_value=255)(tmp_path / "a.png").dtype == np.uint8


@pytest.mark.parametrize(("dtype", "value"), [(np.float32, np.nan), (np.float32, np.inf), (np.float64, 1e300)])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, dtype: type, value: float):
    path = save_tiff(np.array([[0, value]], dtype), tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a\.tif holds values that are no numbers; replace them, and ignore those"):
        ImageReader(1, max_value=1.0)(path)


def test_complex_values_are_refused(tmp_path: Path):
    with pytest.raises(ImageError, match=r"a\.tif: complex64 values have no agreed range"):
        ImageReader(1, max_value=1)(save_tiff(np.ones((2, 3), np.complex64), tmp_path / "a.tif"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"in_channels": 0}, "in_channels 0: must be at least 1"),
        ({"max_value": 0}, "max_value 0: must be above 0, the value that stands for full brightness"),
        ({"max_value": float("nan")}, "max_value nan: must be above 0"),
        ({"max_value": float("inf")}, "max_value inf: must be above 0"),
    ],
)
def test_options_are_checked(options: dict[str, float], expected: str):
    with pytest.raises(DataError, match=expected):
        ImageReader(**options)


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{}"/></x:xmpmeta>'
EXACT = [
    "png",
    "png, EXIF behind",
    "png, XMP",
    "png, XMP behind",
    "png, profile behind",
    "png, 16 bits",
    "png, 16 bits, EXIF behind",
    "png, 16-bit grey",
    "webp",
    "tiff",
    "tiff, XMP",
    "tiff, 16 bits",
    "tiff, 16 bits, XMP",
    "tiff, 5 bands",
    "tiff, tiled planes",
    "tiff, pages",
]


def _compressed(text: bytes) -> bytes:
    keyword, content = text.split(b"\0", 1)
    return keyword + b"\0\0" + zlib.compress(content)


def write_turned(kind: str, path: Path, upright: np.ndarray, turn: int, write_png: WritePng, exif: bytes) -> Path:
    """Save (H, W, 5) bands, or as many of them as the format has, in one of the ways to say that they are turned."""
    stored = stored_as(upright, turn)
    xmp = XMP.format(turn)
    depth = 16 if "16" in kind else 8
    file_format = kind.split(",")[0]
    if file_format == "png":
        itxt = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp.encode()
        profile = b"Raw profile type exif\0\nexif\n%8d\n%b\n" % (len(exif), exif.hex().encode())
        chunk = {b"eXIf": exif.removeprefix(b"Exif\0\0")}
        if "XMP" in kind or "profile" in kind:
            chunk = {b"iTXt": itxt} if "XMP" in kind else {b"zTXt": _compressed(profile)}
        channels = 1 if "grey" in kind else 3
        samples = stored[..., :channels].astype(np.uint16) * (257 if depth == 16 else 1)
        text = {b"tEXt": b"date:create\0today"}  # as ImageMagick adds
        behind = {**chunk, **text} if "behind" in kind else text
        return write_png(path, samples, depth=depth, before={} if "behind" in kind else chunk, behind=behind)
    if file_format in ("webp", "jpeg"):
        options = {"lossless": True} if file_format == "webp" else {"quality": 95, "subsampling": 0}
        return save(stored[..., :3], path, format=file_format, exif=exif, **options)
    tag = (700, 1, len(xmp), xmp.encode(), True) if "XMP" in kind else (ORIENTATION_TAG, 3, 1, turn, True)
    bands = stored.astype(np.uint16) * 257 if depth == 16 else stored
    options = {"extratags": [tag]}
    if "5 bands" in kind:
        return save_tiff(bands, path, photometric="minisblack", **options)
    if "pages" in kind:
        return save_tiff(bands.transpose(2, 0, 1), path, photometric="minisblack", planarconfig=None, **options)
    if "planes" in kind:
        planes = bands[..., :3].transpose(2, 0, 1)
        return save_tiff(planes, path, photometric="rgb", planarconfig="separate", tile=(16, 16), **options)
    return save_tiff(bands[..., :3], path, **options)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", EXACT)
def test_image_is_upright_and_its_header_says_the_size(
    tmp_path: Path, write_png: WritePng, exif_bytes: ExifBytes, kind: str, turn: int
):
    upright = random(23, 34, 5)
    path = write_turned(kind, tmp_path / "a.img", upright, turn, write_png, exif_bytes(turn))
    channels = 1 if "grey" in kind else 5 if "bands" in kind or "pages" in kind else 3
    image = ImageReader(channels)(path)
    expected = upright[..., :channels]
    np.testing.assert_array_equal(np.rint(image * 255.0) if "16" in kind else image, expected)
    assert image.flags.writeable
    assert image.flags.c_contiguous
    assert image_size(path) == (23, 34)
    assert orientation(path) == turn


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_of_jpeg(tmp_path: Path, exif_bytes: ExifBytes, turn: int):
    upright = np.zeros((48, 32, 3), np.uint8)  # every quarter has its own colour
    upright[:24, :16], upright[:24, 16:], upright[24:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    path = write_turned("jpeg", tmp_path / "a.jpg", upright, turn, save, exif_bytes(turn))
    image = ImageReader()(path).astype(int)
    assert image.shape == (48, 32, 3)
    assert image_size(path) == (48, 32)
    assert np.abs(image - upright).max() < 60  # JPEG rings at the edges; a wrong quarter differs by 255


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("broken", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0rubbish", b"Exif\0\0"])
def test_broken_exif_turns_nothing(tmp_path: Path, broken: bytes):
    path = save(random(7, 5, 3), tmp_path / "a.jpg", exif=broken)
    assert ImageReader()(path).shape[:2] == image_size(path) == (7, 5)
    assert orientation(path) == 1


def test_size_of_a_png_is_told_without_its_pixels(
    tmp_path: Path, write_png: WritePng, exif_bytes: ExifBytes, monkeypatch: pytest.MonkeyPatch
):
    def refuse(image: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", refuse)
    plain = write_png(tmp_path / "a.png", GREY[..., None], depth=8)
    chunk = exif_bytes(6).removeprefix(b"Exif\0\0")
    turned = write_png(tmp_path / "b.png", GREY[..., None], depth=8, behind={b"eXIf": chunk, b"tEXt": b"a\0b"})
    assert (image_size(plain), image_size(turned)) == ((2, 3), (3, 2))


def test_unreadable_image_is_one_line_with_file_and_reason(tmp_path: Path):
    path = save(np.zeros((40, 30, 3), np.uint8), tmp_path / "whole.png")
    tiff = save_tiff(random(40, 30, 5), tmp_path / "whole.tif")
    contents = {
        "empty.png": (b"", "the file is empty"),
        "text.png": (b"not an image", "its format isn't one that Pillow knows"),
        "cut.png": (path.read_bytes()[:60], "truncated"),
        "cut.tif": (tiff.read_bytes()[:2000], "failed to read"),
        "nothing.tif": (tiff.read_bytes()[:8], r"\S"),
    }
    for name, (content, reason) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=rf"{name}: can't be read as an image: .*{reason}") as caught:
            ImageReader()(tmp_path / name)
        assert "\n" not in str(caught.value)
    for name in ("empty.png", "text.png", "nothing.tif"):
        with pytest.raises(ImageError, match=rf"{name}: can't be read as an image: .*{contents[name][1]}"):
            image_size(tmp_path / name)
        assert orientation(tmp_path / name) == 1
    for read in (ImageReader(), image_size):
        with pytest.raises(ImageError, match=r"gone\.png: can't be read as an image: no such file or directory"):
            read(tmp_path / "gone.png")
        (tmp_path / "folder.png").mkdir(exist_ok=True)
        with pytest.raises(ImageError, match=r"folder\.png: can't be read as an image: is a directory"):
            read(tmp_path / "folder.png")
        with pytest.raises(ImageError, match=r"can't be read as an image: embedded null byte"):
            read("a\0.png")


@pytest.mark.parametrize("cut", [100, 300])
def test_damaged_16_bit_png_is_refused(tmp_path: Path, write_png: WritePng, cut: int):
    path = write_png(tmp_path / "a.png", random(40, 30, 3, dtype=np.uint16), depth=16)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ImageError, match=r"a\.png: can't be read as an image: its 16-bit data are damaged"):
        ImageReader()(path)


def test_missing_imagecodecs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save_tiff(random(20, 30, 5), tmp_path / "a.tif", compression="lzw")
    monkeypatch.setattr(tifffile.tifffile, "imagecodecs", tifffile._imagecodecs)  # tifffile's own, which lacks most
    monkeypatch.setattr(tifffile.TIFF.DECOMPRESSORS, "_codecs", {})
    with pytest.raises(ImageError, match=r"a\.tif: can't be read .*LZW.* requires .*imagecodecs.*: pip install imagec"):
        ImageReader(5)(path)
    rgb = save(random(20, 30, 3), tmp_path / "b.tif", compression="tiff_lzw")  # Pillow can
    assert ImageReader()(rgb).shape == (20, 30, 3)


def test_content_is_read_like_a_file(tmp_path: Path):
    pixels = random(7, 5, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    np.testing.assert_array_equal(ImageReader().decode(file.getvalue(), "a"), pixels)
    with pytest.raises(ImageError, match="shard 3: can't be read as an image"):
        ImageReader().decode(b"nothing", "shard 3")


def test_reader_can_be_sent_to_a_worker():
    reader = ImageReader(5, max_value=10_000)
    assert pickle.loads(pickle.dumps(reader)) == reader


def test_orientation_tag_is_the_one_that_pillow_names():
    assert ExifTags.Base.Orientation == ORIENTATION_TAG


def test_8_bits_have_no_value_beyond_255(tmp_path: Path):
    Image.fromarray(np.full((3, 5), 200, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.png has 8 bits a channel, .* said to be 10000 \(max_value\); save all"):
        ImageReader(1, 10_000)(tmp_path / "a.png")
    assert ImageReader(1, 100)(tmp_path / "a.png").max() == 2


def test_grey_pages_are_channels_if_they_are_as_many(tmp_path: Path):
    pages = np.stack([np.full((4, 6), value, np.uint8) for value in (10, 100, 200)])
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    assert ImageReader(3)(tmp_path / "a.tif")[0, 0].tolist() == [10, 100, 200]
    assert ImageReader(1)(tmp_path / "a.tif")[0, 0].tolist() == [10]
    tifffile.imwrite(tmp_path / "b.tif", pages[[0, 1, 2, 0]], photometric="minisblack")
    with pytest.raises(ImageError, match=r"b\.tif: .* it has 4 pages of one channel; .*\(--data\.in_channels 4\)"):
        ImageReader(3)(tmp_path / "b.tif")
