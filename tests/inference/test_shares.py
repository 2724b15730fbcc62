"""Shares count what has data, and their lines outlive kills, several processes and any name."""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetseg.errors import DataError
from unetseg.inference.shares import NO_DATA, ClassCounter, SharesFile

CLASSES = ["background", "road", "Straße"]


def images(folder: Path) -> list[str]:
    return [json.loads(line)["image"] for line in (folder / "_shares.jsonl").read_text("ascii").split("\n")[:-1]]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def add(shares: SharesFile, *added: str, width: int = 3) -> None:
    for image in added:
        shares.add(image, 5, width, {"background": 1.0})


def test_blocks_of_any_shape_count_as_the_whole() -> None:
    rng = np.random.default_rng(0)
    class_map = rng.choice(np.array([0, 1, 2, NO_DATA], np.uint8), (61, 47), p=[0.5, 0.3, 0.1, 0.1])
    counter = ClassCounter(CLASSES)
    for block in (class_map[:20], class_map[20:21, :1], class_map[20:21, 1:], class_map[21:].T, class_map[:0]):
        counter.add(block)
    valid = class_map[class_map != NO_DATA].tolist()
    expected = [valid.count(i) / len(valid) for i in range(3)]
    assert list(counter.shares()) == CLASSES
    assert list(counter.shares().values()) == pytest.approx(expected, rel=1e-5)


def test_planes_count_each_for_itself() -> None:
    planes = np.random.default_rng(0).integers(0, 2, (3, 33, 35), dtype=np.uint8)
    planes[2] = 0
    planes[:, :5] = NO_DATA
    counter = ClassCounter(CLASSES, multilabel=True)
    counter.add(planes[:, :, :11])
    counter.add(planes[:, :, 11:])
    expected = [planes[0, 5:].mean(), planes[1, 5:].mean(), 0]
    assert list(counter.shares().values()) == pytest.approx(expected, rel=1e-5)


def test_planes_of_a_channels_last_network_count() -> None:
    planes = np.random.default_rng(0).integers(0, 2, (33, 35, 3), dtype=np.uint8).transpose(2, 0, 1)
    counter = ClassCounter(CLASSES, multilabel=True)
    counter.add(planes)
    assert list(counter.shares().values()) == pytest.approx(planes.mean(axis=(1, 2)).tolist(), rel=1e-5)


def test_threads_add_to_one_file(tmp_path: Path) -> None:
    """Where each opens one, a file is left open, which is a warning, and so an error here."""
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait(10)
        for i in range(20):
            shares.add(f"{number}/{i}.jpg", 5, 3, {"background": 1.0})

    with SharesFile(tmp_path) as shares, ThreadPoolExecutor(8) as threads:
        opened: list[str] = []
        shares._part = _SlowToOpen(shares._part, opened)
        list(threads.map(work, range(8)))
        assert opened == ["ab"]
        shares.merge([])
    assert sorted(images(tmp_path)) == sorted(f"{number}/{i}.jpg" for number in range(8) for i in range(20))


class _SlowToOpen:
    """A path whose file takes a while to open, so that other threads come in between."""

    def __init__(self, path: Path, opened: list[str]) -> None:
        self.path, self.opened = path, opened

    def open(self, mode: str) -> Any:
        self.opened.append(mode)
        time.sleep(0.05)
        return self.path.open(mode)


@pytest.mark.parametrize("multilabel", [False, True])
def test_without_data_there_is_no_share(multilabel: bool) -> None:
    counter = ClassCounter(CLASSES, multilabel=multilabel)
    assert set(counter.shares().values()) == {None}
    counter.add(np.full((3, 5, 7) if multilabel else (5, 7), NO_DATA, np.uint8))
    assert counter.shares() == dict.fromkeys(CLASSES)


