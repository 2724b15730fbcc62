"""Images become RGB the right way up; masks keep their indices or are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from unetseg.data.readers import mask_values, read_image, read_mask, read_pair
from unetseg.errors import DataError, ImageError

GREY = np.array([[0, 1, 2], [100, 200, 255]], np.uint8)


def save(array: np.ndarray, path: Path, mode: str | None = None) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


def three_classes(path: Path, mask_format: str = "index", ignore_index: int = 255) -> np.ndarray:
    return read_mask(path, mask_format=mask_format, num_classes=3, ignore_index=ignore_index)


def palette_image(indices: np.ndarray) -> Image.Image:
    image = Image.fromarray(indices)
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])  # turns grey values into indices
    return image


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK"])
def test_grey_values_survive_in_any_mode(tmp_path: Path, mode: str):
    path = save(GREY, tmp_path / "a.tif", mode)
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.stack([GREY] * 3, axis=-1))


def test_bilevel_image_becomes_black_and_white(tmp_path: Path):
    path = save(np.array([[True, False, True]]), tmp_path / "a.png")
    assert read_image(path)[0, :, 0].tolist() == [255, 0, 255]


@pytest.mark.parametrize("transparency", [None, b"\x00\x80"])
def test_palette_image_becomes_its_colours(tmp_path: Path, transparency: bytes | None):
    options = {"transparency": transparency} if transparency else {}
    palette_image(np.array([[0, 2]], np.uint8)).save(tmp_path / "a.png", **options)
    assert read_image(tmp_path / "a.png").tolist() == [[[10, 20, 30], [70, 80, 90]]]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, dtype: type):
    path = save(np.array([[0, 256, 257, 32768, 65535]], dtype), tmp_path / "a.tif")
    assert read_image(path)[0, :, 0].tolist() == [0, 1, 1, 128, 255]


def test_values_without_agreed_range_are_refused(tmp_path: Path):
    with pytest.raises(ImageError, match=r"a\.tif: 32-bit grey with values 0\.\.70000; save it with 8 or 16 bits"):
        read_image(save(np.array([[0, 70000]], np.int32), tmp_path / "a.tif"))
    with pytest.raises(ImageError, match="floating-point values have no agreed range"):
        read_image(save(np.ones((2, 3), np.float32), tmp_path / "a.tif"))


def test_mode_that_pillow_cannot_convert_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def convert(image: Image.Image, mode: str) -> Image.Image:
        raise ValueError(f"conversion from {image.mode} to {mode} not supported")  # as old versions do for LAB

    Image.new("LAB", (3, 2)).save(tmp_path / "a.tif")
    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(ImageError, match=r"a\.tif: mode LAB can't be converted to RGB; save it as RGB"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int):
    upright = np.zeros((48, 32, 3), np.uint8)  # every quarter has its own colour
    upright[:24, :16], upright[:24, 16:], upright[24:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    image = read_image(tmp_path / "a.jpg").astype(int)
    assert image.shape == (48, 32, 3)
    assert np.abs(image - upright).max() < 60  # JPEG rings at the edges; a wrong quarter differs by 255


def test_unreadable_image_is_one_line_with_file_and_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(np.zeros((40, 30, 3), np.uint8), tmp_path / "whole.png")
    contents = {
        "empty.png": (b"", "the file is empty"),
        "text.png": (b"not an image", "its format isn't one that Pillow knows"),
        "cut.png": (path.read_bytes()[:60], "truncated"),
    }
    for name, (content, reason) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=rf"{name}: can't be read as an image: .*{reason}") as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match=r"gone\.png: can't be read as an image: no such file or directory"):
        read_image(tmp_path / "gone.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ImageError, match=r"whole\.png: .*decompression bomb"):
        read_image(path)


def test_index_masks_keep_their_values(tmp_path: Path):
    mask = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)
    saved = [
        save(mask, tmp_path / "grey.png"),
        save(mask.astype(np.uint16), tmp_path / "wide.png"),
        save(mask.astype(np.int32), tmp_path / "wider.tif"),
        save(np.stack([mask] * 3, -1), tmp_path / "rgb.png"),
        save(np.stack([*[mask] * 3, 255 - mask], -1), tmp_path / "rgba.png"),
        save(mask, tmp_path / "la.png", "LA"),
    ]
    for path in saved:
        read = three_classes(path)
        assert read.dtype == np.uint8
        assert read.flags.writeable
        np.testing.assert_array_equal(read, mask, err_msg=path.name)


def test_palette_mask_gives_indices_not_colours(tmp_path: Path):
    mask = np.array([[0, 1], [2, 2], [1, 0]], np.uint8)
    palette_image(mask).save(tmp_path / "a.png")
    np.testing.assert_array_equal(three_classes(tmp_path / "a.png"), mask)


def test_bilevel_mask_holds_classes_0_and_1(tmp_path: Path):
    path = save(np.array([[True, False]]), tmp_path / "a.png")
    assert three_classes(path).tolist() == [[1, 0]]


def test_binary_mask_counts_any_non_zero_value_as_class_1(tmp_path: Path):
    path = save(np.array([[0, 1, 127, 255]], np.uint8), tmp_path / "a.png")
    assert three_classes(path, "binary").tolist() == [[0, 1, 1, 1]]


def test_mask_is_turned_like_its_image(tmp_path: Path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert three_classes(tmp_path / "a.png").tolist() == [[0], [1], [2]]


def test_ignore_index_may_be_a_class(tmp_path: Path):
    path = save(np.array([[0, 1, 2]], np.uint8), tmp_path / "a.png")
    assert three_classes(path, ignore_index=0).tolist() == [[0, 1, 2]]


def test_stray_values_are_named(tmp_path: Path):
    path = save(np.arange(12, dtype=np.uint8)[None], tmp_path / "a.png")
    expected = r"a\.png holds the values 3, 4, 5, 6, 7 and 4 more; with 3 classes it may hold 0\.\.2 and 255"
    with pytest.raises(DataError, match=expected):
        three_classes(path)
    path = save(np.array([[0, 300, 65535]], np.uint16), tmp_path / "wide.png")
    with pytest.raises(DataError, match="holds the values 300, 65535;"):
        three_classes(path)
    path = save(np.array([[0, 255]], np.uint8), tmp_path / "binary.png")
    with pytest.raises(DataError, match=r"\(ignored\); for masks of 0 and 255 use --data\.mask_format binary"):
        three_classes(path, ignore_index=254)


def test_masks_that_hold_no_indices_are_refused(tmp_path: Path):
    colours = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    with pytest.raises(DataError, match=r"a\.png: a colour mask, and colours aren't class indices; save it as"):
        three_classes(save(colours, tmp_path / "a.png"))
    with pytest.raises(DataError, match=r"a\.jpg: a JPEG mask, whose compression changes class indices"):
        three_classes(save(GREY, tmp_path / "a.jpg"))
    with pytest.raises(DataError, match=r"a\.tif: a mask of mode F doesn't hold class indices"):
        three_classes(save(np.ones((2, 2), np.float32), tmp_path / "a.tif"))
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=r"empty\.png: can't be read as an image: the file is empty"):
        three_classes(tmp_path / "empty.png")


def test_mask_values_are_collected_whatever_they_mean(tmp_path: Path):
    assert mask_values(save(GREY, tmp_path / "a.png")) == {0, 1, 2, 100, 200, 255}
    assert mask_values(save(GREY > 9, tmp_path / "b.png")) == {0, 1}


def test_sizes_of_image_and_mask_must_agree(tmp_path: Path):
    mask = save(np.zeros((5, 7), np.uint8), tmp_path / "mask.png")
    options = {"mask_format": "index", "num_classes": 2, "ignore_index": 255}
    pair = read_pair(save(np.zeros((5, 7, 3), np.uint8), tmp_path / "a.png"), mask, **options)
    assert [part.shape for part in pair] == [(5, 7, 3), (5, 7)]

    plain = save(np.zeros((7, 5, 3), np.uint8), tmp_path / "plain.png")
    expected = r"plain\.png is 5 x 7 pixels \(width x height\), but its mask \S*mask\.png is 7 x 5$"
    with pytest.raises(DataError, match=expected):
        read_pair(plain, mask, **options)

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    Image.new("RGB", (7, 5)).save(tmp_path / "turned.jpg", exif=exif)
    with pytest.raises(DataError, match=r"turned\.jpg is 5 x 7 .* EXIF orientation 8, which was applied"):
        read_pair(tmp_path / "turned.jpg", mask, **options)
