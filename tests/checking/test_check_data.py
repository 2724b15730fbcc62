"""The verb check-data, in-process, as a person types it."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from unetseg.__main__ import main

CLASSES = ["ground", "leaf", "stone"]
SIZE = (19, 23)


class Folder:
    """A data set that grows pair by pair, with lists."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rng = np.random.default_rng(0)
        self.lists: dict[str, list[str]] = {}
        self.images: dict[str, NDArray[np.uint8]] = {}
        self.masks: dict[str, NDArray[np.uint8]] = {}
        for name in ("images", "masks"):
            (root / name).mkdir(parents=True)

    def image(self, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
        return self.rng.integers(0, 256, (*size, 3), dtype=np.uint8)

    def mask(self, size: tuple[int, int] = SIZE, classes: int = 3) -> NDArray[np.uint8]:
        """All classes and ignored pixels occur."""
        mask = self.rng.integers(0, classes, size, dtype=np.uint8)
        mask[0, : classes + 1] = [*range(classes), 255]
        return mask

    def add(
        self,
        split: str,
        name: str,
        image: NDArray[np.uint8] | bytes | None = None,
        mask: NDArray[np.uint8] | bytes | None = None,
        suffix: str = ".png",
    ) -> None:
        image = self.image() if image is None else image
        mask = self.mask() if mask is None else mask
        for part, content, end in (("images", image, suffix), ("masks", mask, ".png")):
            file = self.root / part / f"{name}{end}"
            if isinstance(content, bytes):
                file.write_bytes(content)
            else:
                Image.fromarray(content).save(file)
        if not isinstance(image, bytes) and not isinstance(mask, bytes):
            self.images[name], self.masks[name] = image, mask
        self.lists.setdefault(split, []).append(name)
        (self.root / f"{split}.txt").write_text("\n".join(self.lists[split]))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "data")


@pytest.fixture
def clean(folder: Folder) -> Folder:
    for split, sizes in {"train": [SIZE, SIZE, (31, 17)], "val": [(21, 25)], "test": [SIZE, (17, 31)]}.items():
        for i, size in enumerate(sizes):
            folder.add(split, f"{split}_{i}", folder.image(size), folder.mask(size))
    return folder


def check(
    capsys: pytest.CaptureFixture[str], folder: Folder, *options: str, code: int = 0, classes: str = f"{CLASSES}"
) -> str:
    assert main(["check-data", f"--data.root={folder.root}", f"--data.classes={classes}", *options]) == code
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def report(
    capsys: pytest.CaptureFixture[str], folder: Folder, *options: str, code: int = 0, classes: str = f"{CLASSES}"
) -> dict[str, Any]:
    file = folder.root.parent / "report.json"
    said = check(capsys, folder, f"--json={file}", *options, code=code, classes=classes)
    assert f"everything is in {file}\n" in said
    assert [path.name for path in folder.root.parent.iterdir() if path != folder.root] == ["report.json"]
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def findings(content: dict[str, Any], part: str) -> dict[tuple[str, ...], str]:
    """Reasons by kind and pairs."""
    return {
        (finding["kind"], *(f"{pair['split']}/{pair['name']}" for pair in finding["pairs"])): finding["reason"]
        for finding in content[part]
    }


def row(said: str, name: str) -> list[str]:
    """The cells of a row of a table."""
    (line,) = [line for line in said.splitlines() if re.match(rf"{re.escape(name)}  ", line)]
    return re.split(r"  +", line)


