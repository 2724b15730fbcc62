"""What comes from memory is what was read, was read once, and is there for every worker."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Sampler

from unetseg.data.cache import CachedSource
from unetseg.data.dataset import SegmentationDataset, collate
from unetseg.data.images import ImageReader
from unetseg.data.masks import IndexMaskReader, MultilabelMaskReader
from unetseg.data.sources import FileSource, Pair
from unetseg.data.splits import Sample
from unetseg.errors import DataError, ImageError

MakePairs = Callable[..., Path]

SIZES = [(7, 5), (3, 9), (7, 5), (1, 1), (8, 6)]


class Counted:
    """Pairs in memory, of odd sizes, and how often each was read by any process."""

    def __init__(self, dtypes: list[type], channels: int = 3, planes: int = 0) -> None:
        rng = np.random.default_rng(0)
        self.pairs: list[Pair] = []
        for i, (size, dtype) in enumerate(zip(SIZES, dtypes, strict=True)):
            image = rng.integers(0, 256, (*size, channels)).astype(dtype) / dtype(255 if dtype == np.float32 else 1)
            mask = rng.integers(0, 3, (*size, planes) if planes else size, dtype=np.uint8)
            self.pairs.append((image.astype(dtype), mask, f"pair {i}"))
        self.reads = torch.zeros(len(SIZES), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.pairs[index][2]

    def size(self, index: int) -> tuple[int, int]:
        return self.pairs[index][1].shape[:2]

    def read(self, index: int) -> Pair:
        self.reads[index] += 1
        return self.pairs[index]

    def num_bytes(self, index: int) -> int:
        image, mask, _ = self.pairs[index]
        return image.nbytes + mask.nbytes


class NewOrder(Sampler[int]):
    """All numbers, one further in each epoch, so that they come to the other of two workers, too."""

    def __init__(self, length: int) -> None:
        self.length, self.epoch = length, 0

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        return iter(np.roll(np.arange(self.length), self.epoch).tolist())

    def __len__(self) -> int:
        return self.length


def assert_same(pair: Pair, expected: Pair) -> None:
    for part, same in zip(pair[:2], expected[:2], strict=True):
        assert part.dtype == same.dtype
        np.testing.assert_array_equal(part, same, strict=True)
    assert pair[2] == expected[2]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("channels", "planes"), [(3, 0), (1, 0), (5, 4), (3, 1)])
def test_pairs_are_bit_identical_and_read_once(dtype: type, channels: int, planes: int):
    source = Counted([dtype] * len(SIZES), channels, planes)
    cached = CachedSource(source, 10**6)
    assert (len(cached), cached.num_cached) == (len(SIZES), len(SIZES))
    assert cached.num_bytes == sum(map(source.num_bytes, range(len(SIZES))))
    for _ in range(3):
        for index, expected in enumerate(source.pairs):
            assert_same(cached.read(index), expected)
            assert (cached.name(index), cached.size(index)) == (source.name(index), source.size(index))
    assert source.reads.tolist() == [1] * len(SIZES)


def test_what_is_done_to_a_pair_does_not_reach_the_memory():
    source = Counted([np.uint8] * len(SIZES))
    cached = CachedSource(source, 10**6)
    for _ in range(2):
        image, mask, _ = cached.read(0)
        image[:], mask[:] = 0, 9
    assert_same(cached.read(0), Counted([np.uint8] * len(SIZES)).pairs[0])


@pytest.mark.parametrize("spare", [-1, 0, 1])
@pytest.mark.parametrize("fitting", range(1, len(SIZES)))
def test_bound_is_kept(fitting: int, spare: int):
    source = Counted([np.uint8] * len(SIZES))
    bound = sum(map(source.num_bytes, range(fitting))) + spare
    cached = CachedSource(source, bound)
    assert cached.num_cached == (fitting - 1 if spare < 0 else fitting)
    assert cached.num_bytes <= bound
    for _ in range(3):
        for index, expected in enumerate(source.pairs):
            assert_same(cached.read(index), expected)
    assert source.reads[: cached.num_cached].tolist() == [1] * cached.num_cached
    others = source.reads[cached.num_cached :].tolist()
    assert others == [4 if index == cached.num_cached == 0 else 3 for index in range(len(others))]


def test_no_pair_may_fit():
    source = Counted([np.uint8] * len(SIZES))
    cached = CachedSource(source, 1)
    assert (cached.num_cached, cached.num_bytes) == (0, 0)
    assert_same(pickle.loads(pickle.dumps(cached)).read(0), source.pairs[0])


@pytest.mark.parametrize(("first", "others"), [(np.uint8, np.float32), (np.float32, np.uint8)])
def test_images_may_be_of_another_type_than_the_first(first: type, others: type):
    source = Counted([first, others, first, others, first])
    cached = CachedSource(source, 10**6)
    for _ in range(3):
        for index, expected in enumerate(source.pairs):
            assert_same(cached.read(index), expected)
    too_large = first == np.uint8  # for the room that was left
    assert source.reads.tolist() == ([1, 3, 1, 3, 1] if too_large else [1] * 5)


def test_read_is_counted_through_forked_workers():
    source = Counted([np.uint8] * len(SIZES))
    dataset = SegmentationDataset(CachedSource(source, 10**6))
    for _ in range(3):  # epochs of new workers
        loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
        for item, (image, mask, name) in zip(loader, source.pairs, strict=True):
            np.testing.assert_array_equal(item["image"].numpy().transpose(1, 2, 0), image)
            np.testing.assert_array_equal(item["mask"].numpy(), mask)
            assert item["name"] == name
    assert source.reads.tolist() == [1] * len(SIZES)


@pytest.mark.parametrize(
    ("context", "multilabel"), [("fork", False), pytest.param("spawn", True, marks=pytest.mark.slow)]
)
def test_what_one_worker_has_read_is_there_for_all(make_pairs: MakePairs, context: str, multilabel: bool):
    root = make_pairs([*"abcde"])
    masks = [root / f"masks/{name}.png" for name in "abcde"]
    samples = [Sample(mask.stem, root / f"images/{mask.name}", {"car": mask} if multilabel else mask) for mask in masks]
    reader = MultilabelMaskReader(["road", "car"]) if multilabel else IndexMaskReader(2, 255)
    source = FileSource(samples, ImageReader(max_value=200 if multilabel else None), reader)
    pairs = SegmentationDataset(source)
    expected = {item["name"]: item for item in map(pairs.__getitem__, range(5))}
    cached = CachedSource(source, 10**6)
    masks[0].unlink()  # the first was read
    loader = DataLoader(
        SegmentationDataset(cached),
        batch_size=2,
        sampler=NewOrder(5),
        collate_fn=collate,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context=context,
    )
    for _ in range(3):
        batches = list(loader)
        assert sorted(name for batch in batches for name in batch["name"]) == [*"abcde"]
        for batch in batches:
            for image, mask, name in zip(batch["image"], batch["mask"], batch["name"], strict=True):
                assert image.dtype == (torch.float32 if multilabel else torch.uint8)
                assert torch.equal(image, expected[name]["image"])
                assert torch.equal(mask, expected[name]["mask"])
        for path in masks:
            path.unlink(missing_ok=True)


def test_lack_of_shared_memory_is_named(monkeypatch: pytest.MonkeyPatch):
    def refuse(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    source = Counted([np.uint8] * len(SIZES))
    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    expected = r"--data\.cache_gb: the system has no 0\.0 GB of shared memory; give less, .* \(in Docker, --shm-size\)"
    with pytest.raises(DataError, match=expected):
        CachedSource(source, 10**6)


def test_faults_of_the_source_are_told(make_pairs: MakePairs):
    root = make_pairs(["a", "b"])
    samples = [Sample(name, root / f"images/{name}.png", root / f"masks/{name}.png") for name in "ab"]
    source = FileSource(samples, ImageReader(), IndexMaskReader(2, 255))
    (root / "images/b.png").unlink()
    with pytest.raises(ImageError, match=r"b\.png: can't be read as an image: no such file"):
        CachedSource(source, 10**6)
