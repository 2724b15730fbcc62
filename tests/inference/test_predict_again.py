"""A run that goes on after another: only what is missing is made, and the end is that of an unbroken run."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from killing import Moment, run
from PIL import Image
from prediction_jobs import files, make_task, pixels, predict, save, write_image, write_raster

from unetseg.errors import DataError

ALL = "--save=mask,overlay,probabilities,polygons,shares"


def times(folder: Path) -> dict[str, int]:
    """When each file was written; but for the legend and the shares, which every run writes."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("_")]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos and a scene."""
    for number in range(3):
        write_image(tmp_path / "in" / f"{number}.png", 33, 30 + number)
    write_raster(tmp_path / "in" / "scene.tif", pixels(71, 66))
    return tmp_path / "in"


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_only_what_is_missing_is_made(
    tmp_path: Path, photos: Path, checkpoints: dict[str, Path], mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, out = checkpoints[mode], tmp_path / "out"
    assert predict(photos, checkpoint, out, ALL) == 0
    whole, before = files(out), times(out)
    folder = out / "road" if mode == "multilabel" else out
    (folder / "1.png").unlink()
    (out / "scene.geojson").unlink()
    lines = (out / "_shares.jsonl").read_text().splitlines(keepends=True)
    (out / "_shares.jsonl").write_text("".join(line for line in lines if '"2.png"' not in line))
    capsys.readouterr()
    assert predict(photos, checkpoint, out, ALL, "--skip_existing") == 0
    assert capsys.readouterr().out == f"3 of 4 images predicted to {out}, 1 were there\n"
    assert files(out) == whole
    renewed = {Path(name).name.split(".")[0] for name, time in times(out).items() if time != before[name]}
    assert renewed == {"1", "2", "scene"}
    before = times(out)
    assert predict(photos, checkpoint, out, ALL, "--skip_existing") == 0
    assert (files(out), times(out)) == (whole, before)
    assert predict(photos, checkpoint, out, ALL) == 0  # without, all are made
    assert files(out) == whole
    assert all(time != before[name] for name, time in times(out).items())


def test_a_kind_that_is_asked_for_later_is_made(tmp_path: Path, photos: Path, checkpoint: Path) -> None:
    assert predict(photos, checkpoint, tmp_path / "whole", ALL) == 0
    for kinds in ("mask", "mask,shares", "overlay", "mask,overlay,shares,polygons,probabilities"):
        assert predict(photos, checkpoint, tmp_path / "out", f"--save={kinds}", "--skip_existing") == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_images_that_failed_are_tried_again(tmp_path: Path, photos: Path, checkpoint: Path) -> None:
    (photos / "1.png").write_bytes(b"")
    assert predict(photos, checkpoint, tmp_path / "out", ALL) == 1
    assert predict(photos, checkpoint, tmp_path / "out", ALL, "--skip_existing") == 1
    write_image(photos / "1.png", 33, 31)
    assert predict(photos, checkpoint, tmp_path / "out", ALL, "--skip_existing") == 0
    assert predict(photos, checkpoint, tmp_path / "whole", ALL) == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_masks_of_other_classes_are_refused(tmp_path: Path, photos: Path, checkpoint: Path) -> None:
    other = save(make_task(classes=["ground", "water", "road"]), tmp_path / "other.ckpt")
    assert predict(photos, other, tmp_path / "out") == 0
    before = files(tmp_path / "out")
    with pytest.raises(DataError, match=r"have the classes ground, water, road, those of this model are ground, road"):
        predict(photos, checkpoint, tmp_path / "out", "--skip_existing")
    assert files(tmp_path / "out") == before


def check_whole(folder: Path) -> None:
    """Every file that has a name of its own opens, to its last byte."""
    for path in folder.rglob("*"):
        if path.is_dir() or path.name.startswith(".") or path.suffix == ".part":
            continue
        if path.suffix == ".npy":
            assert np.load(path).size
        elif path.suffix in (".geojson", ".json"):
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            assert all(json.loads(line) for line in path.read_text().splitlines())
        else:
            with Image.open(path) as image:
                image.load()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path, photos: Path, checkpoint: Path) -> None:
    for number in range(3, 12):
        write_image(photos / f"{number}.jpg", 60 + 7 * number, 90)
    args = ["predict", str(photos), f"--ckpt_path={checkpoint}", ALL, "--tile=64", "--overlap=16"]
    assert run([*args, f"--output={tmp_path / 'whole'}"], tmp_path / "said") == 0
    whole = files(tmp_path / "whole")
    assert len(whole) == 13 * 4 + 3
    rng = random.Random(0)
    reached = set()
    for _ in range(8):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        for _ in range(2):  # the run that goes on is killed, too
            moment = Moment(rng.randrange(1, 25), after=rng.random() < 0.5)
            assert run([*args, f"--output={out}", "--skip_existing"], tmp_path / "said", moment) == -9
            check_whole(out)
            reached.add(len(list(out.rglob("*.png"))))
        assert run([*args, f"--output={out}", "--skip_existing"], tmp_path / "said") == 0
        assert files(out) == whole
    assert len(reached) > 4
