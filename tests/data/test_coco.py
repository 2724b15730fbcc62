"""COCO's shapes are drawn as COCO means them; files that say something else are refused."""

import json
import pickle
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unetseg.data.coco import CocoMaskReader, Shapes, category_names, find_coco_samples, read_annotations
from unetseg.errors import DataError

HEIGHT, WIDTH = 11, 17
CLASSES = ["background", "road", "car"]


def rectangle(top: int, left: int, bottom: int, right: int) -> list[float]:
    """A polygon; with whole corners it covers the pixels from top to bottom - 1 and left to right - 1."""
    return [left, top, right, top, right, bottom, left, bottom]


def covered(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of runs down the columns, the first of them of zeros."""
    flat = np.concatenate([[0], mask.T.reshape(-1).astype(int)])
    changes = np.flatnonzero(np.diff(flat)).tolist()
    return np.diff([0, *changes, mask.size]).tolist()


def compressed(counts: list[int]) -> str:
    """COCO's text of run lengths, see rleToString in its maskApi.c."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            text += chr((digit | (32 if more else 0)) + 48)
            if not more:
                break
    return text


def as_dict(mask: np.ndarray, *, text: bool) -> dict[str, Any]:
    counts = run_lengths(mask)
    return {"size": [HEIGHT, WIDTH], "counts": compressed(counts) if text else counts}


def draw(*shapes: tuple[str, Any], mode: str = "multiclass") -> np.ndarray:
    reader = CocoMaskReader(CLASSES if mode == "multiclass" else CLASSES[1:], mode)
    return reader(Shapes((HEIGHT, WIDTH), shapes, "a.json, image a.jpg"), (HEIGHT, WIDTH))


def noise(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((HEIGHT, WIDTH)) < rng.random()


def test_polygon():
    mask = draw(("car", [rectangle(2, 3, 8, 12)]))
    assert mask.dtype == np.uint8
    assert mask.flags.c_contiguous
    np.testing.assert_array_equal(mask, 2 * covered(2, 3, 8, 12))


def test_several_polygons_are_one_shape():
    mask = draw(("car", [rectangle(0, 0, 3, 4), rectangle(2, 3, 8, 12), rectangle(9, 14, 11, 17)]))
    np.testing.assert_array_equal(mask, 2 * (covered(0, 0, 3, 4) | covered(2, 3, 8, 12) | covered(9, 14, 11, 17)))


def test_polygon_may_reach_beyond_the_image():
    np.testing.assert_array_equal(draw(("road", [rectangle(-5, -3, 4, 40)])), covered(0, 0, 4, WIDTH))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("text", [False, True])
def test_run_lengths(text: bool, seed: int):
    np.testing.assert_array_equal(draw(("road", as_dict(noise(seed), text=text))), noise(seed))


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("value", [False, True])
def test_run_lengths_of_nothing_and_of_everything(value: bool, text: bool):
    np.testing.assert_array_equal(draw(("road", as_dict(np.full((HEIGHT, WIDTH), value), text=text))), value)


def test_small_shapes_lie_on_large_ones_whatever_their_order():
    large, small, tiny = (rectangle(1, 1, 10, 16), rectangle(3, 3, 8, 9), rectangle(4, 4, 5, 5))
    expected = covered(1, 1, 10, 16).astype(np.uint8)
    expected[3:8, 3:9] = 2
    expected[4, 4] = 1
    shapes = [("road", [large]), ("car", as_dict(covered(3, 3, 8, 9), text=True)), ("road", [tiny])]
    assert small  # the one that is given as run lengths
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        np.testing.assert_array_equal(draw(*(shapes[i] for i in order)), expected)


def test_later_one_of_two_shapes_of_one_size_is_seen():
    shape = [rectangle(1, 1, 5, 5)]
    assert draw(("road", shape), ("car", shape))[2, 2] == 2
    assert draw(("car", shape), ("road", shape))[2, 2] == 1


def test_shapes_of_background_are_holes():
    mask = draw(("road", [rectangle(0, 0, 9, 9)]), ("background", [rectangle(2, 2, 4, 4)]))
    np.testing.assert_array_equal(mask, covered(0, 0, 9, 9) & ~covered(2, 2, 4, 4))


def test_multilabel_shapes_overlap():
    road, car = rectangle(1, 1, 10, 16), as_dict(covered(3, 3, 8, 9), text=False)
    mask = draw(("car", car), ("road", [road]), ("car", [rectangle(0, 0, 1, 1)]), mode="multilabel")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask[..., 0], covered(1, 1, 10, 16))
    np.testing.assert_array_equal(mask[..., 1], covered(3, 3, 8, 9) | covered(0, 0, 1, 1))


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_image_without_shapes_of_the_classes_is_background(mode: str):
    assert not draw(mode=mode).any()
    assert not draw(("tree", [rectangle(0, 0, 3, 3)]), mode=mode).any()


@pytest.mark.parametrize(
    ("segmentation", "fault"),
    [
        ([[1, 1, 5, 5]], r"a polygon needs three points or more, \[x, y, x, y, x, y, …\]; got 1, 1, 5, 5"),
        ([rectangle(1, 1, 5, 5), [1, 1, 5, 5]], "got 1, 1, 5, 5"),
        ([[1, 1, 5, 5, 7]], "got 1, 1, 5, 5, 7"),
        ([[]], "a polygon needs three points or more"),
        (rectangle(1, 1, 5, 5), "a polygon needs three points or more.*; got 1"),
        ([[[1, 1], [5, 1], [5, 4]]], "a polygon needs three points or more"),
        ([[[1, 1], [5, 1], [5, 4], [1, 4], [0, 0], [1, 1]]], "a polygon has points that are no numbers"),
        ([[1, 1, 5, 5, float("nan"), 7]], "a polygon has points that are no numbers, or far outside: 1, 1, 5, 5, nan"),
        ([[1, 1, 5, 5, 1e9, 7]], "far outside: 1, 1, 5, 5, 1000000000"),
        ([[1, 1, 5, 5, None, 7]], "a polygon has points that are no numbers"),
        ([[1, 1, 5, 5, "a", 7]], "could not convert"),
        ("polygon", "a polygon needs three points or more"),
        (7, "not iterable"),
        (True, "not iterable"),
        ({"size": [WIDTH, HEIGHT], "counts": [187]}, r"are of size \[17, 11\], the image is \[11, 17\]"),
        ({"counts": [187]}, "are of size None"),
        ({"size": [HEIGHT, WIDTH]}, "must be numbers of pixels, or these as COCO compresses them"),
        ({"size": [HEIGHT, WIDTH], "counts": [1.5, 185.5]}, "must be numbers of pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [200, -13]}, "must be numbers of pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": []}, "run lengths are of 0 pixels, the image has 187"),
        ({"size": [HEIGHT, WIDTH], "counts": [100, 86]}, "run lengths are of 186 pixels, the image has 187"),
        ({"size": [HEIGHT, WIDTH], "counts": [100, 88]}, "run lengths are of 188 pixels, the image has 187"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "run lengths are of 0 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": compressed([100, 86])}, "run lengths are of 186 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": compressed([187])[:-1]}, "compressed run lengths end early"),
        ({"size": [HEIGHT, WIDTH], "counts": "é"}, "'é' isn't part of compressed run lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": "~~~"}, "'~' isn't part of compressed run lengths"),
    ],
)
def test_shape_that_cannot_be_drawn_is_named(segmentation: Any, fault: str):
    with pytest.raises(DataError, match=rf"a\.json, image a\.jpg: a shape of car can't be drawn: .*{fault}"):
        draw(("car", segmentation))
    draw(("tree", segmentation))  # which isn't drawn


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_mask_of_another_size_takes_no_memory(mode: str):
    shapes = Shapes((10**6, 10**6), (("road", [rectangle(0, 0, 3, 3)]),), "a.json, image a.jpg")
    assert CocoMaskReader(CLASSES, mode)(shapes, (HEIGHT, WIDTH)).shape[:2] == (10**6, 10**6)


