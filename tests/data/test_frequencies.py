"""Counts of tiny masks are those of a hand, wherever the masks are, and the weights follow from them."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetseg.data.built_in import SceneSource
from unetseg.data.cache import CachedSource
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.data.frequencies import ClassFrequencies, count_classes, median_frequency_weights, value_counts
from unetseg.data.images import ImageReader
from unetseg.data.masks import IndexMaskReader, MultilabelMaskReader
from unetseg.data.shard_writer import write_shards
from unetseg.data.shards import ShardSource
from unetseg.data.sources import FileSource, Source
from unetseg.data.splits import Sample
from unetseg.data.synthetic import CLASSES, SyntheticScenes
from unetseg.errors import DataError, ImageError

MakePairs = Callable[..., Path]

# class 3 nowhere, and a mask that is ignored whole
MASKS = {
    "a": np.array([[0, 0, 0], [0, 1, 255]], np.uint8),
    "b": np.array([[0, 2], [2, 2], [0, 255]], np.uint8),
    "c": np.array([[255, 255]], np.uint8),
}
PIXELS = [4 + 2, 1, 3, 0]
BESIDE = [5 + 5, 5, 5, 0]
FREQUENCIES = [6 / 10, 1 / 5, 3 / 5]
WEIGHTS = [0.6 / frequency for frequency in FREQUENCIES] + [1.0]


@pytest.fixture
def root(make_pairs: MakePairs) -> Path:
    folder = make_pairs(MASKS)
    (folder / "train.txt").write_text("a\nb\nc")
    Image.new("RGB", (1, 1)).save(folder / "images/d.png")
    Image.new("L", (1, 1)).save(folder / "masks/d.png")
    (folder / "val.txt").write_text("d")
    return folder


def files(root: Path) -> FileSource:
    samples = [Sample(name, root / f"images/{name}.png", root / f"masks/{name}.png") for name in MASKS]
    return FileSource(samples, ImageReader(), IndexMaskReader(4, 255))


def counts(source: Source, num_classes: int, ignore_index: int = 255) -> tuple[list[int], list[int]]:
    frequencies = count_classes(source, num_classes, ignore_index)
    return frequencies.pixels.tolist(), frequencies.pixels_beside.tolist()


def test_pixels_are_counted_in_files_shards_and_memory(root: Path, tmp_path: Path):
    source = files(root)
    write_shards({"train": source}, tmp_path / "s", {})
    for same in (source, ShardSource(tmp_path / "s", "train", ImageReader()), CachedSource(source, 10**6)):
        assert counts(same, 4) == (PIXELS, BESIDE)
        assert counts(pickle.loads(pickle.dumps(same)), 4) == (PIXELS, BESIDE)


def test_scenes_are_counted():
    scenes = SceneSource(SyntheticScenes(3, seed=0))
    masks = [scenes.read(index)[1] for index in range(3)]
    pixels = [sum(int((mask == index).sum()) for mask in masks) for index in range(len(CLASSES))]
    beside = [sum(mask.size for mask in masks if (mask == index).any()) for index in range(len(CLASSES))]
    assert counts(scenes, len(CLASSES)) == (pixels, beside)


@pytest.mark.parametrize("ignore_index", [255, 1])
def test_a_class_that_is_ignored_does_not_count(root: Path, ignore_index: int):
    source = FileSource(files(root).samples[:2], ImageReader(), IndexMaskReader(3, 255))
    expected = ([6, 1, 3], [10, 5, 5]) if ignore_index == 255 else ([6, 0, 3], [4 + 1 + 6, 0, 6])
    assert counts(source, 3, ignore_index) == expected


def test_each_class_of_several_is_counted_by_itself(tmp_path: Path):
    planes = {"road": [[9, 0, 0], [0, 0, 0]], "car": [[1, 1, 0], [1, 0, 0]]}
    for name, plane in planes.items():
        Image.fromarray(np.array(plane, np.uint8)).save(tmp_path / f"{name}.png")
    Image.new("RGB", (3, 2)).save(tmp_path / "image.png")
    files = {name: tmp_path / f"{name}.png" for name in planes}
    samples = [Sample("a", tmp_path / "image.png", files), Sample("b", tmp_path / "image.png", {"car": files["car"]})]
    source = FileSource(samples, ImageReader(), MultilabelMaskReader(["road", "car", "sky"]))
    write_shards({"train": source}, tmp_path / "s", {})
    for same in (source, ShardSource(tmp_path / "s", "train", ImageReader())):
        assert counts(same, 3) == ([1, 6, 0], [6, 12, 0])
        np.testing.assert_array_equal(same.read_mask(0), same.read(0)[1], strict=True)


class Ignoring:
    """One multilabel mask with unknown pixels."""

    def __len__(self) -> int:
        return 1

    def read_mask(self, index: int) -> np.ndarray:
        return np.array([[[1, 9], [0, 9], [9, 1]]], np.uint8)


def test_ignored_pixels_of_several_classes():
    assert counts(Ignoring(), 2, ignore_index=9) == ([1, 1], [2, 1])  # type: ignore[arg-type]


def test_images_are_not_decoded(root: Path):
    def refuse(path: Path) -> None:
        raise AssertionError(path)

    source = files(root)
    assert counts(FileSource(source.samples, refuse, source.mask_reader), 4) == (PIXELS, BESIDE)  # type: ignore[arg-type]


def test_faults_are_those_of_reading(root: Path):
    Image.new("L", (9, 9)).save(root / "masks/b.png")
    with pytest.raises(DataError, match=r"b\.png is 2 x 3 .* but its mask \S*b\.png is 9 x 9"):
        counts(files(root), 4)
    (root / "images/a.png").unlink()
    with pytest.raises(ImageError, match=r"a\.png: can't be read as an image: no such file"):
        counts(files(root), 4)


def test_more_masks_than_are_waited_for(root: Path):
    source = files(root)
    many = FileSource([*source.samples] * 700, source.image_reader, source.mask_reader)
    assert counts(many, 4) == ([700 * n for n in PIXELS], [700 * n for n in BESIDE])


def test_large_masks_are_counted_to_the_last_pixel():
    values = np.random.default_rng(0).integers(0, 256, (1031, 2053), np.uint8)
    np.testing.assert_array_equal(value_counts(values), np.bincount(values.ravel(), minlength=256))


def test_weights_balance_the_median():
    weights = median_frequency_weights(ClassFrequencies(np.array(PIXELS), np.array(BESIDE)))
    assert weights == pytest.approx(WEIGHTS)
    assert all(type(weight) is float for weight in weights)


def test_of_an_even_number_the_median_is_between():
    assert median_frequency_weights(ClassFrequencies(np.array([1, 3]), np.array([4, 4]))) == pytest.approx([2, 2 / 3])


def test_nothing_to_weigh():
    nothing = np.zeros(3, np.int64)
    assert median_frequency_weights(ClassFrequencies(nothing, nothing)) == [1, 1, 1]


def test_the_data_module_weighs_its_classes(root: Path, tmp_path: Path):
    data = SegmentationDataModule(str(root), ["w", "x", "y", "z"], cache_gb=0.001)
    assert data.class_weights() == pytest.approx(WEIGHTS)
    data.setup("fit")
    assert data.class_weights() == pytest.approx(WEIGHTS)
    write_shards(data.sources, tmp_path / "s", data.shard_settings)
    assert SegmentationDataModule(shards=str(tmp_path / "s")).class_weights() == pytest.approx(WEIGHTS)
    assert len(SegmentationDataModule(synthetic_length=2).class_weights()) == len(CLASSES)


def test_two_classes_have_two_weights_whatever_the_mode(make_pairs: MakePairs):
    root = make_pairs({name: np.array([[0, 0, 0, 1]], np.uint8) for name in "ab"})
    (root / "train.txt").write_text("a")
    (root / "val.txt").write_text("b")
    for mode in ("binary", "multiclass"):
        data = SegmentationDataModule(str(root), ["ground", "cell"], mode=mode)
        assert data.class_weights() == pytest.approx([0.5 / 0.75, 2])
