"""A table of pairs is read as it stands; what is wrong in it is named with its line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unetseg.data.manifest import read_manifest
from unetseg.data.splits import Sample
from unetseg.errors import DataError

MakePairs = Callable[..., Path]

CSV = """image,mask,split
images/a.png,masks/a.png,train
images/b.png,masks/b.png,val
"""
ROWS = [dict(zip(("image", "mask", "split"), line.split(","), strict=True)) for line in CSV.split()[1:]]


@pytest.fixture
def root(make_pairs: MakePairs) -> Path:
    """Pairs a, b and c, of which c has a suffix of its own."""
    return make_pairs(["a", "b", "c", "ö/1, 2"])


def read(root: Path, content: str | bytes, name: str = "pairs.csv") -> dict[str, list[Sample]]:
    path = root / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_manifest(path, root)


def read_json(root: Path, content: Any) -> dict[str, list[Sample]]:
    return read(root, json.dumps(content), "pairs.json")


def expected(root: Path) -> dict[str, list[Sample]]:
    pairs = {
        name: Sample(f"images/{name}.png", root / f"images/{name}.png", root / f"masks/{name}.png") for name in "ab"
    }
    return {"train": [pairs["a"]], "val": [pairs["b"]]}


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        CSV.replace("\n", "\r\n"),
        "\ufeff" + CSV,
        CSV + "\n\n",
        CSV.replace(",", ", ").replace("\n", " \n"),
        CSV.replace("/", "\\"),
        '"image","mask","split"\n' + CSV.split("\n", 1)[1].replace("images/a.png", '"images/a.png"'),
        "split,note,mask,image\ntrain,,masks/a.png,images/a.png\nval,x,masks/b.png,images/b.png,beyond the header\n",
    ],
    ids=["plain", "Windows", "signature", "blank lines", "spaces", "backslashes", "quotes", "other columns"],
)
def test_csv_as_people_write_it(root: Path, content: str):
    assert read(root, content) == expected(root)


def test_json(root: Path):
    assert read_json(root, [{**row, "note": 3} for row in ROWS]) == expected(root)
    assert read(root, "\ufeff" + json.dumps(ROWS), "pairs.JSON") == expected(root)


def test_names_with_commas_and_accents(root: Path):
    samples = read(root, CSV + '"images/ö/1, 2.png", "masks/ö/1, 2.png",test\n')
    assert list(samples) == ["train", "val", "test"]
    assert samples["test"] == [
        Sample("images/ö/1, 2.png", root / "images/ö/1, 2.png", root / "masks/ö/1, 2.png"),
    ]


def test_paths_may_be_absolute_and_the_manifest_elsewhere(root: Path, tmp_path: Path):
    (tmp_path / "pairs.csv").write_text(CSV.replace("images/a.png", str(root / "images/a.png")))
    samples = read_manifest(tmp_path / "pairs.csv", root)
    assert samples["train"] == [Sample(str(root / "images/a.png"), root / "images/a.png", root / "masks/a.png")]
    assert samples["val"] == expected(root)["val"]


def test_order_is_kept(root: Path):
    lines = [
        f"images/{name}.png,masks/{name}.png,{split}" for name, split in (("c", "val"), ("a", "train"), ("b", "val"))
    ]
    samples = read(root, "\n".join(["image,mask,split", *lines]))
    assert [sample.name for sample in samples["val"]] == ["images/c.png", "images/b.png"]
    assert list(samples) == ["train", "val"]


def test_mask_may_be_a_file_a_class(root: Path):
    masks = [{"road": "masks/a.png", "car": "masks\\b.png", "bus": None, "tram": ""}, {}]
    samples = read_json(root, [{**row, "mask": mask} for row, mask in zip(ROWS, masks, strict=True)])
    assert samples["train"][0].mask == {"road": root / "masks/a.png", "car": root / "masks/b.png"}
    assert samples["val"][0].mask == {}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", r"pairs\.csv has the columns none, not image and mask and split; its first line must be a header with"),
        ("image;mask;split\n", "has the columns image;mask;split, not image and mask and split; .* by commas"),
        (
            "image,mask\n",
            r"has the columns image, mask, not split; .* header with image,mask,split \(train, val or test",
        ),
        (CSV.split("\n", 1)[1], "has the columns images/a.png, masks/a.png, train, not image"),
        (CSV + "images/c.png,,val\n", r"pairs\.csv, line 4: mask not given; each pair needs image,mask,split"),
        (CSV + "images/c.png, ,\n", "line 4: mask and split not given"),
        (CSV + "images/c.png\n", "line 4: mask and split not given"),
        (CSV + "images/c.png,masks/c.png,valid\n", "line 4: split 'valid'; it can be train, val, test"),
        (CSV + "images/a.png,masks/c.png,val\n", r"line 4: images/a\.png is listed before, in line 2; keep one"),
        (CSV + "./images/../images/a.png,masks/c.png,val\n", "line 4: .* is listed before, in line 2; keep one"),
        (CSV + "images\\a.png,masks/c.png,val\n", "line 4: .* is listed before, in line 2; keep one"),
        (
            CSV.replace("masks/a", "masks/x"),
            r"lists 1 files that aren't there \(\S*/data/masks/x\.png\); paths are rel",
        ),
        (CSV.replace("images/", "x/").replace("masks/", "y/"), "lists 4 files that aren't there"),
        (CSV.replace("images/a.png", "images"), r"lists 1 files that aren't there \(\S*/data/images\)"),
        (CSV.replace("images/a.png", "x" * 5000), "lists 1 files that aren't there"),
        (CSV.replace("val", "test"), "lists no pair for val; each pair needs"),
        ("image,mask,split\n", "lists no pair for train and none for val"),
        (CSV.replace("a.png", "ä.png").encode("latin-1"), r"--data\.manifest \S*pairs\.csv: 'utf-8' codec"),
        (CSV.encode("utf-16"), r"--data\.manifest \S*pairs\.csv: 'utf-8' codec"),
        (CSV + "a\0b,c,val\n", r"pairs\.csv"),
        (CSV + '"' + "x" * 200_000, "field larger than field limit"),
    ],
)
def test_faults_of_csv_are_named(root: Path, content: str | bytes, fault: str):
    with pytest.raises(DataError, match=fault):
        read(root, content)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", r"--data\.manifest \S*pairs\.json: Expecting property name"),
        ("", "Expecting value"),
        ("[" * 100_000, "recursion"),
        ("{}", "must be a JSON list of objects with image,mask,split"),
        ('["a"]', "must be a JSON list of objects"),
        (json.dumps([{"image": "images/a.png", "mask": None, "split": "train"}]), r"json, entry 0: mask not given"),
        (json.dumps([*ROWS, {"image": "images/c.png", "split": "val"}]), "entry 2: mask not given"),
        (json.dumps([{**ROWS[0], "split": ["train"]}]), r"entry 0: split \['train'\]; it can be train, val, test"),
        (json.dumps([{**ROWS[0], "mask": ["masks/a.png"]}]), "lists 1 files that aren't there"),
        (json.dumps([{**ROWS[0], "image": 7}]), r"lists 1 files that aren't there \(\S*/data/7\)"),
        (
            json.dumps([{**ROWS[0], "mask": {"road": "masks/x.png", "car": "masks/a.png"}}]),
            r"lists 1 files .*masks/x\.png",
        ),
    ],
)
def test_faults_of_json_are_named(root: Path, content: str, fault: str):
    with pytest.raises(DataError, match=fault):
        read(root, content, "pairs.json")


def test_file_must_be_there_and_of_a_known_kind(root: Path):
    for name in ("gone.csv", "gone.json"):
        with pytest.raises(DataError, match=rf"--data\.manifest \S*{name}: no such file or directory"):
            read_manifest(root / name, root)
    with pytest.raises(DataError, match=r"pairs\.xlsx: must be a \.csv file with the header .*, or a \.json file"):
        read_manifest(root / "pairs.xlsx", root)
