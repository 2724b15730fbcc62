"""What the README shows is true: its code runs, and so do its commands, on a small job."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image
from prediction_jobs import make_task, pixels, save, write_image, write_raster

from unetseg.__main__ import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
PREDICTION = (ROOT / "docs" / "prediction.md").read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """The lines of its shell blocks."""
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


# what ships a network is run by tests/export
SHIPPING = re.search(r"## Ship it\n.*?(?=\n## )", README, re.DOTALL).group()
COMMANDS = [line for line in commands(README) if line not in commands(SHIPPING)]
CODE = re.findall(r"```python\n(.*?)```", README.replace(SHIPPING, ""), re.DOTALL)

# what makes a job small; the encoder's weights can't be had offline
SMALL = (
    "--data.crop_size 32 --data.batch_size 2 --data.num_workers 0 --trainer.max_epochs 1 --model.encoder_weights null"
)


@pytest.fixture
def folder(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a reader of the README types: data of their own, and photos."""
    shutil.copytree(squares, tmp_path / "my_data")
    shutil.copytree(squares, tmp_path / "camvid")
    shutil.copytree(squares, tmp_path / "coloured")
    for path in (tmp_path / "coloured" / "masks").iterdir():
        Image.fromarray(np.array([[0, 0, 0], [128, 64, 128]], np.uint8)[np.asarray(Image.open(path))]).save(path)
    write_coco(squares, tmp_path / "coco_export")
    write_satellite(squares, tmp_path / "satellite")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    write_scene(tmp_path / "scene.tif")
    (tmp_path / "photos").mkdir()
    for path in ("photo.jpg", "photos/a.jpg"):
        Image.fromarray(np.zeros((35, 49, 3), dtype=np.uint8)).save(tmp_path / path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_coco(squares: Path, root: Path) -> None:
    """Images beside one COCO file a split, with a triangle on each."""
    shutil.copytree(squares / "images", root)
    for split in ("train", "val"):
        images, shapes = [], []
        for number, path in enumerate(sorted(root.glob(f"{split}_*.png"))):
            height, width = np.asarray(Image.open(path)).shape[:2]
            images.append({"id": number, "file_name": path.name, "height": height, "width": width})
            triangle = [[2, 2, width - 3, 5, 9, height - 2]]
            shapes.append({"id": number, "image_id": number, "category_id": 1, "segmentation": triangle})
        content = {"images": images, "annotations": shapes, "categories": [{"id": 1, "name": "triangle"}]}
        (root / f"{split}.json").write_text(json.dumps(content))


def write_satellite(squares: Path, root: Path) -> None:
    """Five bands of 16 bits, and a table of them."""
    root.mkdir()
    lines = ["image,mask,split"]
    for path in sorted((squares / "images").iterdir()):
        bands = np.asarray(Image.open(path)).astype(np.uint16)[..., [0, 1, 2, 0, 1]] * 39
        tifffile.imwrite(root / f"{path.stem}.tif", bands, photometric="minisblack", planarconfig="contig")
        shutil.copy(squares / "masks" / path.name, root / f"{path.stem}_water.png")
        lines.append(f"{path.stem}.tif,{path.stem}_water.png,{path.stem.split('_')[0]}")
    (root / "pairs.csv").write_text("\n".join(lines))


def write_scene(path: Path) -> None:
    """A small georeferenced image."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 45, 67), dtype=np.uint8)
    options = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)}
    with rasterio.open(path, "w", driver="GTiff", height=45, width=67, count=3, dtype="uint8", **options) as file:
        file.write(pixels)


@pytest.mark.slow
def test_the_commands_run_one_after_the_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) == 15
    for command in COMMANDS:
        words = shlex.split(command)
        if "--trainer.devices" in words:  # which starts processes, see below
            continue
        assert words[:3] == ["python", "-m", "unetseg"]
        small = shlex.split(SMALL) if words[3] == "fit" else []
        assert main([*words[3:], *small]) == 0, command
    assert (folder / "stage.png").stat().st_size > 0
    printed = capsys.readouterr().out.splitlines()
    shown = [line.removeprefix("    ") for line in README.splitlines() if re.match(r"    (stage|\d) .* \S+$", line)]
    assert len(shown) == 6
    assert [line for line in shown if line not in printed] == []
    assert {path.name for path in (folder / "masks").iterdir()} >= {
        *("photo.png", "a.png", "a.overlay.jpg", "scene.tif", "scene.geojson")
    }


@pytest.mark.slow
def test_the_command_of_two_processes_runs(folder: Path) -> None:
    options = "--data.synthetic_length 4 --model.encoder_depth 3 --data.batch_size 2 --data.num_workers 0"
    assert main(["fit", *shlex.split(options), "--trainer.max_epochs", "1"]) == 0
    (command,) = [shlex.split(command) for command in COMMANDS if "--trainer.devices" in command]
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 images predicted to masks" in done.stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*batch norm:UserWarning")
def test_the_commands_about_training_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of several processes are run by test_distributed."""
    shown = commands(TRAINING)
    assert len(shown) == 5
    for command in shown:
        words = shlex.split(command)
        assert words[:4] == ["python", "-m", "unetseg", "fit"]
        if "--trainer.devices" not in words:
            small = shlex.split(SMALL.replace("--model.encoder_weights null", ""))
            assert main([*words[3:], *([] if "--ckpt_path" in words else small)]) == 0, command


def test_the_options_about_training_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    known = set(re.findall(r"--[\w.]+", capsys.readouterr().out))
    assert set(re.findall(r"--(?:model|data|run|trainer)\.[\w.]+", TRAINING)) - known == set()


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a reader of docs/prediction.md types: a trained model, photos and a scene."""
    (tmp_path / "runs" / "version_0").mkdir(parents=True)
    save(make_task(encoder_depth=5, decoder_channels=[8] * 5), tmp_path / "runs" / "version_0" / "best.ckpt")
    for name, size in {"photo.jpg": (35, 49), "photos/a.jpg": (33, 61), "photos/deep/one.jpg": (64, 50)}.items():
        write_image(tmp_path / name, *size)
    write_raster(tmp_path / "scene.tif", pixels(71, 66))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_about_prediction_run(photos: Path) -> None:
    """But for that of two processes."""
    shown = commands(PREDICTION)
    assert len(shown) == 6
    for command in shown:
        words = shlex.split(command)
        assert words[:4] == ["python", "-m", "unetseg", "predict"]
        if "--trainer.devices" not in words:
            assert main(words[3:]) == 0, command
    table = re.findall(r"^\| `\w+`.*? \| `(deep/one\..*?)` \|", PREDICTION, re.MULTILINE)
    named = re.findall(r"`(scene\.(?:overlay\.|probabilities\.)?tiff?)`", PREDICTION)
    assert (len(table), len(named)) == (4, 3)
    written = {path.relative_to("masks").as_posix() for path in Path("masks").rglob("*") if path.is_file()}
    table.remove("deep/one.geojson")  # polygons are asked for of the scene
    assert {*table, "scene.tif", "scene.geojson", "photo.png", "_shares.jsonl", "_legend.json"} <= written


@pytest.mark.slow
def test_the_command_of_two_processes_about_prediction_runs(photos: Path) -> None:
    (command,) = (line for line in commands(PREDICTION) if "--trainer.devices" in line)
    words = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=photos, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 of 2 images predicted to masks" in done.stdout


def test_the_code_about_prediction_runs(photos: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PREDICTION, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/prediction.md", "exec"), names)
    assert (names["class_map"].shape, names["class_map"].dtype) == ((35, 49), np.uint8)
    np.testing.assert_array_equal(names["prediction"].classes, names["class_map"])
    assert names["prediction"].probabilities.shape == (3, 35, 49)


def test_the_options_about_prediction_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    known = set(re.findall(r"--[\w.]+", capsys.readouterr().out))
    launcher = {"--standalone", "--nproc_per_node", "--nnodes", "--rdzv_backend", "--rdzv_endpoint", "--rdzv_id"}
    assert set(re.findall(r"--[a-z][\w.]+\b", PREDICTION)) - known == launcher


def test_the_code_runs(folder: Path) -> None:
    options = "--data.synthetic_length 4 --model.encoder_depth 3 --data.batch_size 2 --data.num_workers 0"
    assert main(["fit", *shlex.split(options), "--trainer.max_epochs", "1"]) == 0
    assert len(CODE) == 2
    names: dict[str, object] = {}
    for block in CODE:
        exec(compile(block, "README.md", "exec"), names)
    assert names["class_map"].shape == (480, 641)


def test_every_file_it_names_is_there() -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link.split("#")[0]).is_file(), link


@pytest.mark.parametrize(
    "name", [path.stem for path in sorted((ROOT / "benchmarks" / "results").glob("*_mobilenet_v2_cpu.json"))]
)
def test_its_results_are_those_that_were_measured(name: str) -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    (row,) = [line for line in README.splitlines() if line.startswith(f"| {result['name']} |")]
    shown = [cell.strip() for cell in row.strip("|").split("|")]
    assert shown[2:] == [
        str(result["epochs"]),
        str(result["minutes"]),
        f"{result['val_iou']:.3f}",
        f"{result['test_iou']:.3f}",
    ]


def test_it_never_installs_the_other_project() -> None:
    assert not re.search(r"pip install\s+['\"]?unetseg", README)