def test_a_few_pixels_of_a_large_image_are_not_none() -> None:
    counter = ClassCounter(["a", "b"])
    block = np.zeros((1000, 3000), np.uint8)
    for _ in range(4):
        counter.add(block)
    counter.add(np.ones((1, 1), np.uint8))
    assert counter.shares() == {"a": 1.0, "b": 8.33333e-08}


def test_processes_and_earlier_runs_unite_in_the_order_of_the_plan(tmp_path: Path) -> None:
    with SharesFile(tmp_path, start=1) as shares:
        add(shares, "other.png", "c.png", "b.png", width=1)
        shares.merge(["b.png", "c.png", "other.png"])
    killed = SharesFile(tmp_path, 7, start=2)  # of a run with more processes
    add(killed, "c.png", width=2)
    killed.close()
    first, second = SharesFile(tmp_path, 0, start=3), SharesFile(tmp_path, 1, start=3)
    add(second, "a.png", "c.png")
    add(first, "d.png")
    assert second.known() == {"a.png", "b.png", "c.png", "d.png", "other.png"}
    second.close()
    first.merge(["a.png", "b.png", "bad.png", "c.png", "d.png"])
    assert images(tmp_path) == ["a.png", "b.png", "c.png", "d.png", "other.png"]
    widths = [json.loads(line)["width"] for line in (tmp_path / "_shares.jsonl").read_text().splitlines()]
    assert widths == [3, 1, 3, 3, 1]  # the newest line of each
    assert names(tmp_path) == ["_shares.jsonl"]


@pytest.mark.parametrize("name", ["Straße/🦔.png", "two\nlines\r\u2028\u0085.png", 'q"\\.png', "\udcff\udc80.png"])
def test_any_name_is_one_line(tmp_path: Path, name: str) -> None:
    with SharesFile(tmp_path) as shares:
        shares.add(name, 5, 61, {"Straße": None})
        assert shares.known() == {name}
        shares.merge([name])
    text = (tmp_path / "_shares.jsonl").read_bytes().decode("ascii")
    assert len(text.splitlines()) == 1
    assert json.loads(text) == {"image": name, "height": 5, "width": 61, "classes": {"Straße": None}}


def test_a_kill_costs_no_line_that_was_added_and_a_torn_one_is_passed_over(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from unetseg.inference.shares import SharesFile
shares = SharesFile(Path({str(tmp_path)!r}), 1)
shares.add("a.png", 5, 3, {{"background": 1.0}})
shares._file.write(b'{{"image": "b.png", "height": 5, "wid')
shares._file.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    with SharesFile(tmp_path, 1) as shares:
        assert shares.known() == {"a.png"}
        add(shares, "c.png")
        shares.merge(["a.png", "b.png", "c.png"])
    assert images(tmp_path) == ["a.png", "c.png"]
    assert names(tmp_path) == ["_shares.jsonl"]


def test_a_merge_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    with SharesFile(tmp_path, start=1) as shares:
        add(shares, "a.png")
        shares.merge(["a.png"])
    with SharesFile(tmp_path, start=2) as shares:
        add(shares, "b.png")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", fail)
            with pytest.raises(OSError, match="No space left"):
                shares.merge(["a.png", "b.png"])
        assert images(tmp_path) == ["a.png"]
        assert shares.known() == {"a.png", "b.png"}
        shares.merge(["a.png", "b.png"])
    assert images(tmp_path) == ["a.png", "b.png"]


def test_nothing_added_writes_nothing(tmp_path: Path) -> None:
    with SharesFile(tmp_path / "out") as shares:
        assert shares.known() == set()
        shares.merge([])
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", ["my notes\n", '{"image": 3}\n', '{"image": "a.png"}\n{"ima'])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "_shares.jsonl").write_text(content)
    with SharesFile(tmp_path) as shares:
        add(shares, "a.png")
        with pytest.raises(DataError, match=r"_shares.jsonl, line \d, isn't the class shares .* move the file away"):
            shares.merge(["a.png"])
    assert (tmp_path / "_shares.jsonl").read_text() == content
    assert len(names(tmp_path)) == 2
