"""Checking any source of pairs, not only files."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from unetseg.checking import Report, check_sources
from unetseg.checking.pair import Moments
from unetseg.data.images import Pixels
from unetseg.data.labels import parse_labels
from unetseg.data.sources import Pair
from unetseg.data.splits import Split
from unetseg.errors import DataError


@dataclass
class Listed:
    """Pairs in memory, which count how often they are read, and can't be read by two threads at once."""

    pairs: list[tuple[Pixels, NDArray[np.uint8]]]
    failing: tuple[int, ...] = ()
    reads: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return f"shard/{index}"

    def size(self, index: int) -> tuple[int, int]:
        raise AssertionError("no header is needed")

    def read(self, index: int) -> Pair:
        assert self.lock.acquire(blocking=False), "two threads read at once"
        self.reads += 1
        time.sleep(0.001)
        self.lock.release()
        if index in self.failing:
            raise DataError("its bytes are damaged")
        return *self.pairs[index], self.name(index)


def pictures(count: int, seed: int, shape: tuple[int, ...] = (7, 9)) -> Listed:
    rng = np.random.default_rng(seed)
    return Listed(
        [
            (rng.integers(0, 256, (7, 9, 3), dtype=np.uint8), rng.integers(0, 2, shape, dtype=np.uint8))
            for _ in range(count)
        ]
    )


def check(sources: Mapping[Split, Listed]) -> Report:
    return check_sources(sources, parse_labels(["ground", "leaf"]))


def test_pairs_that_are_no_files_are_named_by_split() -> None:
    train, val = pictures(3, 0), pictures(2, 1)
    train.failing = (1,)
    val.pairs[1] = (val.pairs[1][0], np.full((7, 9), 4, np.uint8))
    val.pairs[0] = train.pairs[0]
    reasons = {finding.kind: finding.reason for finding in check({"train": train, "val": val}).problems}
    assert reasons == {
        "unreadable": "train/shard/1: its bytes are damaged",
        "stray_values": "the mask of val/shard/1 holds the values 4; it may hold 0..1 and 255 (ignored)",
        "shared_between_splits": "train/shard/0, val/shard/0: the same image, and the same mask",
    }


def test_ignored_pixels_of_multilabel_masks_count_for_their_class_alone() -> None:
    train = pictures(2, 0, (7, 9, 2))
    train.pairs[0][1][:3, :, 1] = 255
    train.pairs[1][1][...] = 255
    labels = parse_labels(["left", "right"], mask_format="multilabel")
    report = check_sources({"train": train, "val": pictures(1, 1, (7, 9, 2))}, labels)
    left, right = report.splits["train"].classes
    mask = train.pairs[0][1]
    assert (left.pixels, left.share) == ((mask[..., 0] == 1).sum(), (mask[..., 0] == 1).mean())
    assert right.share == (mask[3:, :, 1] == 1).mean()
    assert report.splits["train"].ignored_share == (2 * 63 + 27) / (4 * 63)
    assert [finding.kind for finding in report.warnings] == ["ignored_mask"]


def test_a_class_number_may_be_ignored() -> None:
    train = pictures(2, 0)
    report = check_sources({"train": train, "val": pictures(1, 1)}, parse_labels(["ground", "leaf"], ignore_index=0))
    assert report.splits["train"].classes[0].pixels == 0
    assert report.splits["train"].classes[1].share == 1


def test_grey_levels_and_fractions_go_together() -> None:
    train = pictures(3, 0)
    rng = np.random.default_rng(5)
    train.pairs[1] = (rng.random((7, 9, 3), np.float32), train.pairs[1][1])
    report = check({"train": train, "val": pictures(1, 1)})
    values = np.concatenate(
        [
            (image if image.dtype == np.float32 else image / 255).reshape(-1, 3).astype(np.float64)
            for image, _ in train.pairs
        ]
    )
    np.testing.assert_allclose(report.mean or [], values.mean(0), rtol=1e-13)
    np.testing.assert_allclose(report.std or [], values.std(0), rtol=1e-13)


def test_a_small_deviation_of_large_values_is_not_lost() -> None:
    image = np.full((50, 50, 1), 0.75, np.float32)
    image[::2] += np.float32(2**-20)
    assert Moments.of(image).std == pytest.approx([2**-21], rel=1e-9)


def test_nothing_that_can_be_read() -> None:
    train, val = pictures(1, 0), pictures(1, 1)
    train.failing = val.failing = (0,)
    report = check({"train": train, "val": val})
    assert (report.mean, report.std, report.value_range) == (None, None, None)
    assert report.splits["train"].classes[0].share is None
    assert report.splits["train"].ignored_share is None
    assert len(report.problems) == 2
    assert report.warnings == []


@pytest.mark.parametrize("num_threads", [1, 3])
def test_nothing_runs_far_ahead_nor_on_after_an_interrupt(num_threads: int) -> None:
    train = pictures(100, 0)
    seen = 0

    def on_pair() -> None:
        nonlocal seen
        seen += 1
        assert train.reads <= seen + 4 * num_threads + 1
        if seen == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_sources(
            {"train": train, "val": pictures(1, 1)},
            parse_labels(["ground", "leaf"]),
            num_threads=num_threads,
            on_pair=on_pair,
        )
    assert train.reads <= 10 + 4 * num_threads + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
