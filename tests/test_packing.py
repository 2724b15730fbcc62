"""The verb pack, and what trains from its shards."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from small_jobs import TINY

from unetseg import Predictor
from unetseg.__main__ import main
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.errors import DataError

BEST = "runs/version_0/best.ckpt"
CLASSES = "--data.classes=[background, square]"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pack(root: Path, *options: str) -> int | None:
    return main(["pack", f"--data.root={root}", "--output=shards", "--data.num_workers=0", *options])


def metrics(run: str) -> list[dict[str, str]]:
    with Path(run, "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["val_iou"]]


def test_shards_train_validate_and_resume_as_files_do(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pack(squares, CLASSES) == 0
    said = capsys.readouterr().out
    assert "(4 train, 2 val, 2 test images; 2 classes)" in said
    assert "next: python -m unetseg fit --data.shards shards\n" in said
    assert main(["fit", "--data.shards=shards", "--trainer.max_epochs=1", *TINY]) == 0
    assert "data: shards (4 train, 2 val, 2 test images; 2 classes)" in capsys.readouterr().out
    # the same network sees the same validation images, from shards and from files
    assert main(["validate", f"--ckpt_path={BEST}"]) == 0
    from_shards = capsys.readouterr().out
    files = ["--data.shards=null", f"--data.root={squares}"]
    assert main(["validate", f"--ckpt_path={BEST}", *files]) == 0
    table = [line for line in from_shards.splitlines() if line.startswith(("square", "mean"))]
    from_files = capsys.readouterr().out
    assert len(table) == 2
    assert [line for line in table if line not in from_files] == []
    assert main(["test", f"--ckpt_path={BEST}"]) == 0
    assert main(["fit", "--ckpt_path=runs/version_0/last.ckpt", "--trainer.max_epochs=2"]) == 0
    runs = sorted(Path("runs").iterdir())
    assert [row["epoch"] for row in metrics(str(runs[-1]))] == ["1"]


def test_a_recipe_with_a_mode_is_checked_and_packed(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("recipe.yaml").write_text(f"data: {{root: {squares}, classes: [background, square], mode: binary}}")
    assert not main(["check-data", "--config=recipe.yaml"])
    assert not main(["pack", "--config=recipe.yaml", "--output=shards", "--data.num_workers=0"])
    plain, binary = SegmentationDataModule(shards="shards"), SegmentationDataModule(shards="shards", mode="binary")
    assert (plain.mode, binary.mode) == ("multiclass", "binary")
    assert len(binary.class_weights()) == 2
    with pytest.raises(DataError, match=r"--data\.mode multilabel needs a mask a class"):
        SegmentationDataModule(shards="shards", mode="multilabel")


def test_shards_bring_what_masks_mean(squares: Path) -> None:
    colours = np.array([[70, 130, 180], [128, 64, 128]], np.uint8)
    for path in (squares / "masks").iterdir():
        Image.fromarray(colours[np.asarray(Image.open(path))]).save(path)
    assert pack(squares, "--data.classes={background: [70, 130, 180], square: [128, 64, 128]}") == 0
    assert main(["fit", "--data.shards=shards", "--trainer.max_epochs=1", *TINY]) == 0
    assert Predictor.from_checkpoint(BEST, device="cpu").colors == ((70, 130, 180), (128, 64, 128))
    assert main(["test", f"--ckpt_path={BEST}"]) == 0


def test_several_classes_a_pixel_and_16_bit_bands_go_through_shards(squares: Path) -> None:
    for path in (squares / "images").iterdir():
        bands = np.asarray(Image.open(path)).astype(np.uint16)[..., [0, 1, 2, 0]] * 100
        tifffile.imwrite(path.with_suffix(".tif"), bands, photometric="minisblack", planarconfig="contig")
        path.unlink()
    for path in list((squares / "masks").glob("*.png")):
        for name in ("round", "square"):
            (squares / "masks" / name).mkdir(exist_ok=True)
            (squares / "masks" / name / path.name).write_bytes(path.read_bytes())
        path.unlink()
    settings = {"mask_format": "multilabel", "in_channels": 4, "max_value": 25500}
    assert pack(squares, *(f"--data.{name}={value}" for name, value in settings.items())) == 0
    files = SegmentationDataModule(str(squares), num_workers=0, **settings)
    shards = SegmentationDataModule(shards="shards", in_channels=4, num_workers=0)
    assert (shards.mode, shards.classes) == ("multilabel", ["round", "square"])
    for one, other in zip(files.val_dataloader(), shards.val_dataloader(), strict=True):
        assert one["name"] == other["name"]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])
    assert main(["fit", "--data.shards=shards", "--data.in_channels=4", "--trainer.max_epochs=1", *TINY]) == 0
    assert main(["test", f"--ckpt_path={BEST}"]) == 0


def test_mistakes_are_explained(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "--output=shards"]) == 1
    assert "pack writes your own data into shards: give its folder as --data.root" in capsys.readouterr().err
    assert pack(squares, CLASSES) == 0
    assert pack(squares, CLASSES) == 1
    assert "shards exists and isn't empty" in capsys.readouterr().err
    (squares / "masks" / "train_1.png").write_bytes(b"")
    assert main(["pack", f"--data.root={squares}", CLASSES, "--output=others", "--data.num_workers=2"]) == 1
    assert "train_1.png: can't be read as an image: the file is empty" in capsys.readouterr().err
    assert not Path("others").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": "x"}, "--data.root x and --data.shards shards both say where the data is"),
        ({"in_channels": 4}, r"in_channels is 4: shards was packed with 3; give --data\.in_channels 3"),
        ({"ignore_index": 7}, r"ignore_index is 7: shards was packed with 255"),
        ({"max_value": 99}, r"max_value is 99: shards was packed with None; leave it out"),
        ({"classes": ["a", "b"]}, r"classes \[a, b\]: shards was packed with background, square"),
        ({"mask_format": "binary"}, r"mask_format binary .*: the shards know what their masks mean"),
        ({"coco": "a.json"}, r"coco a\.json .*: the shards know what their masks mean"),
    ],
)
def test_shards_and_options_must_agree(squares: Path, options: dict[str, object], message: str) -> None:
    pack(squares, CLASSES)
    with pytest.raises(DataError, match=message):
        SegmentationDataModule(shards="shards", **options)


def test_a_split_that_was_not_packed_is_told(squares: Path) -> None:
    (squares / "test.txt").unlink()
    pack(squares, CLASSES)
    data = SegmentationDataModule(shards="shards", num_workers=0)
    with pytest.raises(DataError, match="shards has no test split; pack data that has one"):
        data.test_dataloader()


@pytest.mark.slow
def test_two_processes_train_from_shards(squares: Path) -> None:
    assert pack(squares, CLASSES) == 0
    distributed = ["--trainer.strategy=ddp", "--trainer.devices=2", "--trainer.max_epochs=2", "--data.num_workers=1"]
    command = [sys.executable, "-m", "unetseg", "fit", "--data.shards=shards", *TINY, *distributed]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert [row["epoch"] for row in metrics("runs/version_0")] == ["0", "1"]
    assert main(["test", f"--ckpt_path={BEST}", *TINY[-2:]]) == 0
    about = json.loads(Path("shards/unetseg.json").read_text())
    assert about["lengths"] == {"train": 4, "val": 2, "test": 2}
