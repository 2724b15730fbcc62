"""What goes into shards comes out of them bit for bit, and what can go wrong is told."""

import json
import pickle
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from litdata import StreamingDataset
from PIL import Image
from torch.utils.data import DataLoader

from unetseg.data.built_in import SceneSource
from unetseg.data.dataset import SegmentationDataset, collate
from unetseg.data.images import ImageReader
from unetseg.data.masks import IndexMaskReader, MaskReader, MultilabelMaskReader
from unetseg.data.shard_writer import write_shards
from unetseg.data.shards import ShardSource, read_shards
from unetseg.data.sources import FileSource, Source
from unetseg.data.splits import Sample, Split
from unetseg.data.synthetic import SyntheticScenes
from unetseg.errors import DataError, ImageError

SMALL = 0.002  # MiB: a few of these pairs in a shard


def save_jpeg(path: Path, rng: np.random.Generator, size: tuple[int, int]) -> None:
    Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path.with_suffix(".jpg"))


def save_16_bit(path: Path, rng: np.random.Generator, size: tuple[int, int]) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), rng.integers(0, 65536, (*size, 4), np.uint16), planarconfig="contig")


def make_files(
    folder: Path,
    count: int,
    *,
    save: Callable[[Path, np.random.Generator, tuple[int, int]], None] = save_jpeg,
    reader: ImageReader = ImageReader(),  # noqa: B008 - frozen
    classes: list[str] | None = None,
) -> FileSource:
    """Write pairs of as many sizes; masks of classes 0, 1 and ignored pixels, or of several classes a pixel."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    samples = []
    for index in range(count):
        path, size = folder / f"{index}.png", (11 + index, 25 - index)
        save(path, rng, size)
        masks = {name: folder / f"{index}_{name}.png" for name in classes or ["mask"]}
        for file in masks.values():
            Image.fromarray(rng.choice(np.array([0, 1] if classes else [0, 1, 255], np.uint8), size)).save(file)
        image = next(file for file in folder.glob(f"{index}.*"))
        samples.append(Sample(f"größe/{index}", image, masks if classes else masks["mask"]))
    mask_reader: MaskReader = MultilabelMaskReader(classes) if classes else IndexMaskReader(2, 255)
    return FileSource(samples, reader, mask_reader)


def check_equal(shards: ShardSource, source: Source) -> None:
    """Compare all pairs, by name."""
    assert len(shards) == len(source)
    numbers = {source.name(index): index for index in range(len(source))}
    for index in range(len(shards)):
        (image, mask, name), expected = shards.read(index), source.read(numbers[shards.name(index)])
        np.testing.assert_array_equal(image, expected[0], strict=True)
        np.testing.assert_array_equal(mask, expected[1], strict=True)
        assert name == expected[2]
        assert shards.size(index) == mask.shape[:2]


@pytest.mark.parametrize(
    ("save", "reader", "classes"),
    [
        (save_jpeg, ImageReader(), None),
        (save_16_bit, ImageReader(4, max_value=9000), None),
        (save_jpeg, ImageReader(), ["wall"]),
        (save_jpeg, ImageReader(1), ["wall", "roof", "door"]),
    ],
    ids=["jpeg", "16-bit", "one label", "multilabel"],
)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_pairs_come_back_bit_for_bit(
    tmp_path: Path, save: Any, reader: ImageReader, classes: list[str] | None, num_workers: int
):
    train = make_files(tmp_path / "a", 7, save=save, reader=reader, classes=classes)
    val = make_files(tmp_path / "b", 2, save=save, reader=reader, classes=classes)
    write_shards({"train": train, "val": val}, tmp_path / "s", {"x": 1}, num_workers=num_workers, shard_mb=SMALL)
    splits: Mapping[Split, FileSource] = {"train": train, "val": val}
    for split, source in splits.items():
        check_equal(ShardSource(tmp_path / "s", split, reader), source)
    assert len(ShardSource(tmp_path / "s", "train", reader).shard_sizes) > 1


def test_scenes_come_back_bit_for_bit(tmp_path: Path):
    scenes = SceneSource(SyntheticScenes(3, seed=1))
    write_shards({"test": scenes}, tmp_path / "s", {})
    check_equal(ShardSource(tmp_path / "s", "test", ImageReader()), scenes)


def test_ignored_pixels_of_multilabel_masks_stay(tmp_path: Path):
    class Ignoring:
        def __len__(self) -> int:
            return 1

        def name(self, index: int) -> str:
            return "a"

        def size(self, index: int) -> tuple[int, int]:
            return 4, 3

        def read(self, index: int) -> tuple[np.ndarray, np.ndarray, str]:
            mask = np.arange(24).reshape(4, 3, 2) % 3
            return np.full((4, 3, 1), 7, np.uint8), np.where(mask == 2, 255, mask).astype(np.uint8), "a"

    write_shards({"val": Ignoring()}, tmp_path / "s", {})
    check_equal(ShardSource(tmp_path / "s", "val", ImageReader(1)), Ignoring())


def test_shards_are_plain_litdata_with_the_files_as_they_were(tmp_path: Path):
    source = make_files(tmp_path / "a", 3)
    write_shards({"val": source}, tmp_path / "s", {})
    stored = StreamingDataset(str(tmp_path / "s/val"))
    for index, sample in enumerate(source.samples):
        name, image, mask = stored[index]
        assert (name, bytes(image)) == (sample.name, sample.image.read_bytes())
        decoded = cv2.imdecode(np.frombuffer(bytes(mask), np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(decoded, source.read(index)[1])


def test_only_training_pairs_are_shuffled(tmp_path: Path):
    source = make_files(tmp_path / "a", 9)
    write_shards({"train": source, "val": source}, tmp_path / "s", {})
    train, val = ([*map(part.name, range(9))] for part in both(tmp_path / "s"))
    assert val == [*map(source.name, range(9))]
    assert train != val
    assert sorted(train) == sorted(val)


def both(folder: Path) -> list[ShardSource]:
    return [ShardSource(folder, split, ImageReader()) for split in ("train", "val")]


def test_a_folder_of_shards_tells_of_itself_without_litdata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = make_files(tmp_path / "a", 2)
    settings = {"classes": ["a", "b"], "max_value": None}
    write_shards({"val": source, "train": source}, tmp_path / "s", settings)
    monkeypatch.setitem(sys.modules, "litdata", None)
    shards = read_shards(tmp_path / "s")
    assert (shards.settings, list(shards.lengths.items())) == (settings, [("train", 2), ("val", 2)])


def test_reading_writes_no_file_and_asks_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_shards({"val": make_files(tmp_path / "a", 3)}, tmp_path / "s", {})
    before = sorted(tmp_path.rglob("*"))
    source = ShardSource(tmp_path / "s", "val", ImageReader())
    assert [source.read(index)[2] for index in (2, 0, 1)] == ["größe/2", "größe/0", "größe/1"]
    assert sorted(tmp_path.rglob("*")) == before


def test_workers_read_the_same_after_the_main_process_has_read(tmp_path: Path):
    """Forked processes would share the position in an open file."""
    write_shards({"val": make_files(tmp_path / "a", 12)}, tmp_path / "s", {}, shard_mb=SMALL)
    source = ShardSource(tmp_path / "s", "val", ImageReader())
    read = [source.read(index) for index in range(12)]
    loader = DataLoader(SegmentationDataset(source), collate_fn=collate, num_workers=2)
    for batch, (image, mask, name) in zip(loader, read, strict=True):
        assert batch["name"] == [name]
        np.testing.assert_array_equal(batch["image"][0].permute(1, 2, 0), image)
        np.testing.assert_array_equal(batch["mask"][0], mask)
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.read(5)[0], read[5][0])
    assert again.size(5) == source.size(5)


def test_numbers_that_there_are_not_are_refused(tmp_path: Path):
    write_shards({"val": make_files(tmp_path / "a", 2)}, tmp_path / "s", {})
    source = ShardSource(tmp_path / "s", "val", ImageReader())
    for index in (-1, 2):
        with pytest.raises(IndexError, match=f"pair {index}: there are 2"):
            source.read(index)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_pair_stops_and_leaves_nothing_behind(tmp_path: Path, num_workers: int):
    source = make_files(tmp_path / "a", 6)
    source.samples[4].image.write_bytes(b"")
    with pytest.raises(ImageError, match=r"^\S*/a/4\.jpg: can't be read as an image: the file is empty$"):
        write_shards({"val": source}, tmp_path / "s", {}, num_workers=num_workers, shard_mb=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(self: FileSource, index: int) -> None:
        raise KeyboardInterrupt

    source = make_files(tmp_path / "a", 2)
    (tmp_path / "s").mkdir()
    monkeypatch.setattr(FileSource, "read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_shards({"val": source}, tmp_path / "s", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "s"]
    assert not list((tmp_path / "s").iterdir())


def test_an_empty_folder_is_filled_and_a_new_ones_parents_are_made(tmp_path: Path):
    source = make_files(tmp_path / "a", 2)
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "empty", tmp_path / "new/er/s"):
        write_shards({"val": source}, output, {})
        assert sorted(path.name for path in output.iterdir()) == ["unetseg.json", "val"]
        assert [path.name for path in output.parent.iterdir() if path.name.startswith(".")] == []


def test_outputs_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = make_files(tmp_path / "a", 1)
    with pytest.raises(DataError, match=r"/a exists and isn't empty; name a new folder for the shards, or remove"):
        write_shards({"val": source}, tmp_path / "a", {})
    with pytest.raises(DataError, match=r"0\.jpg is a file; name a new folder"):
        write_shards({"val": source}, tmp_path / "a/0.jpg", {})
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "disk")
    with pytest.raises(DataError, match="is where a disk is mounted; name a new folder in it"):
        write_shards({"val": source}, tmp_path / "disk", {})


def test_wrong_arguments_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = make_files(tmp_path / "a", 1)
    for size in (0, 2000):
        with pytest.raises(DataError, match=f"shard_mb {size}: must be above 0 and at most 1024"):
            write_shards({"val": source}, tmp_path / "s", {}, shard_mb=size)
    with pytest.raises(DataError, match="the val split has no pairs"):
        write_shards({"val": make_files(tmp_path / "b", 0)}, tmp_path / "s", {})
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(DataError, match="by one process, and this is one of 8; start it without torchrun"):
        write_shards({"val": source}, tmp_path / "s", {})


def test_images_without_a_file_must_fit_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scenes = SceneSource(SyntheticScenes(1, seed=1))
    deep = np.zeros((4, 4, 5), np.float32)
    monkeypatch.setattr(SceneSource, "read", lambda self, index: (deep, np.zeros((4, 4), np.uint8), "00000"))
    with pytest.raises(DataError, match="00000: float32 of 5 channels; without a file, only 8-bit grey or RGB"):
        write_shards({"val": scenes}, tmp_path / "s", {})


def test_masks_beyond_a_png_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("unetseg.data.shard_writer._MOST_ROWS", 20)
    source = make_files(tmp_path / "a", 1, classes=["wall", "roof"])
    with pytest.raises(DataError, match="größe/0: masks of 550 pixels are too many for a pair in shards; cut it"):
        write_shards({"val": source}, tmp_path / "s", {})


def test_without_litdata_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = make_files(tmp_path / "a", 1)
    write_shards({"val": source}, tmp_path / "s", {})
    monkeypatch.setitem(sys.modules, "litdata", None)
    message = r"shards need LitData: pip install 'litdata>=[\d.]+', or -e '\.\[shards\]' in a clone"
    with pytest.raises(DataError, match=message):
        write_shards({"val": source}, tmp_path / "t", {})
    with pytest.raises(DataError, match=message):
        ShardSource(tmp_path / "s", "val", ImageReader())


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Shards of six pairs for validation, several of them."""
    write_shards({"val": make_files(tmp_path / "a", 6)}, tmp_path / "s", {}, shard_mb=SMALL)
    return tmp_path / "s"


