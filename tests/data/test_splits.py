"""A split is drawn once, written, and read again from its lists."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from unetseg.data.folder import find_samples
from unetseg.data.splits import Sample, draw_split, read_lists
from unetseg.errors import DataError

MakePairs = Callable[..., Path]


def names(samples: dict[str, list[Sample]]) -> dict[str, list[str]]:
    return {split: [sample.name for sample in part] for split, part in samples.items()}


def test_drawn_split_is_written_and_kept(make_pairs: MakePairs, capsys: pytest.CaptureFixture[str]):
    root = make_pairs([f"{i:02d}" for i in range(10)])
    drawn = find_samples(root, split_seed=3)
    assert {split: len(part) for split, part in drawn.items()} == {"train": 8, "val": 2}
    said = capsys.readouterr().err
    assert said == f"{root} has no lists: drew 8 for train and 2 for val and wrote train.txt, val.txt\n"
    assert (root / "val.txt").read_text().split() == names(drawn)["val"]
    assert sorted(path.name for path in root.iterdir()) == ["images", "masks", "train.txt", "val.txt"]

    make_pairs(["new"])  # the lists keep it out
    assert find_samples(root, split_seed=4) == drawn
    assert capsys.readouterr().err == ""


def test_drawn_split_depends_on_the_seed_alone(make_pairs: MakePairs):
    splits = []
    for seed in (0, 0, 1):
        root = make_pairs([f"{i:02d}" for i in range(10)])
        splits.append(names(find_samples(root, split_seed=seed)))
        for split in ("train", "val"):
            (root / f"{split}.txt").unlink()
    assert splits[0] == splits[1] != splits[2]


@pytest.mark.parametrize(("count", "train"), [(2, 1), (3, 2), (7, 6), (8, 6)])
def test_drawn_split_leaves_something_for_both(make_pairs: MakePairs, count: int, train: int):
    samples = find_samples(make_pairs([str(i) for i in range(count)]))
    assert (len(samples["train"]), len(samples["val"])) == (train, count - train)


def test_root_that_cannot_be_written_still_has_its_split(
    make_pairs: MakePairs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refuse(*paths: Path) -> None:
        raise PermissionError(13, "Permission denied")

    root = make_pairs(["a", "b", "c"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        unwritten = find_samples(root)
    assert sorted(path.name for path in root.iterdir()) == ["images", "masks"]
    said = capsys.readouterr().err
    assert said.endswith("drew 2 for train and 1 for val; the lists can't be written (Permission denied)\n")
    assert unwritten == find_samples(root)


def test_one_pair_cannot_be_split(make_pairs: MakePairs):
    with pytest.raises(DataError, match="holds one pair of image and mask; train and val need at least one each"):
        find_samples(make_pairs(["a"]))


def test_no_lists_are_no_split(tmp_path: Path):
    assert read_lists(tmp_path) is None


@pytest.mark.parametrize("space", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_line_ends_only_where_a_line_ends(tmp_path: Path, space: str):
    (tmp_path / "train.txt").write_bytes(f"a{space}b\r\nc\n".encode())
    (tmp_path / "val.txt").write_text("d")
    assert read_lists(tmp_path) == {"train": [f"a{space}b", "c"], "val": ["d"]}


@pytest.mark.parametrize("content", ["Größe\n".encode("latin-1"), "a\n".encode("utf-16")])
def test_list_in_another_encoding_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "train.txt").write_bytes(content)
    (tmp_path / "val.txt").write_text("d")
    with pytest.raises(DataError, match=r"train\.txt can't be read: 'utf-8' codec .*\. Save it as text in UTF-8"):
        read_lists(tmp_path)


def test_nothing_cannot_be_split(tmp_path: Path):
    with pytest.raises(DataError, match="holds no pair of image and mask"):
        draw_split(tmp_path, [], seed=0)
