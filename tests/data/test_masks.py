"""Masks become class indices as they were meant, or are refused: nothing in between."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetseg.data.mask_files import mask_colors, mask_values
from unetseg.data.masks import BinaryMaskReader, ColorMaskReader, IndexMaskReader, MultilabelMaskReader
from unetseg.errors import DataError

WritePng = Callable[..., Path]

SIZE = (2, 3)  # of an image; readers of one file a sample don't look at it
MASK = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)
PALETTE = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]])
STREET = {(128, 64, 128): 0, (70, 130, 180): 1, (0, 0, 230): 1}
READERS = [
    IndexMaskReader(3, 255, {7: 0, 8: "ignore"}),
    BinaryMaskReader(),
    ColorMaskReader(STREET, 255, [(0, 0, 0)]),
    MultilabelMaskReader(["road", "car"]),
]


def save(array: np.ndarray, path: Path, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def save_tiff(array: np.ndarray, path: Path, **options: object) -> Path:
    tifffile.imwrite(path, array, **options)
    return path


def three_classes(path: Path, ignore_index: int = 255) -> np.ndarray:
    return IndexMaskReader(3, ignore_index)(path, SIZE)


def save_palette(indices: np.ndarray, path: Path, palette: np.ndarray = PALETTE) -> Path:
    image = Image.fromarray(indices)
    image.putpalette(palette.astype(np.uint8).tobytes())  # turns grey values into indices
    image.save(path)
    return path


def test_index_masks_keep_their_values(tmp_path: Path):
    saved = [
        save(MASK, tmp_path / "grey.png"),
        save(MASK, tmp_path / "grey.bmp"),
        save(MASK, tmp_path / "grey.pgm"),
        save(MASK, tmp_path / "grey.tif", compression="tiff_lzw"),
        save(np.stack([MASK] * 3, -1), tmp_path / "rgb.webp", lossless=True),
        save(MASK.astype(np.uint16), tmp_path / "wide.png"),
        save(MASK.astype(np.int32), tmp_path / "wider.tif"),
        save_tiff(MASK.astype(np.uint64), tmp_path / "widest.tif"),
        save_tiff(MASK.astype(">u2"), tmp_path / "big_endian.tif", byteorder=">"),
        save_tiff(MASK, tmp_path / "lerc.tif", compression="lerc"),
        save(np.stack([MASK] * 3, -1), tmp_path / "rgb.png"),
        save(np.stack([*[MASK] * 3, 255 - MASK], -1), tmp_path / "rgba.png"),
        save(MASK, tmp_path / "la.png", "LA"),
        save(MASK, tmp_path / "Größe 大.png"),
    ]
    for path in saved:
        read = three_classes(path)
        assert read.dtype == np.uint8
        assert read.flags.writeable
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, MASK, err_msg=path.name)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".gif"])
def test_palette_mask_gives_indices_not_colours(tmp_path: Path, suffix: str):
    indices = np.array([[0, 1], [2, 2], [1, 0]], np.uint8)
    path = save_palette(indices, tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(three_classes(path), indices)
    assert mask_values(path) == {0, 1, 2}


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_of_any_depth(tmp_path: Path, write_png: WritePng, depth: int):
    indices = np.array([[0, 1], [1, 0], [0, min(2, 2**depth - 1)]], np.uint8)
    path = write_png(tmp_path / "a.png", indices[..., None], depth=depth, palette=PALETTE[: 2**depth])
    np.testing.assert_array_equal(three_classes(path), indices)


def test_empty_palette_is_refused(tmp_path: Path, write_png: WritePng):
    path = write_png(tmp_path / "a.png", np.zeros((2, 3, 1), np.uint8), depth=8, palette=np.zeros((0, 3)))
    with pytest.raises(DataError, match=r"a\.png: can't be read as an image: its palette is empty"):
        BinaryMaskReader()(path, SIZE)


def test_palette_of_a_16_bit_tiff(tmp_path: Path):
    colours = np.full((3, 65536), 9000, np.uint16)
    path = save_tiff(np.array([[0, 1, 300]], np.uint16), tmp_path / "a.tif", photometric="palette", colormap=colours)
    assert IndexMaskReader(3, 255, {0: 0, 1: 1, 300: 2})(path, SIZE).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_bilevel_mask_holds_classes_0_and_1(tmp_path: Path, suffix: str):
    path = save(np.array([[True, False]]), tmp_path / f"a{suffix}")
    assert three_classes(path).tolist() == [[1, 0]]


def test_bilevel_mask_whose_white_is_0_is_what_it_looks_like(tmp_path: Path):
    path = save_tiff(np.array([[True, False]]), tmp_path / "a.tif", photometric="miniswhite")
    with Image.open(path) as image:
        assert np.asarray(image).tolist() == [[False, True]]
    assert three_classes(path).tolist() == [[0, 1]]


@pytest.mark.parametrize("depth", [2, 4])
def test_few_bits_hold_the_values_0_1_2_not_shades_of_grey(tmp_path: Path, write_png: WritePng, depth: int):
    indices = np.array([[0, 1, 2, 3]], np.uint8)
    reader = IndexMaskReader(4, 255)
    assert reader(write_png(tmp_path / "a.png", indices[..., None], depth=depth), SIZE).tolist() == [[0, 1, 2, 3]]
    assert reader(save_tiff(indices, tmp_path / "a.tif", bitspersample=depth), SIZE).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("largest", [3, 7, 254, 1000])
@pytest.mark.parametrize("comment", ["", "# written by hand\n"])
def test_pnm_holds_its_values_whatever_the_largest_may_be(tmp_path: Path, largest: int, comment: str):
    plain, raw, rgb = (tmp_path / name for name in ("plain.pgm", "raw.pgm", "rgb.ppm"))
    plain.write_text(f"P2\n{comment}4 1\n{largest}\n0 1 2 3\n")
    values = np.array([0, 1, 2, 3], ">u1" if largest < 256 else ">u2")
    raw.write_bytes(f"P5 {comment}4 1 {largest}\n".encode() + values.tobytes())
    rgb.write_bytes(f"P6 {comment}4 1 {largest}\n".encode() + np.repeat(values, 3).tobytes())
    for path in (plain, raw, rgb):
        if path == rgb and largest > 255:
            continue  # Pillow keeps eight bits of these
        assert IndexMaskReader(4, 255)(path, SIZE).tolist() == [[0, 1, 2, 3]]


def test_values_above_8_bits_can_be_mapped(tmp_path: Path):
    path = save(np.array([[0, 300, 65535]], np.uint16), tmp_path / "a.png")
    assert IndexMaskReader(2, 255, {0: 0, 300: 1, 65535: "ignore"})(path, SIZE).tolist() == [[0, 1, 255]]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_negative_values_are_stray_or_mapped(tmp_path: Path, dtype: type):
    path = save_tiff(np.array([[-1, 0, 1]], dtype), tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif holds the values -1; with 3 classes it may hold 0\.\.2 and 255"):
        three_classes(path)
    assert IndexMaskReader(2, 255, {-1: "ignore", 0: 0, 1: 1})(path, SIZE).tolist() == [[255, 0, 1]]


def test_huge_values_do_not_wrap(tmp_path: Path):
    path = save_tiff(np.array([[2**64 - 1, 2**64 - 2, 256]], np.uint64), tmp_path / "a.tif")
    with pytest.raises(DataError, match="holds the values 256, 18446744073709551614, 18446744073709551615;"):
        three_classes(path)
    with pytest.raises(DataError, match="holds the values 18446744073709551614, 18446744073709551615, which"):
        IndexMaskReader(2, 255, {-1: 0, -2: 1, 256: "ignore"})(path, SIZE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("seed", range(3))
def test_value_map_against_a_dictionary(dtype: type, seed: int):
    rng = np.random.default_rng(seed)
    values = rng.choice([3, 7, 11, 120], (9, 14)).astype(dtype)
    read = IndexMaskReader(2, 254, {120: 1, 3: 0, 11: "ignore", 7: 1, 50: 0}).classes_of(values, "a.png")
    assert read.dtype == np.uint8
    assert read.tolist() == [[{120: 1, 3: 0, 11: 254, 7: 1}[value] for value in row] for row in values.tolist()]


@pytest.mark.parametrize("value", [0, 8, 200, 65535])
def test_values_that_the_map_lacks_are_named(tmp_path: Path, value: int):
    path = save(np.array([[7, value, value, 9]], np.uint16), tmp_path / "a.png")
    expected = rf"a\.png holds the values {value}, which --data.value_map doesn't list; map them to a class, or to ign"
    with pytest.raises(DataError, match=expected):
        IndexMaskReader(2, 255, {7: 0, 9: "ignore"})(path, SIZE)


def test_stray_values_are_named(tmp_path: Path):
    path = save(np.arange(12, dtype=np.uint8)[None], tmp_path / "a.png")
    expected = (
        r"a\.png holds the values 3, 4, 5, 6, 7 and 4 more; with 3 classes it may hold 0\.\.2 and 255 \(ignored\); "
        r"--data\.value_map can map others$"
    )
    with pytest.raises(DataError, match=expected):
        three_classes(path)
    path = save(np.array([[0, 300, 65535]], np.uint16), tmp_path / "wide.png")
    with pytest.raises(DataError, match="holds the values 300, 65535;"):
        three_classes(path)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_black_and_white_masks_are_told_from_stray_values(tmp_path: Path, dtype: type, white: int):
    path = save(np.array([[0, white]], dtype), tmp_path / "binary.png")
    with pytest.raises(DataError, match=rf"for masks of 0 and {white} use --data\.mask_format binary$"):
        three_classes(path, ignore_index=254)


def test_ignore_index_may_be_a_class(tmp_path: Path):
    path = save(np.array([[0, 1, 2]], np.uint8), tmp_path / "a.png")
    assert three_classes(path, ignore_index=0).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_binary_mask_counts_any_non_zero_value_as_class_1(tmp_path: Path, dtype: type):
    path = save(np.array([[0, 1, 127, np.iinfo(dtype).max]], dtype), tmp_path / "a.png")
    read = BinaryMaskReader()(path, SIZE)
    assert read.dtype == np.uint8
    assert read.tolist() == [[0, 1, 1, 1]]


def test_binary_mask_with_a_palette(tmp_path: Path):
    indices = np.array([[0, 1, 1]], np.uint8)
    for name, palette in {"a": [[0, 0, 0], [255, 255, 255]], "b": [[9, 9, 9], [0, 200, 0], [0, 0, 0]]}.items():
        path = save_palette(indices, tmp_path / f"{name}.png", np.array(palette))
        assert BinaryMaskReader()(path, SIZE).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp"])
def test_binary_mask_whose_palette_says_the_opposite_is_refused(tmp_path: Path, suffix: str):
    swapped = save_palette(np.array([[0, 1]], np.uint8), tmp_path / f"a{suffix}", np.array([[255] * 3, [0] * 3]))
    expected = r"in its palette 0 is \[255, 255, 255\]; 1 is \[0, 0, 0\], so that its values and its colours contradict"
    with pytest.raises(DataError, match=expected):
        BinaryMaskReader()(swapped, SIZE)
    with pytest.raises(DataError, match=expected):
        MultilabelMaskReader(["road"])({"road": swapped}, SIZE)
    assert three_classes(swapped).tolist() == [[0, 1]]  # where the index is the class


def test_white_alone_is_not_taken_for_class_0(tmp_path: Path):
    path = save(np.full((2, 3), 255, np.uint8), tmp_path / "a.gif")  # Pillow makes it a palette of white
    with pytest.raises(DataError, match=r"a\.gif: in its palette 0 is \[255, 255, 255\], so that"):
        BinaryMaskReader()(path, SIZE)


@pytest.mark.parametrize(("values", "indices"), [([0, 2], "0, 1"), ([0, 1, 2, 255], "0, 1, 2, 3"), ([1], "0")])
def test_grey_mask_that_became_a_palette_is_refused_where_it_is_ambiguous(
    tmp_path: Path, values: list[int], indices: str
):
    path = save(np.array([values], np.uint8), tmp_path / "a.gif")  # Pillow numbers its greys anew
    shown = ", ".join(map(str, values))
    expected = (
        rf"a\.gif has the indices {indices} of a palette with the values {shown}, and both may be classes; save it"
    )
    with pytest.raises(DataError, match=expected):
        IndexMaskReader(4, 255)(path, SIZE)
    with pytest.raises(DataError, match=expected):
        IndexMaskReader(2, 255, dict.fromkeys([0, 1, 2, 3, 255], 1))(path, SIZE)


@pytest.mark.parametrize("greys", [[0, 255], [0, 100, 200], [255, 0], [0, 1, 9]])
def test_grey_palettes_that_only_make_classes_visible_are_passed_over(tmp_path: Path, greys: list[int]):
    indices = np.arange(len(greys), dtype=np.uint8)[None]
    path = save_palette(indices, tmp_path / "a.png", np.array(greys)[:, None].repeat(3, 1))
    assert three_classes(path).tolist() == indices.tolist()


def test_colours_are_classes(tmp_path: Path):
    colours = np.array([[[0, 0, 230], [128, 64, 128]], [[0, 0, 0], [70, 130, 180]]], np.uint8)
    read = ColorMaskReader(STREET, 254, [(0, 0, 0)])
    for path in (
        save(colours, tmp_path / "rgb.png"),
        save(colours, tmp_path / "rgb.tif"),
        save(colours, tmp_path / "rgb.bmp"),
        save(colours, tmp_path / "rgba.png", "RGBA"),
    ):
        assert read(path, SIZE).tolist() == [[1, 0], [254, 1]]
        assert read(path, SIZE).dtype == np.uint8


@pytest.mark.parametrize("seed", range(3))
def test_colours_against_a_dictionary(seed: int):
    rng = np.random.default_rng(seed)
    colours = [tuple(color) for color in rng.integers(0, 256, (40, 3)).tolist()]
    meaning = {color: index for index, color in enumerate(colours)}
    chosen = rng.integers(0, 40, (13, 9))
    read = ColorMaskReader(meaning, 255).classes_of(np.array(colours, np.uint8)[chosen], "a.png")
    np.testing.assert_array_equal(read, chosen)


@pytest.mark.parametrize("transparency", [{}, {"transparency": b"\x00"}])
def test_palette_mask_is_read_by_its_colours_where_classes_have_them(tmp_path: Path, transparency: dict[str, bytes]):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([0, 0, 0, 70, 130, 180, 128, 64, 128])
    image.save(tmp_path / "a.png", **transparency)
    assert ColorMaskReader(STREET, 255, [(0, 0, 0)])(tmp_path / "a.png", SIZE).tolist() == [[255, 1, 0]]


def test_grey_levels_are_colours_too(tmp_path: Path):
    read = ColorMaskReader({(0, 0, 0): 0, (255, 255, 255): 1}, 255)
    assert read(save(np.array([[0, 255]], np.uint8), tmp_path / "a.png"), SIZE).tolist() == [[0, 1]]
    assert read(save(np.array([[False, True]]), tmp_path / "b.png"), SIZE).tolist() == [[0, 1]]
    assert read(save(np.array([[0, 255]], np.uint8), tmp_path / "c.png", "LA"), SIZE).tolist() == [[0, 1]]


def test_stray_colours_are_named_with_the_most_frequent_first(tmp_path: Path):
    colours = [[1, 2, 3], [128, 64, 128], [255, 255, 255], [255, 255, 255], [128, 64, 129], [0, 0, 1]]
    path = save(np.array([colours], np.uint8), tmp_path / "a.png")
    expected = (
        r"a\.png holds colours that belong to no class: \[255, 255, 255\] \(2 pixels\), \[0, 0, 1\] \(1 pixels\), "
        r"\[1, 2, 3\] \(1 pixels\), \[128, 64, 129\] \(1 pixels\); give each a class in --data.classes, or .* ignore"
    )
    with pytest.raises(DataError, match=expected):
        ColorMaskReader(STREET, 255)(path, SIZE)


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_of_16_bits_are_refused(tmp_path: Path, write_png: WritePng, channels: int):
    path = write_png(tmp_path / "a.png", np.zeros((2, 2, channels), np.uint16), depth=16)
    with pytest.raises(DataError, match=rf"a\.png: {channels} channels of uint16 aren't the colours of a mask; save"):
        ColorMaskReader(STREET, 255)(path, SIZE)


def test_multilabel_masks_are_a_plane_a_class(tmp_path: Path):
    car = save(np.array([[0, 255, 255]], np.uint8), tmp_path / "car.png")
    road = save(np.array([[True, True, False]]), tmp_path / "road.png")
    read = MultilabelMaskReader(["road", "person", "car"])({"car": car, "road": road}, (1, 3))
    assert read.dtype == np.uint8
    assert read.tolist() == [[[1, 0, 0], [1, 0, 1], [0, 0, 1]]]


def test_image_without_any_class_has_the_size_of_the_image():
    read = MultilabelMaskReader(["road", "car"])({}, (5, 7))
    assert (read.shape, read.any()) == ((5, 7, 2), False)


def test_multilabel_masks_of_different_sizes_are_named(tmp_path: Path):
    car, road = (save(np.zeros(size, np.uint8), tmp_path / f"{size[0]}.png") for size in ((2, 3), (4, 3)))
    expected = r"the masks of an image must have one size \(width x height\): \S*2\.png is 3 x 2, \S*4\.png is 3 x 4"
    with pytest.raises(DataError, match=expected):
        MultilabelMaskReader(["road", "car"])({"car": car, "road": road}, (2, 3))


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: type(reader).__name__)
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jpg", "JPEG"),
        ("jpeg.png", "JPEG"),  # the suffix is no promise
        ("a.webp", "lossy WebP"),
        ("a.tif", "JPEG-compressed"),
        ("a.jp2", "JPEG 2000"),
    ],
)
def test_masks_whose_compression_changes_values_are_refused(tmp_path: Path, reader: object, name: str, kind: str):
    options = {"a.tif": {"compression": "jpeg"}, "jpeg.png": {"format": "JPEG"}}.get(name, {})
    path = save(np.zeros((16, 16), np.uint8), tmp_path / name, "RGB" if name == "a.webp" else None, **options)
    mask = {"road": path} if isinstance(reader, MultilabelMaskReader) else path
    with pytest.raises(DataError, match=rf"{name}: a {kind} mask, whose compression changes classes; save .* as PNG"):
        reader(mask, SIZE)


def test_masks_that_hold_no_indices_are_refused(tmp_path: Path):
    colours = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    for name, mode in {"a.png": None, "b.png": "RGBA"}.items():
        with pytest.raises(DataError, match=rf"{name}: a colour mask, and .* with --data.classes '{{road: .*save it"):
            three_classes(save(colours, tmp_path / name, mode))
    for dtype in (np.float32, np.float16, np.complex64):
        expected = rf"a\.tif: {np.dtype(dtype)} values aren't class indices; save the mask as an 8-bit PNG of one chann"
        with pytest.raises(DataError, match=expected):
            three_classes(save_tiff(np.ones((2, 2), dtype), tmp_path / "a.tif"))
    with pytest.raises(DataError, match=r"c\.tif: CMYK colours aren't exact; save the mask as an RGB or grey PNG"):
        three_classes(save(MASK, tmp_path / "c.tif", "CMYK"))
    with pytest.raises(DataError, match=r"w\.tif: .* its white is 0, so that its values may be meant either way"):
        three_classes(save_tiff(MASK, tmp_path / "w.tif", photometric="miniswhite"))
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=r"empty\.png: can't be read as an image: the file is empty"):
        three_classes(tmp_path / "empty.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder\.png: can't be read as an image: is a directory"):
        three_classes(tmp_path / "folder.png")


@pytest.mark.parametrize("reader", READERS[:3], ids=lambda reader: type(reader).__name__)
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_mask_that_is_drawn_in_alpha_alone_is_refused(tmp_path: Path, reader: object, mode: str):
    pixels = np.zeros((2, 3, len(mode)), np.uint8)
    pixels[0, 1, -1] = 255
    with pytest.raises(DataError, match=r"a\.png: it has one colour, and what it shows is in its alpha channel, which"):
        reader(save(pixels, tmp_path / "a.png"), SIZE)


def test_transparency_everywhere_is_no_drawing(tmp_path: Path):
    assert three_classes(save(np.zeros((2, 3, 4), np.uint8), tmp_path / "a.png")).tolist() == [[0] * 3] * 2


def test_mask_is_turned_like_its_image(tmp_path: Path, exif_bytes: Callable[[int], bytes]):
    path = save(np.array([[0, 1, 2]], np.uint8), tmp_path / "a.png", exif=exif_bytes(6))
    assert three_classes(path).tolist() == [[0], [1], [2]]


def test_mask_values_are_collected_whatever_they_mean(tmp_path: Path):
    assert mask_values(save(MASK, tmp_path / "a.png")) == {0, 1, 2, 255}
    assert mask_values(save(MASK > 1, tmp_path / "b.png")) == {0, 1}
    assert mask_values(save_tiff(MASK.astype(np.int16) - 5, tmp_path / "c.tif")) == {-5, -4, -3, 250}


def test_mask_colours_are_collected_unless_there_are_indices(tmp_path: Path):
    colours = np.array([[[255, 0, 1], [0, 255, 0], [0, 255, 0]]], np.uint8)
    assert mask_colors(save(colours, tmp_path / "a.png")) == {(255, 0, 1), (0, 255, 0)}
    assert mask_colors(save(colours, tmp_path / "b.png", "RGBA")) == {(255, 0, 1), (0, 255, 0)}
    assert mask_colors(save_palette(np.array([[0, 2]], np.uint8), tmp_path / "c.png")) == set()
    assert mask_colors(save(MASK, tmp_path / "d.png")) == set()


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: type(reader).__name__)
def test_readers_can_be_sent_to_a_worker(tmp_path: Path, reader: object):
    path = save(np.array([[7, 8]], np.uint8), tmp_path / "a.png")
    if isinstance(reader, IndexMaskReader):
        reader(path, SIZE)  # its table goes with it
    assert pickle.loads(pickle.dumps(reader)) == reader


def test_reading_warns_of_nothing(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        three_classes(save(MASK, tmp_path / "a.png"))
