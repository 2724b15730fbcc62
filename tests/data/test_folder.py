"""Pairs are found by exact name in each layout; whatever is amiss is named."""

import pickle
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from unetseg.data.folder import find_samples
from unetseg.data.splits import Sample
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


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_may_be_encoded_either_way(make_pairs: MakePairs, form: str):
    root = make_pairs([unicodedata.normalize("NFC", name) for name in ("Straße/Größe", "日本", "c")])
    for path in [*root.glob("masks/**/*.png")]:
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    write_lists(root, train=unicodedata.normalize(form, "Straße/Größe\n日本.png"), val="c")
    assert names(find_samples(root)) == {"train": ["Straße/Größe", "日本"], "val": ["c"]}


def test_lists_of_windows(make_pairs: MakePairs):
    root = make_pairs(["street/a", "street/b", "c"])
    write_lists(root, train="street\\a\r\nstreet\\b.png\r\n", val="c\r\n")
    assert names(find_samples(root)) == {"train": ["street/a", "street/b"], "val": ["c"]}


def test_listed_names_are_found_though_spaces_surround_them(make_pairs: MakePairs):
    root = make_pairs(["photo ", " image", "c"])
    drawn = find_samples(root)
    assert find_samples(root) == drawn  # by the lists


def test_folder_that_is_called_like_an_image_is_a_folder(make_pairs: MakePairs):
    root = make_pairs(["x.png/a", "b"])
    assert all_names(root) == ["b", "x.png/a"]


def test_folder_that_cannot_be_read_is_not_passed_over(make_pairs: MakePairs, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    root = make_pairs(["a", "b"])
    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match=r"data/images can't be read: permission denied"):
        find_samples(root)


def test_split_folders_inside_images_and_masks_are_not_mixed(make_pairs: MakePairs):
    root = make_pairs(["train/a", "train/b", "val/a"])
    with pytest.raises(DataError, match=r"data has images/train and images/val, from which no split follows; rename"):
        find_samples(root)
    write_lists(root, train="train/a\ntrain/b", val="val/a")
    assert names(find_samples(root)) == {"train": ["train/a", "train/b"], "val": ["val/a"]}


def test_mask_suffix(make_pairs: MakePairs):
    root = make_pairs(["1", "street/2", "a_mask"], image_suffix=".jpg", mask_suffix="_mask")
    (root / "masks/1_overlay.png").touch()  # another file among the masks
    samples = sorted((sample for part in find_samples(root, mask_suffix="_mask").values() for sample in part), key=str)
    assert [(sample.name, sample.mask.name) for sample in samples] == [
        ("1", "1_mask.png"),
        ("a_mask", "a_mask_mask.png"),
        ("street/2", "2_mask.png"),
    ]


def test_mask_suffix_of_split_folders_and_lists(make_pairs: MakePairs):
    make_pairs(["a"], "data/train", mask_suffix="_mask")
    split = make_pairs(["b"], "data/val", mask_suffix="_mask").parent
    assert names(find_samples(split, mask_suffix="_mask")) == {"train": ["a"], "val": ["b"]}
    listed = make_pairs(["a", "b"], "listed", mask_suffix="_mask")
    write_lists(listed, train="a", val="b.png")
    assert names(find_samples(listed, mask_suffix="_mask")) == {"train": ["a"], "val": ["b"]}


def test_wrong_mask_suffix_is_named(make_pairs: MakePairs):
    root = make_pairs(["1", "2"], mask_suffix="_label")
    expected = r"2 without a mask \(1, 2\); .* up to the suffix, with _mask behind the mask's \(--data\.mask_suffix\)$"
    with pytest.raises(DataError, match=expected):
        find_samples(root, mask_suffix="_mask")
    with pytest.raises(DataError, match=r"2 without a mask \(1, 2\) and 2 without an image \(1_label, 2_label\)"):
        find_samples(root)


def make_multilabel(make_pairs: MakePairs, folder: str = "data", **occurring: str) -> Path:
    """Pairs a, b and c; with masks of each class for those given as letters."""
    root = make_pairs(["a", "b", "c"], folder)
    flat = root / "flat"
    (root / "masks").rename(flat)
    for name, letters in occurring.items():
        (root / "masks" / name).mkdir(parents=True)
        for letter in letters:
            shutil.copy(flat / f"{letter}.png", root / "masks" / name)
    shutil.rmtree(flat)
    return root


def test_multilabel_masks_are_files_by_class(make_pairs: MakePairs):
    root = make_multilabel(make_pairs, road="abc", car="b")
    write_lists(root, train="a\nb", val="c")
    train = find_samples(root, mask_classes=["road", "car"])["train"]
    road, car = root / "masks/road", root / "masks/car"
    assert [sample.mask for sample in train] == [
        {"road": road / "a.png"},  # no car in it
        {"road": road / "b.png", "car": car / "b.png"},
    ]
    assert pickle.loads(pickle.dumps(train)) == train


def test_multilabel_masks_with_suffix_in_split_folders(make_pairs: MakePairs):
    for split in ("train", "val"):
        root = make_multilabel(make_pairs, f"data/{split}", road="abc", car="b").parent
        for path in [*root.glob(f"{split}/masks/*/*.png")]:
            path.rename(path.with_stem(f"{path.stem}_mask"))
    samples = find_samples(root, mask_suffix="_mask", mask_classes=["car", "road"])
    assert names(samples) == {"train": ["a", "b", "c"], "val": ["a", "b", "c"]}
    assert list(samples["val"][1].mask) == ["car", "road"]


def test_multilabel_image_without_any_mask_is_named(make_pairs: MakePairs):
    root = make_multilabel(make_pairs, road="ab", car="b")
    with pytest.raises(DataError, match=r"1 without a mask \(c\)"):
        find_samples(root, mask_classes=["road", "car"])


@pytest.mark.parametrize("classes", [["road"], ["road", "bus"], ["road", "car", "bus"]])
def test_multilabel_folders_are_the_classes(make_pairs: MakePairs, classes: list[str]):
    root = make_multilabel(make_pairs, road="abc", car="b")
    expected = rf"masks holds the folders car, road; multilabel masks need one for each .* other: {', '.join(classes)}$"
    with pytest.raises(DataError, match=expected):
        find_samples(root, mask_classes=classes)
    flat = make_pairs(["a", "b"], "flat")
    with pytest.raises(DataError, match="masks holds the folders none; multilabel masks need one for each class"):
        find_samples(flat, mask_classes=classes)
    shutil.rmtree(flat / "masks")
    with pytest.raises(DataError, match="masks: there is no such folder; images/ and masks/ belong side by side"):
        find_samples(flat, mask_classes=classes)
