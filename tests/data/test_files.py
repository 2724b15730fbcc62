"""What is said of a data set becomes labels and sources that fit together, or is refused."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unetseg.data.coco import CocoMaskReader
from unetseg.data.files import open_files
from unetseg.data.images import ImageReader
from unetseg.data.labels import Labels
from unetseg.data.masks import BinaryMaskReader, ColorMaskReader, IndexMaskReader, MultilabelMaskReader
from unetseg.data.sources import FileSource
from unetseg.errors import DataError

MakePairs = Callable[..., Path]
Opened = tuple[Labels, dict[str, FileSource]]

MASK = np.array([[0, 1, 1, 0, 1]] * 3, np.uint8)
SQUARE = [1, 0, 4, 0, 4, 2, 1, 2]


def open_root(root: Path, classes: Any = ("background", "road"), image_reader: Any = None, **options: Any) -> Opened:
    defaults = {"mask_format": "index", "ignore_index": 255, "value_map": None, "mask_suffix": ""}
    defaults |= {"manifest": None, "coco": None, "split_seed": 0}
    return open_files(str(root), classes, image_reader or ImageReader(), **{**defaults, **options})


@pytest.fixture
def root(make_pairs: MakePairs) -> Path:
    """Pairs a, b and c, split by lists."""
    return split(make_pairs(dict.fromkeys("abc", MASK)))


def split(root: Path) -> Path:
    for name, names in {"train": "a\nb", "val": "c"}.items():
        (root / f"{name}.txt").write_text(names)
    return root


@pytest.fixture
def multilabel(make_pairs: MakePairs) -> Path:
    """The same with masks of cars and roads in folders; there is no car in a."""
    root = split(make_pairs(dict.fromkeys("abc", MASK)))
    (root / "masks").rename(root / "road")
    (root / "road").rename((root / "masks").mkdir() or root / "masks/road")
    (root / "masks/car").mkdir()
    for name in "bc":
        Image.fromarray(255 * (1 - MASK)).save(root / f"masks/car/{name}.png")
    return root


def write_coco(root: Path, names: str = "abc", file: str = "coco.json", **others: Any) -> Path:
    content = {
        "images": [{"id": i, "file_name": f"{name}.png", "height": 3, "width": 5} for i, name in enumerate(names)],
        "annotations": [{"id": 7, "image_id": 0, "category_id": 2, "segmentation": [SQUARE]}],
        "categories": [{"id": 9, "name": "car"}, {"id": 2, "name": "road"}],
    }
    path = root / file
    path.write_text(json.dumps(content | others))
    return path


def write_manifest(root: Path, masks: dict[str, Any]) -> str:
    rows = [
        {"image": f"images/{name}.png", "mask": mask, "split": "val" if name == "c" else "train"}
        for name, mask in masks.items()
    ]
    (root / "pairs.json").write_text(json.dumps(rows))
    return "pairs.json"


def test_index_masks(root: Path):
    labels, sources = open_root(root, image_reader=ImageReader(1))
    assert labels.classes == ("background", "road")
    assert {name: len(source) for name, source in sources.items()} == {"train": 2, "val": 1}
    assert sources["val"].mask_reader == IndexMaskReader(2, 255)
    image, mask, name = sources["val"].read(0)
    assert (image.shape, mask.tolist(), name) == ((3, 5, 1), MASK.tolist(), "c")
    assert pickle.loads(pickle.dumps(sources)) == sources


@pytest.mark.parametrize(
    ("classes", "options", "reader"),
    [
        (["a", "b"], {"mask_format": "binary"}, BinaryMaskReader()),
        (["a", "b"], {"ignore_index": 0}, IndexMaskReader(2, 0)),
        (["a", "b"], {"value_map": {0: 1, 1: 0}}, IndexMaskReader(2, 255, {0: 1, 1: 0})),
        ({"a": [0, 0, 0], "b": [1, 1, 1]}, {}, ColorMaskReader({(0, 0, 0): 0, (1, 1, 1): 1}, 255)),
    ],
)
def test_reader_follows_from_the_options(root: Path, classes: Any, options: dict[str, Any], reader: object):
    _, sources = open_root(root, classes, **options)
    assert [source.mask_reader for source in sources.values()] == [reader, reader]
    sources["train"].read(0)


def test_mask_suffix(make_pairs: MakePairs):
    _, sources = open_root(split(make_pairs(dict.fromkeys("abc", MASK), mask_suffix="_m")), mask_suffix="_m")
    np.testing.assert_array_equal(sources["train"].read(1)[1], MASK)


@pytest.mark.parametrize("classes", [None, ["road", "car"]])
def test_multilabel_classes_are_the_folders_unless_given_in_another_order(multilabel: Path, classes: list[str] | None):
    labels, sources = open_root(multilabel, classes, mask_format="multilabel")
    assert labels.classes == (tuple(classes) if classes else ("car", "road"))
    assert sources["train"].mask_reader == MultilabelMaskReader(labels.classes)
    planes = dict(zip(labels.classes, np.moveaxis(sources["train"].read(1)[1], -1, 0), strict=True))
    np.testing.assert_array_equal(planes["road"], MASK)
    np.testing.assert_array_equal(planes["car"], 1 - MASK)
    without_car = dict(zip(labels.classes, np.moveaxis(sources["train"].read(0)[1], -1, 0), strict=True))
    assert (without_car["road"].any(), without_car["car"].any()) == (True, False)


def test_multilabel_classes_of_split_folders(multilabel: Path):
    for name in ("train", "val"):
        (multilabel / f"new/{name}").mkdir(parents=True)
        for part in ("images", "masks"):
            (multilabel / f"new/{name}/{part}").symlink_to(multilabel / part)
    assert open_root(multilabel / "new", None, mask_format="multilabel")[0].classes == ("car", "road")


def test_missing_classes_are_explained(root: Path):
    with pytest.raises(DataError, match=r"--data\.classes is missing: the masks in \S*data hold the values 0, 1; give"):
        open_root(root, None)
    manifest = write_manifest(root, {name: f"masks/{name}.png" for name in "abc"})
    with pytest.raises(DataError, match=r"--data\.classes is missing: the masks in \S*data hold the values 0, 1"):
        open_root(root, None, manifest=manifest)


def test_classes_are_checked_before_the_files(tmp_path: Path):
    with pytest.raises(DataError, match=r"--data\.classes: got 1 names"):
        open_root(tmp_path / "gone", ["road"])
    with pytest.raises(DataError, match="gone: there is no such folder"):
        open_root(tmp_path / "gone", None, mask_format="multilabel")


def test_manifest_below_the_root_or_as_it_was_typed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = write_manifest(root, {name: f"masks/{name}.png" for name in "abc"})
    below = open_root(root, manifest=name)[1]
    np.testing.assert_array_equal(below["val"].read(0)[1], MASK)
    assert below["val"].name(0) == "images/c.png"
    monkeypatch.chdir(tmp_path)
    (root / name).rename(tmp_path / "typed.json")
    assert open_root(root, manifest="typed.json")[1] == below
    with pytest.raises(DataError, match=r"--data\.manifest \S*data/gone\.json: no such file"):
        open_root(root, manifest="gone.json")


def test_multilabel_manifest(multilabel: Path):
    masks = {name: {"road": f"masks/road/{name}.png", "car": f"masks/car/{name}.png"} for name in "bc"}
    manifest = write_manifest(multilabel, {"a": {}, **masks})
    _, sources = open_root(multilabel, ["car", "road"], mask_format="multilabel", manifest=manifest)
    assert not sources["train"].read(0)[1].any()
    np.testing.assert_array_equal(sources["train"].read(1)[1], np.stack([1 - MASK, MASK], axis=-1))


@pytest.mark.parametrize(
    ("mask", "classes", "mask_format", "fault"),
    [
        (
            {"road": "masks/road/a.png"},
            ["a", "b"],
            "index",
            r"images/a\.png has a mask a class; with this .* multilabel",
        ),
        ("masks/road/a.png", ["car", "road"], "multilabel", r"images/a\.png has one mask; with this .* a mask a class"),
        ({"bus": "masks/road/a.png"}, ["car", "road"], "multilabel", "has a mask for bus; the classes are car, road"),
        (
            {"road": "masks/road/a.png"},
            None,
            "multilabel",
            r"--data\.classes is missing: a manifest of multilabel masks",
        ),
        ({"road": "masks/road/a.png"}, None, "index", r"images/a\.png has a mask a class"),
    ],
)
def test_masks_of_a_manifest_must_fit_the_format(
    multilabel: Path, mask: Any, classes: list[str] | None, mask_format: str, fault: str
):
    manifest = write_manifest(multilabel, dict.fromkeys("abc", mask))
    with pytest.raises(DataError, match=fault):
        open_root(multilabel, classes, mask_format=mask_format, manifest=manifest)


def test_coco_classes_are_the_categories_behind_the_background(root: Path):
    write_coco(root)
    labels, sources = open_root(root, None, coco="coco.json")
    assert (labels.classes, labels.mode) == (("background", "road", "car"), "multiclass")
    assert sources["train"].mask_reader == CocoMaskReader(("background", "road", "car"), "multiclass")


@pytest.mark.parametrize("classes", [None, ["road", "car"], ["car"]])
def test_coco_multilabel(root: Path, classes: list[str] | None):
    files = {name: str(write_coco(root, "abc", f"{name}.json")) for name in ("train", "val")}
    labels, sources = open_root(root, classes, coco=files, mask_format="multilabel")
    assert (labels.classes, labels.mode) == (tuple(classes or ["road", "car"]), "multilabel")
    mask = sources["train"].read(0)[1]
    drawn = np.zeros((3, 5), np.uint8)
    drawn[0:2, 1:4] = 1
    for i, name in enumerate(labels.classes):
        np.testing.assert_array_equal(mask[..., i], drawn if name == "road" else 0)
    assert pickle.loads(pickle.dumps(sources)) == sources


def test_coco_classes_may_be_some_in_another_order(root: Path):
    files = {"train": write_coco(root, "ab", "train.json").name, "val": write_coco(root, "c", "val.json").name}
    labels, sources = open_root(root, ["nothing", "car", "road"], coco=files)
    mask = sources["train"].read(0)[1]
    assert (labels.classes, mask[0].tolist()) == (("nothing", "car", "road"), [0, 2, 2, 2, 0])
    assert not open_root(root, ["nothing", "car"], coco=files)[1]["train"].read(0)[1].any()


def test_coco_category_that_is_called_background_is_the_first_class(root: Path):
    write_coco(root, categories=[{"id": 1, "name": "car"}, {"id": 2, "name": "background"}])
    for name in ("train", "val"):
        (root / f"{name}.txt").write_text({"train": "a.png\nb.png", "val": "c.png"}[name])
    labels, sources = open_root(root, None, coco="coco.json")
    assert labels.classes == ("background", "car")
    assert not sources["train"].read(0)[1].any()


def test_unknown_coco_category_is_named(root: Path):
    write_coco(root)
    expected = (
        r"--data\.classes: bus is no category; there are road, car; the first class, background, is what no shape"
    )
    with pytest.raises(DataError, match=expected):
        open_root(root, ["background", "bus"], coco="coco.json")
    with pytest.raises(DataError, match=r"--data\.classes: background is no category; there are road, car$"):
        open_root(root, ["background", "road"], coco="coco.json", mask_format="multilabel")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            {"manifest": "pairs.csv", "coco": "a.json"},
            r"--data\.manifest and --data\.coco both say where the masks are",
        ),
        ({"manifest": "pairs.csv", "mask_suffix": "_m"}, r"--data\.mask_suffix is for masks in folders; leave it, or"),
        ({"coco": "a.json", "mask_suffix": "_m"}, r"--data\.mask_suffix is for masks in folders"),
        ({"coco": "a.json", "mask_format": "binary"}, r"--data\.coco has no mask files; leave out mask_format binary"),
        ({"coco": "a.json", "value_map": {1: 0}}, r"--data\.coco has no mask files; .* value_map"),
        ({"coco": "a.json", "classes": {"a": [0, 0, 0]}}, r"--data\.coco has no mask files; .* colours of classes"),
        ({"coco": "a.json"}, r"--data\.coco \S*data/a\.json: No such file"),
        ({"coco": {}, "classes": None}, r"--data\.coco: train missing|got 1 names"),
    ],
)
def test_options_must_go_together(root: Path, options: dict[str, Any], fault: str):
    with pytest.raises(DataError, match=fault):
        open_root(root, **options)