def error_of(folder: Path, split: Split = "val") -> str:
    def read_all() -> None:
        read_shards(folder)
        source = ShardSource(folder, split, ImageReader())
        for index in range(len(source)):
            source.read(index)

    with pytest.raises(DataError) as caught:
        read_all()
    return str(caught.value)


def test_folders_that_are_no_shards_are_told(shards: Path):
    assert "/none: there is no such folder; python -m unetseg pack" in error_of(shards / "none")
    assert "/val is no folder of shards, for it has no unetseg.json" in error_of(shards / "val")
    assert "/s has no test split in shards" in error_of(shards, "test")
    about = json.loads((shards / "unetseg.json").read_text())
    (shards / "unetseg.json").write_text(json.dumps(about | {"format": 2}))
    assert "/s has shards of format 2, and this version reads 1; pack the data again" in error_of(shards)
    (shards / "unetseg.json").write_text("{")
    assert "unetseg.json can't be read: Expecting property name" in error_of(shards)


@pytest.mark.parametrize("harm", ["missing", "cut short"])
def test_incomplete_shards_are_told_before_training(shards: Path, harm: str):
    shard = shards / "val/chunk-0-1.bin"
    if harm == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-1])
    count = len(list((shards / "val").glob("*.bin"))) + (harm == "missing")
    said = f"1 of {count} shards are missing or cut short (first: chunk-0-1.bin); copy the folder again"
    assert said in error_of(shards)


def test_damaged_shards_are_told(shards: Path):
    (shards / "val/index.json").rename(shards / "index")
    assert "val/index.json can't be read: [Errno 2]" in error_of(shards)
    (shards / "index").rename(shards / "val/index.json")
    shard = shards / "val/chunk-0-0.bin"
    content = shard.read_bytes()
    shard.write_bytes(bytes(len(content)))
    assert "val: the shard of pair 0 can't be read: " in error_of(shards)
    shard.write_bytes(content.replace(b"\x89PNG", b"\x89PNX"))
    assert "größe/0 in " in (said := error_of(shards))
    assert said.endswith("/val: its mask is damaged; copy the folder again")
    np.save(shards / "val/pairs.npy", np.load(shards / "val/pairs.npy")[1:])
    assert "index.json has 6 pairs and pairs.npy 5" in error_of(shards)
    (shards / "val/pairs.npy").write_bytes(b"")
    assert "pairs.npy can't be read: " in error_of(shards)


def test_a_reader_of_other_channels_names_the_pair(shards: Path):
    source = ShardSource(shards, "val", ImageReader(4))
    with pytest.raises(ImageError, match=r"größe/0 in \S+/s/val has 3 channels, and 4 are wanted"):
        source.read(0)