def test_a_clean_data_set(clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    said = check(capsys, clean)
    assert said.startswith(f"data: {clean.root} (3 train, 1 val, 2 test images; 3 classes)\n\nsplit ")
    assert said.endswith("\n\nno problems in 6 pairs\n")
    assert "problem:" not in said
    assert "warning:" not in said
    assert row(said, "train")[1:] == ["3", "17..23", "19..31", "23x19: 2, 17x31: 1"]
    assert row(said, "val")[1:] == ["1", "25", "21", "25x21: 1"]
    header = row(said, "class")
    assert header == ["class", "train", "images", "val", "images", "test", "images"]
    assert row(said, "leaf")[2::2] == ["3", "1", "2"]
    assert max(map(len, said.splitlines()[1:])) <= 110


def test_every_kind_of_problem_at_once(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    two = folder.mask(classes=2)
    folder.add("train", "good", mask=two)
    folder.add("train", "torn_image", image=b"\x89PNG\r\n\x1a\nthis is no picture")
    folder.add("train", "torn_mask", mask=b"")
    folder.add("train", "narrow", mask=folder.mask((19, 22)))
    folder.add("train", "odd_values", mask=np.full(SIZE, 7, np.uint8))
    picture = folder.image()
    folder.add("train", "seen", picture, two)
    folder.add("val", "seen_again", picture, two, suffix=".bmp")
    twin, copy = folder.image(), folder.image()
    folder.add("train", "twin", twin, two)
    folder.add("train", "other_twin", twin, folder.mask(classes=2))
    folder.add("train", "copy", copy, two)
    folder.add("train", "other_copy", copy, two)
    folder.add("train", "void", mask=np.full(SIZE, 255, np.uint8))
    folder.add("train", "bare", mask=np.zeros(SIZE, np.uint8))
    folder.add("val", "with_stone", mask=folder.mask(classes=3))
    classes = "[ground, leaf, stone, unseen]"
    content = report(capsys, folder, code=1, classes=classes)

    images, masks = folder.root / "images", folder.root / "masks"
    problems = findings(content, "problems")
    assert list(problems) == [
        ("unreadable", "train/torn_image"),
        ("unreadable", "train/torn_mask"),
        ("size_mismatch", "train/narrow"),
        ("stray_values", "train/odd_values"),
        ("shared_between_splits", "train/seen", "val/seen_again"),
        ("contradiction", "train/twin", "train/other_twin"),
    ]
    reasons = list(problems.values())
    assert reasons[0].startswith(f"{images}/torn_image.png: can't be read as an image: ")
    assert reasons[1] == f"{masks}/torn_mask.png: can't be read as an image: the file is empty"
    assert reasons[2] == (
        f"{images}/narrow.png is 23 x 19 pixels (width x height), but its mask {masks}/narrow.png is 22 x 19"
    )
    assert reasons[3].startswith(f"{masks}/odd_values.png holds the values 7; with 4 classes it may hold 0..3 and 255")
    assert reasons[4] == (
        f"{images}/seen.png (train), {images}/seen_again.bmp (val): the same image, and the same mask"
    )
    assert reasons[5] == f"{images}/twin.png (train), {images}/other_twin.png (train): the same image, " + (
        "but the masks differ"
    )
    warnings = findings(content, "warnings")
    assert list(warnings) == [
        ("repeated", "train/copy", "train/other_copy"),
        ("ignored_mask", "train/void"),
        ("empty_mask", "train/bare"),
        ("missing_class",),
    ]
    assert [finding["reason"] for finding in content["warnings"]][-2:] == [
        "stone occurs in val, but never in train, so that it can't be learnt",
        "unseen occurs in no mask of any split",
    ]
    assert content["problems"][4]["pairs"][1] == {
        "split": "val",
        "name": "seen_again",
        "file": str(images / "seen_again.bmp"),
    }
    assert (content["pairs"], content["num_problems"], content["num_warnings"]) == (14, 6, 5)

    said = check(capsys, folder, code=1, classes=classes)
    for reason in reasons:
        assert f"\n  {reason}\n" in said
    assert "\nproblem: images and masks that can't be used (2)\n" in said
    assert "\nwarning: empty masks, nothing but ground (1)\n  train/bare\n" in said
    assert said.count("problem:") == 5
    assert said.count("warning:") == 4
    assert row(said, "train")[1] == "8 of 12 read"
    assert said.endswith("\n6 problems and 5 warnings in 14 pairs\n")


def test_warnings_alone_are_no_failure(clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(7):
        clean.add("train", f"bare_{i}", mask=np.zeros(SIZE, np.uint8))
    said = check(capsys, clean)
    assert "warning: empty masks, nothing but ground (7)\n" in said
    assert "  train/bare_0, train/bare_1, train/bare_2, train/bare_3, train/bare_4 and 2 more\n" in said
    assert said.endswith("\nno problems and 7 warnings in 13 pairs\n")


def test_a_long_list_is_abridged_but_not_in_json(clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(23):
        clean.add("train", f"torn_{i}", image=b"")
    said = check(capsys, clean, code=1)
    assert said.count("the file is empty") == 20
    assert "  and 3 more; --json FILE lists all\n" in said
    assert len(report(capsys, clean, code=1)["problems"]) == 23


def test_figures_are_exact(clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    content = report(capsys, clean)
    for split, names in clean.lists.items():
        values = np.concatenate([clean.masks[name].ravel() for name in names])
        figures = content["splits"][split]
        assert figures["pixels"] == values.size
        assert figures["ignored_share"] == (values == 255).sum() / values.size
        assert [entry["name"] for entry in figures["classes"]] == CLASSES
        for i, entry in enumerate(figures["classes"]):
            assert entry["pixels"] == (values == i).sum()
            assert entry["share"] == (values == i).sum() / (values != 255).sum()
            assert entry["images"] == sum((clean.masks[name] == i).any() for name in names)
    sizes = content["splits"]["train"]["sizes"]
    assert sizes == [{"height": 19, "width": 23, "images": 2}, {"height": 31, "width": 17, "images": 1}]
    pixels = np.concatenate([clean.images[name].reshape(-1, 3) for name in clean.lists["train"]]).astype(np.float64)
    np.testing.assert_allclose(content["mean"], pixels.mean(0) / 255, rtol=1e-14)
    np.testing.assert_allclose(content["std"], pixels.std(0) / 255, rtol=1e-14)
    assert content["value_range"] == [pixels.min() / 255, pixels.max() / 255]


def test_mean_and_std_can_be_pasted(clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    said = check(capsys, clean)
    pasted = yaml.safe_load(said[said.index("model:\n") : said.index("\n\nno problems")])["model"]
    content = report(capsys, clean)
    for name in ("mean", "std"):
        np.testing.assert_allclose(pasted[name], content[name], rtol=1e-3)


def test_the_number_of_workers_changes_nothing(clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    clean.add("train", "torn", image=b"")
    clean.add("val", "copy", clean.images["train_0"], clean.masks["train_0"])
    alone = report(capsys, clean, "--data.num_workers=0", code=1)
    for workers in (1, 2, 5):
        assert report(capsys, clean, f"--data.num_workers={workers}", code=1) == alone
    assert report(capsys, clean, code=1) == alone


def test_masks_of_0_and_255_are_called_out(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        folder.add("val" if name == "c" else "train", name, mask=255 * (folder.mask(classes=2) == 1).astype(np.uint8))
    folder.add("train", "bare", mask=np.zeros(SIZE, np.uint8))
    content = report(capsys, folder, code=1, classes="[ground, leaf]")
    assert content["warnings"] == []  # an empty mask and a missing class would follow from it
    (problem,) = content["problems"]
    assert problem["kind"] == "zero_and_255"
    assert re.match(
        r"train, val: the masks hold only 0 and 255, and 255 is ignored: class 1 \(leaf\) never occurs; if 255 means "
        r"that class, use --data.mask_format binary",
        problem["reason"],
    )
    content = report(capsys, folder, "--data.mask_format=binary", classes="[ground, leaf]")
    assert findings(content, "warnings") == {("empty_mask", "train/bare"): "nothing but ground"}
    content = report(capsys, folder, "--data.value_map={0: 0, 255: 1}", classes="[ground, leaf]")
    assert content["problems"] == []


def test_a_picture_is_known_again_without_its_mask(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    grey = np.repeat(folder.image()[..., :1], 3, axis=2)
    folder.add("train", "colour", grey)
    folder.add("test", "grey", grey[..., 0], folder.mask(), suffix=".tif")
    folder.add("test", "grey_too", grey[..., 0], folder.mask(), suffix=".bmp")
    folder.add("val", "other")
    content = report(capsys, folder, code=1)
    assert list(findings(content, "problems")) == [
        ("shared_between_splits", "train/colour", "test/grey", "test/grey_too"),
        ("contradiction", "test/grey", "test/grey_too"),
    ]
    assert all(reason.endswith("but the masks differ") for reason in findings(content, "problems").values())


def test_colours_of_no_class(clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    for name, mask in list(clean.masks.items()):
        coloured = np.where(mask[..., None] == 1, [0, 128, 0], [90, 60, 30]).astype(np.uint8)
        if name == "val_0":
            coloured[3, 4] = [1, 2, 3]
        Image.fromarray(coloured).save(clean.root / "masks" / f"{name}.png")
    classes = "{ground: [90, 60, 30], leaf: [0, 128, 0]}"
    content = report(capsys, clean, code=1, classes=classes)
    problems = findings(content, "problems")
    assert list(problems) == [("stray_values", "val/val_0")]
    file = clean.root / "masks" / "val_0.png"
    assert problems["stray_values", "val/val_0"].startswith(f"{file} holds colours that belong to no class: [1, 2, 3]")


def test_multilabel_masks(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    planes = {}
    for name in ("a", "b", "c"):
        folder.add("val" if name == "c" else "train", name)
        (folder.root / "masks" / f"{name}.png").unlink()
        planes[name] = folder.rng.integers(0, 2, (*SIZE, 2), dtype=np.uint8) if name != "b" else np.zeros((*SIZE, 2))
        for i, part in enumerate(("left", "right")):
            (folder.root / "masks" / part).mkdir(exist_ok=True)
            file = folder.root / "masks" / part / f"{name}.png"
            Image.fromarray((planes[name][..., i] * 255).astype(np.uint8)).save(file)
    options = ["--data.mask_format=multilabel"]
    content = report(capsys, folder, *options, classes="[left, right]")
    assert findings(content, "warnings") == {("empty_mask", "train/b"): "no class"}
    both = np.stack([planes["a"], planes["b"]])
    for i, entry in enumerate(content["splits"]["train"]["classes"]):
        assert entry["share"] == both[..., i].mean()
        assert entry["images"] == 1
    assert content["splits"]["train"]["ignored_share"] == 0
    assert "ignored  " not in check(capsys, folder, *options, classes="[left, right]")

    Image.fromarray(np.zeros((5, 7), np.uint8)).save(folder.root / "masks" / "left" / "a.png")
    content = report(capsys, folder, *options, code=1, classes="[left, right]")
    assert ("size_mismatch", "train/a") in findings(content, "problems")


def test_coco_shapes(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools")
    shapes = {"a": [[2, 3, 9, 3, 9, 8]], "b": [[2, 3, 9, 8]], "c": []}  # b's has two points alone
    names = list(shapes)
    for name in names:
        folder.add("val" if name == "c" else "train", name)
    outlines = [(i, shape) for i, shape in enumerate(shapes.values()) if shape]
    coco = {
        "images": [{"id": i, "file_name": f"{name}.png", "height": 19, "width": 23} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "segmentation": shape} for i, shape in outlines],
        "categories": [{"id": 1, "name": "leaf"}],
    }
    (folder.root / "all.json").write_text(json.dumps(coco))
    for split, listed in folder.lists.items():
        (folder.root / f"{split}.txt").write_text("".join(f"{name}.png\n" for name in listed))
    content = report(capsys, folder, "--data.coco=all.json", code=1, classes="[ground, leaf]")
    (reason,) = findings(content, "problems").values()
    assert reason.startswith(
        f"{folder.root}/all.json, image b.png: a shape of leaf can't be drawn: a polygon needs three"
    )
    assert findings(content, "warnings") == {("empty_mask", "val/c.png"): "nothing but ground"}
    assert content["splits"]["train"]["classes"][1]["images"] == 1


def test_16_bit_images(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    deep: dict[str, NDArray[np.uint16]] = {}
    for name in ("a", "b", "c", "d"):
        folder.add("val" if name in "cd" else "train", name)
        deep[name] = folder.rng.integers(3, 4000, SIZE).astype(np.uint16) if name != "d" else deep["a"]
        Image.fromarray(deep[name]).save(folder.root / "images" / f"{name}.png")
    content = report(capsys, folder, "--data.in_channels=1", code=1)
    assert list(findings(content, "problems")) == [("shared_between_splits", "train/a", "val/d")]
    pixels = np.concatenate([deep["a"].ravel(), deep["b"].ravel()]).astype(np.float64)
    np.testing.assert_allclose(content["mean"], [pixels.mean() / 65535], rtol=1e-6)
    np.testing.assert_allclose(content["std"], [pixels.std() / 65535], rtol=1e-6)
    (warning,) = content["warnings"]
    assert warning["kind"] == "value_range"
    assert re.search(r"from 4.+e-05 to 0\.06.*, where 1 is full brightness; .* --data\.max_value", warning["reason"])
    assert report(capsys, folder, "--data.in_channels=1", "--data.max_value=4095", code=1)["warnings"] == []
    (warning,) = report(capsys, folder, "--data.in_channels=1", "--data.max_value=3000", code=1)["warnings"]
    assert warning["kind"] == "value_range"


def test_a_recipe_brings_its_data(clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = {
        "seed_everything": 0,
        "ckpt_path": None,
        "data": {"root": str(clean.root), "classes": CLASSES, "crop_size": 32, "scale_range": [0.6, 1.6]},
        "model": {"encoder": "resnet18", "lr": 0.1, "upsample": {"kernel_size": 6}},
        "trainer": {"max_epochs": 3},
        "optimizer": None,
    }
    file = clean.root.parent / "my.yaml"
    file.write_text(yaml.safe_dump(recipe))
    assert main(["check-data", f"--config={file}", "--model.lr=3", "--trainer.max_epochs", "4"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.endswith("no problems in 6 pairs\n")


@pytest.mark.parametrize("config", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_recipe_is_understood(config: Path, clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", f"--config={config}", f"--data.root={clean.root}", f"--data.classes={CLASSES}"]) == 0
    assert capsys.readouterr().err == ""


def test_a_report_is_replaced(clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    (clean.root.parent / "report.json").write_text("an old one")
    assert report(capsys, clean)["data"] == f"{clean.root} (3 train, 1 val, 2 test images; 3 classes)"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--data.rot=x"], 2, r"--data.rot.* Did you mean --data.root\?"),
        (["--jsn=x"], 2, r"--jsn.* Did you mean --json\?"),
        (["--data.num_workers=many"], 2, r"data.num_workers.*many"),
        (["--data.num_workers=-1"], 1, r"num_workers -1: must be at least 0"),
        (["--config=nowhere.yaml"], 2, r"nowhere.yaml"),
        ([], 1, r"check-data reads your own data: give its folder as --data.root"),
        (["--data.root=nowhere"], 1, r"nowhere: there is no such folder"),
        (["--data.root=nowhere", "--json=nowhere/a.json"], 1, r"--json is nowhere/a.json; there is no folder nowhere"),
        (["--json=."], 1, r"--json is \., which is a folder; give the name of a file"),
    ],
)
def test_mistakes_are_explained(
    args: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given: int | None = 2
    with contextlib.suppress(SystemExit):
        given = main(["check-data", *args])
    said = capsys.readouterr()
    assert given == code
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert re.search(rf"^error: .*{message}", said.err), said.err


def test_a_pair_that_lacks_its_half_stops_it(clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    (clean.root / "masks" / "val_0.png").unlink()
    assert main(["check-data", f"--data.root={clean.root}", f"--data.classes={CLASSES}"]) == 1
    assert re.search(r"^error: .*val.txt: 1 without a mask \(val_0\)", capsys.readouterr().err)


def test_help_says_what_is_wrong_and_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["check-data", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "Problems, with exit code 1: " in said
    assert "Warnings, with exit code 0: " in said
