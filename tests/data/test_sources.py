"""Pairs of files are read together, and must have one size."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetseg.data.coco import CocoMaskReader, Shapes
from unetseg.data.images import ImageReader
from unetseg.data.masks import BinaryMaskReader, IndexMaskReader, MultilabelMaskReader
from unetseg.data.sources import FileSource
from unetseg.data.splits import Sample
from unetseg.errors import DataError, ImageError

MASK = np.array([[0, 255, 7], [0, 0, 1]], np.uint8)


@pytest.fixture
def source(make_pairs: Callable[..., Path]) -> FileSource:
    """Pairs a and b."""
    root = make_pairs({"a": MASK, "b": MASK.T})
    samples = [Sample(name, root / f"images/{name}.png", root / f"masks/{name}.png") for name in "ab"]
    return FileSource(samples, ImageReader(), BinaryMaskReader())


def test_pairs_are_read(source: FileSource):
    image, mask, name = source.read(1)
    np.testing.assert_array_equal(image, ImageReader()(source.samples[1].image))
    np.testing.assert_array_equal(mask, MASK.T != 0)
    assert (len(source), name, source.name(1), source.size(1)) == (2, "b", "b", (3, 2))


def test_source_can_be_sent_to_a_worker(source: FileSource):
    sent = pickle.loads(pickle.dumps(source))
    assert sent == source
    for part, same in zip(sent.read(0), source.read(0), strict=True):
        np.testing.assert_array_equal(part, same)


def test_size_is_that_of_the_upright_image(source: FileSource, exif_bytes: Callable[[int], bytes]):
    Image.new("RGB", (7, 5)).save(source.samples[0].image, exif=exif_bytes(6))
    assert source.size(0) == (7, 5)


def test_faults_of_either_file_are_told(source: FileSource):
    source.samples[0].mask.write_bytes(b"")
    with pytest.raises(DataError, match=r"masks/a\.png: can't be read as an image: the file is empty"):
        source.read(0)
    source.samples[1].image.unlink()
    with pytest.raises(ImageError, match=r"images/b\.png: can't be read as an image: no such file"):
        source.read(1)
    with pytest.raises(ImageError, match=r"images/b\.png: can't be read as an image: no such file"):
        source.size(1)


def test_sizes_of_image_and_mask_must_agree(source: FileSource):
    Image.new("RGB", (5, 7)).save(source.samples[0].image)
    expected = r"images/a\.png is 5 x 7 pixels \(width x height\), but its mask \S*masks/a\.png is 3 x 2$"
    with pytest.raises(DataError, match=expected):
        source.read(0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_orientation_may_explain_another_size(tmp_path: Path, exif_bytes: Callable[[int], bytes], suffix: str):
    image, mask = tmp_path / f"turned{suffix}", tmp_path / "mask.png"
    if suffix == ".tif":  # of 16 bits, which Pillow can't open
        tag = (274, 3, 1, 8, True)
        tifffile.imwrite(image, np.zeros((5, 7, 3), np.uint16), photometric="rgb", extratags=[tag])
    else:
        Image.new("RGB", (7, 5)).save(image, exif=exif_bytes(8))
    Image.new("L", (7, 5)).save(mask)
    source = FileSource([Sample("a", image, mask)], ImageReader(), IndexMaskReader(2, 255))
    expected = r"is 5 x 7 .* is 7 x 5; the image has EXIF orientation 8, which was applied: was the mask drawn on"
    with pytest.raises(DataError, match=expected):
        source.read(0)


def test_masks_that_are_no_single_file_are_named_too(tmp_path: Path):
    Image.new("RGB", (5, 7)).save(tmp_path / "a.png")
    Image.new("L", (7, 5)).save(tmp_path / "road.png")
    multilabel = Sample("a", tmp_path / "a.png", {"road": tmp_path / "road.png"})
    with pytest.raises(DataError, match=r"a\.png is 5 x 7 .* but its mask \S*road\.png is 7 x 5$"):
        FileSource([multilabel], ImageReader(), MultilabelMaskReader(["road", "car"])).read(0)
    coco = Sample("a", tmp_path / "a.png", Shapes((5, 7), (), "coco.json, image a.png"))
    with pytest.raises(DataError, match=r"a\.png is 5 x 7 .* but its mask \(coco\.json, image a\.png\) is 7 x 5$"):
        FileSource([coco], ImageReader(), CocoMaskReader(["background", "road"])).read(0)


def test_multilabel_pair_without_any_mask(tmp_path: Path):
    Image.new("RGB", (5, 7)).save(tmp_path / "a.png")
    source = FileSource([Sample("a", tmp_path / "a.png", {})], ImageReader(), MultilabelMaskReader(["road", "car"]))
    assert source.read(0)[1].shape == (7, 5, 2)