def categories(*names: str) -> list[dict[str, Any]]:
    return [{"id": i, "name": name} for i, name in enumerate(names, 1)]


def image(number: int, file_name: str | None = None) -> dict[str, Any]:
    return {"id": number, "file_name": file_name or f"{number}.png", "height": HEIGHT, "width": WIDTH}


def annotation(number: int, image_id: Any, category_id: Any = 1, **others: Any) -> dict[str, Any]:
    shape = {"segmentation": [rectangle(number, 0, number + 1, 5)], "iscrowd": 0, **others}
    return {"id": number, "image_id": image_id, "category_id": category_id, **shape}


def content(*numbers: int) -> dict[str, list[Any]]:
    """Images by number, each but the first with a shape."""
    return {
        "images": [image(number) for number in numbers],
        "annotations": [annotation(number, number) for number in numbers[1:]],
        "categories": categories("road", "car"),
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a COCO file, and those of its images that are named as numbers to ``images``."""

    def write_file(annotations: Any, name: str = "annotations/a.json", images: str = "images") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(annotations if isinstance(annotations, str) else json.dumps(annotations), encoding="utf-8-sig")
        (tmp_path / images).mkdir(parents=True, exist_ok=True)
        for row in annotations["images"] if isinstance(annotations, dict) else []:
            Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / images / Path(str(row["file_name"])).name)
        return path

    return write_file


def find(root: Path, files: Path | dict[str, Path], **options: Any) -> dict[str, list[Any]]:
    paths = files.values() if isinstance(files, dict) else [files]
    return find_coco_samples(files, {path: read_annotations(path) for path in paths}, root, **options)


def test_images_with_and_without_shapes(tmp_path: Path, write: Callable[..., Path]):
    crowd = as_dict(covered(0, 9, 2, 17), text=False)
    rows = content(1, 2, 3)
    rows["annotations"].append(annotation(9, 2, 2, segmentation=crowd, iscrowd=1))
    files = {"train": write(rows), "val": write(content(4), "annotations/b.json")}
    samples = find(tmp_path, files)
    assert [sample.name for sample in samples["train"]] == ["1.png", "2.png", "3.png"]
    assert [sample.image for sample in samples["val"]] == [tmp_path / "images/4.png"]
    assert pickle.loads(pickle.dumps(samples)) == samples
    empty, crowded, _ = (CocoMaskReader(CLASSES)(sample.mask, (HEIGHT, WIDTH)) for sample in samples["train"])
    assert not empty.any()
    np.testing.assert_array_equal(crowded, covered(2, 0, 3, 5) + 2 * covered(0, 9, 2, 17))


@pytest.mark.parametrize(
    "images",
    [".", "annotations", "images", "train2017", "images/sub"],
    ids=["root", "beside", "images", "named", "sub"],
)
def test_places_of_images(tmp_path: Path, write: Callable[..., Path], images: str):
    rows = content(1, 2)
    if images == "images/sub":
        rows["images"] = [image(1, "sub/1.png"), image(2, "sub\\2.png")]
        for row in rows["images"]:
            row["file_name"] = row["file_name"].replace("\\", "/")
    path = write(rows, "annotations/instances_train2017.json", images)
    if images == "images/sub":
        path.write_text(path.read_text(encoding="utf-8-sig").replace("sub/2", r"sub\\2"), encoding="utf-8")
    samples = find(tmp_path, {"train": path, "val": path})
    assert [sample.image.resolve() for sample in samples["val"]] == [tmp_path / images / f"{i}.png" for i in (1, 2)]
    assert [sample.name for sample in samples["val"]] == [row["file_name"] for row in rows["images"]]


def test_one_file_is_split_by_lists_or_drawn(
    tmp_path: Path, write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    path = write(content(1, 2, 3, 4, 5))
    drawn = find(tmp_path, path, split_seed=3)
    assert {split: len(part) for split, part in drawn.items()} == {"train": 4, "val": 1}
    assert capsys.readouterr().err.endswith("drew 4 for train and 1 for val and wrote train.txt, val.txt\n")
    assert find(tmp_path, path, split_seed=4) == drawn  # by the lists
    (tmp_path / "val.txt").write_text("5.png\n9.png\n")
    (tmp_path / "train.txt").write_text("1.png\n")
    with pytest.raises(DataError, match=r"the lists in \S* name images that \S*a\.json doesn't: 9\.png"):
        find(tmp_path, path)
    (tmp_path / "val.txt").write_text("5\n")
    assert {split: [sample.name for sample in part] for split, part in find(tmp_path, path).items()} == {
        "train": ["1.png"],
        "val": ["5.png"],
    }


def test_lists_name_an_image_once_and_as_one(tmp_path: Path, write: Callable[..., Path]):
    rows = content(1, 2)
    rows["images"] = [image(1, "1.png"), image(2, "1.jpg")]
    path = write(rows)
    (tmp_path / "train.txt").write_text("1.png")
    (tmp_path / "val.txt").write_text("1")
    with pytest.raises(DataError, match=r"name images that \S*a\.json doesn't: 1$"):
        find(tmp_path, path)
    path.write_text(json.dumps({**rows, "images": rows["images"][:1], "annotations": []}))
    with pytest.raises(DataError, match=r"1\.png is named twice in the lists, with and without its suffix; keep one"):
        find(tmp_path, path)


def test_names_of_categories_by_their_ids(write: Callable[..., Path]):
    rows = content(1)
    rows["categories"] = [{"id": 10, "name": "z"}, {"id": 2, "name": "y"}, {"id": "a", "name": "x"}]
    assert category_names(read_annotations(write(rows))) == ["y", "z", "x"]


def test_categories_of_one_name_are_one_class(tmp_path: Path, write: Callable[..., Path]):
    rows = content(1)
    rows["categories"] = categories("car", "car")
    rows["annotations"] = [annotation(2, 1, 1), annotation(4, 1, 2)]
    path = write(rows)
    sample = find(tmp_path, {"train": path, "val": path})["train"][0]
    mask = CocoMaskReader(CLASSES)(sample.mask, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(mask, 2 * (covered(2, 0, 3, 5) | covered(4, 0, 5, 5)))


def test_ids_may_be_words_and_sizes_whole_floats(tmp_path: Path, write: Callable[..., Path]):
    rows = content(1)
    rows["images"][0] |= {"id": "one", "height": float(HEIGHT), "width": float(WIDTH)}
    rows["categories"] = [{"id": "r", "name": "road"}]
    rows["annotations"] = [annotation(2, "one", "r")]
    path = write(rows)
    shapes = find(tmp_path, {"train": path, "val": path})["train"][0].mask
    assert shapes.size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(CocoMaskReader(CLASSES)(shapes, (HEIGHT, WIDTH)), covered(2, 0, 3, 5))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ("[]", "isn't a COCO file, which has lists of images, annotations, categories"),
        ('{"images": [], "annotations": []}', "isn't a COCO file"),
        ('{"images": {}, "annotations": [], "categories": []}', "isn't a COCO file"),
    ],
)
def test_broken_file_is_named(write: Callable[..., Path], text: str, fault: str):
    with pytest.raises(DataError, match=rf"--data\.coco \S*a\.json: .*{fault}"):
        read_annotations(write(text))


def test_file_must_be_there_and_be_text(tmp_path: Path):
    with pytest.raises(DataError, match=r"--data\.coco \S*gone\.json: No such file or directory"):
        read_annotations(tmp_path / "gone.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"--data\.coco \S*a\.json: 'utf-8' codec"):
        read_annotations(tmp_path / "a.json")


@pytest.mark.parametrize("part", ["images", "annotations", "categories"])
def test_missing_keys_are_named(write: Callable[..., Path], part: str):
    for key in {"images": ("id", "file_name", "height", "width"), "categories": ("id", "name")}.get(
        part, ("id", "image_id", "category_id")
    ):
        rows = content(1, 2)
        path = write(rows)
        del rows[part][0][key]
        path.write_text(json.dumps(rows))
        with pytest.raises(DataError, match=rf"an entry of {part} has no {key}; each needs id, "):
            read_annotations(path)
    rows[part] = ["a"]
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=rf"an entry of {part} has no id; each needs id, "):
        read_annotations(path)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("images", "id", [1]),
        ("images", "id", None),
        ("images", "file_name", 7),
        ("images", "file_name", ""),
        ("images", "height", "480"),
        ("images", "height", 480.5),
        ("images", "width", 0),
        ("images", "width", None),
        ("images", "width", float("nan")),
        ("images", "width", float("inf")),
        ("images", "width", 10**40),
        ("annotations", "image_id", {"id": 1}),
        ("annotations", "category_id", [1]),
        ("categories", "id", True),
        ("categories", "name", None),
        ("categories", "name", 7),
    ],
)
def test_values_of_another_kind_are_named(write: Callable[..., Path], part: str, key: str, value: Any):
    rows = content(1, 2)
    path = write(rows)
    rows[part][0][key] = value
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=rf"an entry of {part} has the {key} .*; ids are numbers or words, names words"):
        read_annotations(path)


@pytest.mark.parametrize("part", ["images", "categories"])
def test_ids_must_differ(write: Callable[..., Path], part: str):
    rows = content(1, 2, 3)
    rows[part][1]["id"] = 1
    with pytest.raises(DataError, match=rf"two entries of {part} have the id 1; ids must differ"):
        read_annotations(write(rows))


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (annotation(7, 9), r"a\.json: annotation 7 is of image 9, which isn't listed"),
        (annotation(7, "1"), "annotation 7 is of image '1', which isn't listed"),
        (annotation(7, 1, 9), "annotation 7 is of category 9, which isn't listed"),
        (
            annotation(7, 1, segmentation=[]),
            "annotation 7 has no segmentation, and a box alone is no outline; outline it",
        ),
        (annotation(7, 1, segmentation=None), "annotation 7 has no segmentation"),
        ({"id": 7, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4]}, "annotation 7 has no segmentation"),
    ],
)
def test_annotations_must_belong_to_something(
    tmp_path: Path, write: Callable[..., Path], row: dict[str, Any], fault: str
):
    path = write({**content(1), "annotations": [row]})
    with pytest.raises(DataError, match=fault):
        find(tmp_path, {"train": path, "val": path})


def test_missing_images_are_named_with_the_places(tmp_path: Path, write: Callable[..., Path]):
    rows = content(1, 2, 3)
    path = write(rows, "annotations/instances_train.json")
    rows["images"][1]["file_name"] = "x" * 5000
    path.write_text(json.dumps(rows))
    (tmp_path / "images/1.png").unlink()
    expected = (
        rf"instances_train\.json lists 2 images that aren't there \(1\.png, x+\); looked in {tmp_path}/annotations, "
        rf"{tmp_path}, {tmp_path}/images, {tmp_path}/train$"
    )
    with pytest.raises(DataError, match=expected):
        find(tmp_path, {"train": path, "val": path})


@pytest.mark.parametrize("again", ["1.png", "./1.png", "../images/1.png"])
def test_image_that_is_listed_twice_is_named(tmp_path: Path, write: Callable[..., Path], again: str):
    rows = content(1, 2)
    path = write(rows)
    rows["images"][1]["file_name"] = again
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"a\.json lists \S*1\.png twice among its images, each with its own shapes"):
        find(tmp_path, path)


def test_splits_are_checked(tmp_path: Path, write: Callable[..., Path]):
    path, empty = write(content(1, 2)), write(content(), "annotations/empty.json")
    with pytest.raises(
        DataError, match=r"--data\.coco: valid is no split; give '{train: FILE\.json, val: FILE\.json}'"
    ):
        find(tmp_path, {"train": path, "valid": path})
    with pytest.raises(DataError, match=r"--data\.coco: val missing; give"):
        find(tmp_path, {"train": path})
    with pytest.raises(DataError, match=r"--data\.coco: \S*empty\.json lists no image"):
        find(tmp_path, {"train": path, "val": empty})
    with pytest.raises(DataError, match="holds no pair of image and mask"):
        find(tmp_path, empty)


def test_missing_pycocotools_is_named(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    path = write(content(1, 2))
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(DataError, match=r"--data\.coco needs pycocotools: pip install pycocotools"):
        read_annotations(path)
    with pytest.raises(DataError, match="pip install pycocotools"):
        draw(("road", [rectangle(0, 0, 3, 3)]))


def test_reader_can_be_sent_to_a_worker():
    reader = CocoMaskReader(CLASSES, "multilabel")
    assert pickle.loads(pickle.dumps(reader)) == reader


def test_many_shapes_on_a_large_image_need_little_memory():
    side, count = 1500, 200
    rows = [[[5 * i, 10, 5 * i + 3, 10, 5 * i + 3, 19, 5 * i, 19]] for i in range(count)]
    shapes = Shapes((side, side), tuple(("road", polygons) for polygons in rows), "a.json, image a.jpg")
    tracemalloc.start()
    mask = CocoMaskReader(CLASSES)(shapes, (side, side))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (mask == 1).sum() == count * 3 * 9
    assert peak < 4 * side**2  # not a plane for each shape
