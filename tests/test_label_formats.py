"""Whatever labels a person has: fit, test and predict from each kind, on the command line, without a conversion."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from small_jobs import TINY

from unetseg import Predictor, UNet
from unetseg.__main__ import main
from unetseg.inference.outputs import OutputWriter
from unetseg.inference.prediction import Prediction

BEST = "runs/version_0/best.ckpt"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fit_and_test(root: Path, *options: str) -> dict[str, str]:
    """Train, test and predict with what is said of the labels, and nothing else; the last line of the metrics."""
    assert main(["fit", f"--data.root={root}", "--trainer.max_epochs=1", *TINY, *options]) == 0
    assert main(["test", f"--ckpt_path={BEST}"]) == 0
    assert main(["predict", str(root / "images"), f"--ckpt_path={BEST}", "--output=out", "--save=mask,overlay"]) == 0
    with Path("runs/version_0/metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["val_iou"]][-1]


def rewrite(folder: Path, change: Callable[[np.ndarray], object]) -> None:
    """Save every mask anew, as what ``change`` makes of its indices."""
    for path in folder.glob("*.png"):
        mask = np.asarray(Image.open(path))
        changed = change(mask)
        (changed if isinstance(changed, Image.Image) else Image.fromarray(np.asarray(changed))).save(path)


def test_coloured_masks(squares: Path) -> None:
    colours = np.array([[70, 130, 180], [128, 64, 128]], np.uint8)
    rewrite(squares / "masks", lambda mask: colours[mask])
    row = fit_and_test(squares, "--data.classes={background: [70, 130, 180], square: [128, 64, 128]}")
    assert row["val_iou_square"]
    with Image.open("out/val_1.png") as mask:
        assert mask.getpalette()[:6] == colours.reshape(-1).tolist()  # predictions show the colours of the masks
        assert set(np.unique(np.asarray(mask))) <= {0, 1}


def test_mapped_16_bit_values(squares: Path) -> None:
    values = np.array([7, 1007], np.uint16)
    rewrite(squares / "masks", lambda mask: values[mask])
    row = fit_and_test(
        squares, "--data.classes=[background, square]", "--data.value_map={7: 0, 1007: 1, 65535: ignore}"
    )
    assert row["val_iou_square"]


def test_a_mask_for_each_class(squares: Path) -> None:
    whole = squares / "masks"
    for path in list(whole.glob("*.png")):
        mask = np.asarray(Image.open(path))
        for name, plane in (("square", mask), ("left half", np.zeros_like(mask))):
            plane = plane.copy()
            if name == "left half":
                plane[:, : mask.shape[1] // 2] = 1
            (whole / name).mkdir(exist_ok=True)
            Image.fromarray(plane * np.uint8(255)).save(whole / name / path.name)
        path.unlink()
    row = fit_and_test(squares, "--data.mask_format=multilabel")
    assert row["val_iou_square"]
    assert row["val_iou_left half"]
    assert torch.load(BEST, weights_only=True)["hyper_parameters"]["classes"] == ["left half", "square"]
    both = [np.asarray(Image.open(f"out/{name}/val_1.png")) for name in ("left half", "square")]
    assert [set(np.unique(plane)) <= {0, 1} for plane in both] == [True, True]
    classes = Predictor.from_checkpoint(BEST, device="cpu")(np.asarray(Image.open(squares / "images/val_1.png")))
    np.testing.assert_array_equal(classes, np.stack(both))
    legend = json.loads(Path("out/_legend.json").read_text())
    assert [(entry["folder"], entry["value"]) for entry in legend] == [("left half", 1), ("square", 1)]
    assert Path("out/val_1.overlay.jpg").is_file()


def test_each_class_has_a_folder_of_its_own(tmp_path: Path) -> None:
    names = ["c+", "c/", "c:", "C_", "..", "night.time"]
    predictor = Predictor(UNet(encoder_depth=3, classes=len(names)), names, mode="multilabel", device="cpu")
    writer = OutputWriter(tmp_path / "out", predictor.description)
    assert writer.legend.folders == ("c+", "c_", "c__2", "C__3", "_", "night.time")
    planes = np.eye(6, 15, dtype=np.uint8).reshape(6, 3, 5)
    writer.write(Path("a.jpg"), Path("a"), np.zeros((3, 5, 3), np.uint8), Prediction(planes))
    for folder, plane in zip(writer.legend.folders, planes, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / folder / "a.png")), plane)


def coco_of(masks: Path, split: str) -> dict[str, object]:
    """A COCO file of the squares: the outline of each, as a polygon."""
    images, shapes = [], []
    for number, path in enumerate(sorted(masks.glob(f"{split}_*.png"))):
        mask = np.asarray(Image.open(path))
        rows, columns = np.nonzero(mask)
        top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        outline = [left, top, right, top, right, bottom, left, bottom]
        height, width = mask.shape
        images.append({"id": number, "file_name": path.name, "height": height, "width": width})
        shapes.append({"id": number, "image_id": number, "category_id": 5, "segmentation": [[int(v) for v in outline]]})
    return {"images": images, "annotations": shapes, "categories": [{"id": 5, "name": "square"}]}


def test_coco(squares: Path) -> None:
    for split in ("train", "val", "test"):
        (squares / f"{split}.json").write_text(json.dumps(coco_of(squares / "masks", split)))
    row = fit_and_test(squares, "--data.coco={train: train.json, val: val.json, test: test.json}")
    assert {"val_iou_background", "val_iou_square"} <= set(row)


def test_a_manifest_of_multi_band_images(squares: Path) -> None:
    (squares / "images").rename(squares / "rgb")
    (squares / "images").mkdir()
    lines = ["image,mask,split"]
    rng = np.random.default_rng(0)
    for path in sorted((squares / "rgb").glob("*.png")):
        image = np.asarray(Image.open(path)).astype(np.uint16) * 200
        bands = np.concatenate([image, rng.integers(0, 51_000, (*image.shape[:2], 2), dtype=np.uint16)], axis=2)
        tifffile.imwrite(
            squares / "images" / f"{path.stem}.tif", bands, photometric="minisblack", planarconfig="contig"
        )
        lines.append(f"images/{path.stem}.tif,masks/{path.name},{path.stem.split('_')[0]}")
        (squares / f"{path.stem.split('_')[0]}.txt").unlink(missing_ok=True)
    (squares / "pairs.csv").write_text("\n".join(lines))
    options = ["--data.manifest=pairs.csv", "--data.in_channels=5", "--data.max_value=51000"]
    mean = ["--model.mean=[0.3, 0.3, 0.3, 0.5, 0.5]", "--model.std=[0.2, 0.2, 0.2, 0.3, 0.3]"]
    fit_and_test(squares, "--data.classes=[background, square]", *options, *mean)
    saved = torch.load(BEST, weights_only=True)
    assert saved["state_dict"]["model.encoder.conv1.weight"].shape[1] == 5
    np.testing.assert_allclose(saved["state_dict"]["model.mean"].flatten(), [0.3, 0.3, 0.3, 0.5, 0.5])
    predictor = Predictor.from_checkpoint(BEST, device="cpu")
    image = predictor.read(squares / "images" / "val_1.tif")
    assert (image.shape[2], image.dtype) == (5, np.float32)
    assert 0.9 < image.max() <= 1
    np.testing.assert_array_equal(predictor(image), np.asarray(Image.open("out/val_1.png")))


def test_channels_and_their_statistics_must_agree(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["fit", f"--data.root={squares}", "--data.classes=[background, square]", *TINY]
    assert main([*own, "--data.in_channels=4", "--model.mean=[0.5, 0.5, 0.5]"]) == 1
    assert "mean has 3 values; the image has in_channels=4" in capsys.readouterr().err
    assert main([*own, "--data.in_channels=4"]) == 1
    assert (
        "has 3 channels, and 4 are wanted. If all images have 3, train with --data.in_channels 3"
        in capsys.readouterr().err
    )


def test_a_checkpoint_fixes_the_kind_of_labels(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["fit", f"--data.root={squares}", "--data.classes=[background, square]", *TINY, "--trainer.max_epochs=1"])
        == 0
    )
    capsys.readouterr()
    assert main(["test", f"--ckpt_path={BEST}", "--data.mask_format=multilabel"]) == 1
    assert "--data.mask_format is multilabel; " in capsys.readouterr().err
    assert main(["test", f"--ckpt_path={BEST}", "--data.in_channels=1"]) == 1
    assert "--data.in_channels is 1; runs/version_0/best.ckpt was trained with 3" in capsys.readouterr().err


def test_a_single_class_of_which_a_pixel_has_any_number(squares: Path) -> None:
    (squares / "masks").rename(squares / "square")
    (squares / "masks").mkdir()
    (squares / "square").rename(squares / "masks" / "square")
    assert fit_and_test(squares, "--data.mask_format=multilabel")["val_iou_square"]
    assert list(Path("runs").rglob("best.ckpt")) == [Path(BEST)]  # a test leaves no copy


def test_a_coco_category_is_not_the_ground(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val"):
        (squares / f"{split}.json").write_text(json.dumps(coco_of(squares / "masks", split)))
    own = [f"--data.root={squares}", "--data.coco={train: train.json, val: val.json}"]
    assert main(["fit", *own, "--data.classes=[square, other]", *TINY]) == 1
    assert "square is a category; put another name before it: [background, square, other]" in capsys.readouterr().err
