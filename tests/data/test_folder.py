"""Pairs are found by exact name in each layout; whatever is amiss is named."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unetseg.data import folder as folder_module
from unetseg.data.folder import FolderSource, Sample, check_not_binary, find_samples, missing_classes
from unetseg.errors import DataError

MakePairs = Callable[..., Path]


def names(samples: dict[str, list[Sample]]) -> dict[str, list[str]]:
    return {split: [sample.name for sample in part] for split, part in samples.items()}


def all_names(root: Path) -> list[str]:
    return sorted(name for part in names(find_samples(root)).values() for name in part)


def write_lists(root: Path, **lists: str) -> None:
    for split, content in lists.items():
        (root / f"{split}.txt").write_text(content, encoding="utf-8")


def test_lists_choose_pairs_by_exact_name(make_pairs: MakePairs):
    root = make_pairs(["1", "10", "11", "a.b", "street/1", "unlisted"], image_suffix=".JPG")
    write_lists(root, train="\ufeff10\n\n street/1 \n", val="1.JPG\n", test="a.b\n11")
    samples = find_samples(root)
    assert names(samples) == {"train": ["10", "street/1"], "val": ["1"], "test": ["a.b", "11"]}
    assert samples["test"][0] == Sample("a.b", root / "images/a.b.JPG", root / "masks/a.b.png")


def test_listed_name_may_end_like_a_suffix(make_pairs: MakePairs):
    root = make_pairs(["a.png", "b"])
    write_lists(root, train="a.png", val="b.png")
    assert names(find_samples(root)) == {"train": ["a.png"], "val": ["b"]}


def test_pair_that_no_list_names_may_be_incomplete(make_pairs: MakePairs):
    root = make_pairs(["a", "b", "c"])
    (root / "masks/c.png").unlink()
    write_lists(root, train="a", val="b")
    assert names(find_samples(root)) == {"train": ["a"], "val": ["b"]}


@pytest.mark.parametrize("with_test", [False, True])
def test_split_folders(make_pairs: MakePairs, with_test: bool):
    make_pairs(["b", "a"], "data/train")
    root = make_pairs(["a"], "data/val").parent
    if with_test:
        make_pairs(["c"], "data/test")
    expected = {"train": ["a", "b"], "val": ["a"]} | ({"test": ["c"]} if with_test else {})
    assert names(find_samples(root)) == expected


def test_hidden_files_and_other_files_are_passed_over(make_pairs: MakePairs):
    root = make_pairs(["a", "b"])
    make_pairs(["c"], "data/images/.cache")
    for name in (".DS_Store", "._a.png", "Thumbs.db", "notes.txt"):
        (root / "images" / name).touch()
    assert all_names(root) == ["a", "b"]


def test_linked_folders_are_followed(make_pairs: MakePairs, tmp_path: Path):
    elsewhere = make_pairs(["a", "b"], "elsewhere")
    for part in ("images", "masks"):
        (tmp_path / "data" / part).mkdir(parents=True)
        (tmp_path / "data" / part / "street").symlink_to(elsewhere / part)
    assert all_names(tmp_path / "data") == ["street/a", "street/b"]


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


def test_root_must_be_a_data_set(tmp_path: Path, make_pairs: MakePairs):
    with pytest.raises(DataError, match=r"gone: there is no such folder; give the folder of the data set"):
        find_samples(tmp_path / "gone")
    with pytest.raises(DataError, match=r"needs the folders images/ and masks/, or train/ .* it holds nothing$"):
        find_samples(tmp_path)
    (tmp_path / "imgs").mkdir()
    with pytest.raises(DataError, match=r"it holds imgs$"):
        find_samples(tmp_path)
    make_pairs(["a"], "both")
    make_pairs(["a"], "both/train")
    with pytest.raises(DataError, match=r"both has images/ or masks/ as well as train/ or val/; keep one"):
        find_samples(tmp_path / "both")


def test_missing_and_empty_folders_are_named(tmp_path: Path, make_pairs: MakePairs):
    make_pairs(["a"], "split/train")
    make_pairs(["a"], "split/valid")
    with pytest.raises(DataError, match=r"split lacks the folder val/, .* are called train, val and"):
        find_samples(tmp_path / "split")
    (tmp_path / "split/val/images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"val/masks: there is no such folder; images/ and masks/ belong side by"):
        find_samples(tmp_path / "split")
    (tmp_path / "split/val/masks").mkdir()
    with pytest.raises(DataError, match=r"split/val: images/ and masks/ hold no image \(\.bmp, "):
        find_samples(tmp_path / "split")


def test_one_pair_cannot_be_split(make_pairs: MakePairs):
    with pytest.raises(DataError, match="holds one pair of image and mask; train and val need at least one each"):
        find_samples(make_pairs(["a"]))


def test_images_without_masks_and_masks_without_images_are_told_together(make_pairs: MakePairs):
    root = make_pairs([*"abcdefgh"])
    for name in "abcdef":
        (root / f"masks/{name}.png").unlink()
    (root / "images/h.png").unlink()
    expected = r"data: 6 without a mask \(a, b, c, d, e and 1 more\) and 1 without an image \(h\); an image in"
    with pytest.raises(DataError, match=expected):
        find_samples(root)


def test_images_that_differ_in_suffix_alone_are_refused(make_pairs: MakePairs):
    make_pairs(["a"], image_suffix=".jpg")
    root = make_pairs(["a", "b"])
    with pytest.raises(DataError, match=r"images holds a\.jpg and a\.png, which differ in suffix alone; keep one"):
        find_samples(root)


def test_faults_of_lists_are_named(make_pairs: MakePairs):
    root = make_pairs(["a", "b", "c"])
    write_lists(root, train="a\n", test="b\n")
    with pytest.raises(DataError, match=r"has train\.txt, test\.txt but lacks val\.txt; write the missing list"):
        find_samples(root)
    write_lists(root, val="\n \n")
    with pytest.raises(DataError, match=r"val\.txt names no image; write one name a line"):
        find_samples(root)
    write_lists(root, val="b\n")
    with pytest.raises(DataError, match=r"b is named twice, in val\.txt and in test\.txt; keep one"):
        find_samples(root)
    write_lists(root, val="x\nc\n")
    with pytest.raises(DataError, match=r"val\.txt: 1 without a mask \(x\) and 1 without an image \(x\);"):
        find_samples(root)


def samples_of(root: Path) -> list[Sample]:
    paths = sorted((root / "images").iterdir())
    return [Sample(path.stem, path, root / "masks" / f"{path.stem}.png") for path in paths]


def test_missing_classes_tells_the_values(make_pairs: MakePairs, monkeypatch: pytest.MonkeyPatch):
    values = [np.array([[0, i]], np.uint8) for i in (1, 2, 255)]
    samples = samples_of(make_pairs({str(i): mask for i, mask in enumerate(values)}))
    assert str(missing_classes("data", samples)) == (
        "--data.classes is missing: the masks in data hold the values 0, 1, 2, 255; "
        "give one name for each class, for example --data.classes '[background, ...]'"
    )
    assert "give --data.classes '[background, object]' --data.mask_format binary" in str(
        missing_classes("data", samples[2:])
    )
    monkeypatch.setattr(folder_module, "_MASKS_LOOKED_AT", 2)
    assert "2 of the 3 masks, a sample, in data hold the values 0, 1, 255;" in str(missing_classes("data", samples))


def test_masks_of_0_and_255_are_not_two_index_classes(make_pairs: MakePairs):
    black, binary = np.zeros((2, 2), np.uint8), np.array([[0, 255]], np.uint8)
    samples = samples_of(make_pairs({"a": black, "b": binary}))
    check_not_binary(samples[:1], ["background", "cell"])
    expected = r"hold only 0 and 255, and 255 is ignored: class 1 \(cell\) never .* use --data.mask_format binary"
    with pytest.raises(DataError, match=expected):
        check_not_binary(samples, ["background", "cell"])


def test_right_masks_are_not_all_read(make_pairs: MakePairs):
    samples = samples_of(make_pairs({"a": np.array([[0, 1, 255]], np.uint8)}))
    check_not_binary([*samples, Sample("gone", Path("gone"), Path("gone"))], ["background", "cell"])


def test_source_reads_pairs(make_pairs: MakePairs):
    mask = np.array([[0, 255, 7]], np.uint8)
    source = FolderSource(samples_of(make_pairs({"a": mask})), "binary", num_classes=2, ignore_index=255)
    image, read, name = source.read(0)
    assert (len(source), image.shape, read.tolist(), name) == (1, (1, 3, 3), [[0, 1, 1]], "a")
