"""Pictures of validation images: what they show, where they go, and that a training doesn't notice."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback, WeightAveraging
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from unetseg.callbacks import SamplePictures
from unetseg.drawing import paint, palette
from unetseg.errors import OptionError
from unetseg.task import SegmentationTask

Build = Callable[..., Any]

SIZE = 844, 506  # width and height of a sheet of the two validation images, 35 x 41 and 67 x 33 pixels
TOP, FIRST, COLUMN, FACTOR = 54, 10, 278, 6  # where the first image stands, from column to column, its enlargement


def pictures(tmp_path: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted((tmp_path / "run" / "pictures").glob("*"))}


def first_row(picture: np.ndarray, column: int, size: tuple[int, int] = (41, 35)) -> np.ndarray:
    """The first image, at its own size."""
    left = FIRST + column * COLUMN
    shown = picture[TOP : TOP + FACTOR * size[0], left : left + FACTOR * size[1]]
    for shift in range(1, FACTOR):  # enlarged, not interpolated
        np.testing.assert_array_equal(shown[::FACTOR, ::FACTOR], shown[shift::FACTOR, shift::FACTOR])
    return shown[::FACTOR, ::FACTOR]


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("mode", ["binary", "multiclass"])
def test_input_target_and_prediction_stand_side_by_side(
    mode: str, squares: Path, tmp_path: Path, trainer: Build, data: Build, threshold: Build
) -> None:
    mask = read(squares / "masks" / "val_0.png").copy()
    mask[:3, :7] = 255
    Image.fromarray(mask).save(squares / "masks" / "val_0.png")
    trainer(callbacks=[SamplePictures()], max_epochs=2).fit(threshold(mode), data())
    shown = pictures(tmp_path)
    assert list(shown) == ["epoch_001.png", "epoch_002.png"]
    np.testing.assert_array_equal(shown["epoch_001.png"], shown["epoch_002.png"])  # this network doesn't learn
    picture = shown["epoch_001.png"]
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    image = read(squares / "images" / "val_0.png")
    np.testing.assert_array_equal(first_row(picture, 0), image)
    target = first_row(picture, 1)
    assert {tuple(color) for color in target[:3, :7].reshape(-1, 3)} == {(128, 128, 128)}
    np.testing.assert_array_equal(target, paint(mask, palette(2), 255))
    np.testing.assert_array_equal(first_row(picture, 2), paint((image.mean(axis=2) > 120).astype(np.uint8), palette(2)))


def test_several_classes_a_pixel(squares: Path, tmp_path: Path, trainer: Build, data: Build, threshold: Build) -> None:
    names = ["first", "last"]
    for path in sorted((squares / "masks").glob("*.png")):
        mask = read(path)
        for i, name in enumerate(names):
            (squares / "masks" / name).mkdir(exist_ok=True)
            plane = np.roll(mask, 5 * i, axis=1)
            Image.fromarray(plane).save(squares / "masks" / name / path.name)
        path.unlink()
    trainer(callbacks=[SamplePictures()]).fit(threshold("multilabel"), data(classes=names, mask_format="multilabel"))
    picture = pictures(tmp_path)["epoch_001.png"]
    first, last = (read(squares / "masks" / name / "val_0.png") for name in names)
    _, red, other = palette(3)
    expected = paint(np.where(last == 1, 2, first).astype(np.uint8), [(0, 0, 0), red, other])
    np.testing.assert_array_equal(first_row(picture, 1), expected)
    assert {tuple(color) for color in first_row(picture, 2).reshape(-1, 3)} == {other}  # it is predicted everywhere


def test_classes_have_the_colours_of_the_masks(
    squares: Path, tmp_path: Path, trainer: Build, data: Build, threshold: Build
) -> None:
    colors = [(0, 0, 90), (250, 250, 0)]
    for path in (squares / "masks").glob("*.png"):
        Image.fromarray(paint(read(path), colors)).save(path)
    own = {"background": [list(colors[0])], "square": [list(colors[1]), [1, 1, 1]]}
    trainer(callbacks=[SamplePictures()]).fit(threshold(), data(classes=own))
    picture = pictures(tmp_path)["epoch_001.png"]
    np.testing.assert_array_equal(first_row(picture, 1), read(squares / "masks" / "val_0.png"))
    assert {tuple(color) for color in first_row(picture, 2).reshape(-1, 3)} == set(colors)


def test_a_large_image_is_cropped_to_its_centre(
    squares: Path, tmp_path: Path, trainer: Build, data: Build, threshold: Build
) -> None:
    image = np.zeros((1100, 1300, 3), np.uint8)
    image[550, 650] = 255
    mask = np.zeros((1100, 1300), np.uint8)
    mask[38 + 512 :, :] = 1
    Image.fromarray(image).save(squares / "images" / "val_0.png")
    Image.fromarray(mask).save(squares / "masks" / "val_0.png")
    (squares / "val.txt").write_text("val_0")
    task = threshold()
    trainer(callbacks=[SamplePictures()], num_sanity_val_steps=0).fit(task, data())
    assert [size for size, _ in task.seen] == [(1, 3, 1100, 1300), (1, 3, 1024, 1024)]
    picture = pictures(tmp_path)["epoch_001.png"]
    assert picture.shape[1] == 10 + 3 * 522
    target = picture[TOP : TOP + 512, 10 + 522 : 10 + 522 + 512]
    np.testing.assert_array_equal(target[:, 0], np.repeat([(0, 0, 0), palette(2)[1]], 256, axis=0))


def test_a_training_goes_on_as_if_nothing_had_been_drawn(tmp_path: Path, trainer: Build, data: Build) -> None:
    def draw_random_numbers(*_args: object) -> None:
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002

    weights = []
    for callbacks in ([], [SamplePictures(count=2)]):
        pl.seed_everything(3, verbose=False)
        options = {"encoder_depth": 3, "decoder_channels": [16, 8, 8], "block": {"dropout": 0.2}}
        task = SegmentationTask(["background", "square"], **options)
        task.register_forward_pre_hook(draw_random_numbers)
        trainer(callbacks=callbacks, max_epochs=2).fit(task, data())
        weights.append(task.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    shown = pictures(tmp_path)
    before, after = shown["epoch_001.png"], shown["epoch_002.png"]
    prediction = FIRST + 2 * COLUMN
    np.testing.assert_array_equal(before[:, :prediction], after[:, :prediction])  # the same images
    assert not np.array_equal(before, after)


class Modes(Callback):
    """Puts a part of the network into train mode before another callback, and looks at it afterwards."""

    def __init__(self, seen: list[bool], *, change: bool) -> None:
        self.seen, self.change = seen, change

    @property
    def state_key(self) -> str:
        return f"Modes {self.change}"

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.change:
            pl_module.part.train()
        self.seen.append((pl_module.training, pl_module.part.training))


def test_every_part_keeps_its_mode(trainer: Build, data: Build, threshold: Build) -> None:
    task, seen = threshold(), []
    task.part = torch.nn.Dropout()
    callbacks = [Modes(seen, change=True), SamplePictures(), Modes(seen, change=False)]
    trainer(callbacks=callbacks, num_sanity_val_steps=0).fit(task, data())
    assert seen == [(False, True), (False, True)]


def test_the_weights_are_those_that_were_validated(trainer: Build, data: Build, threshold: Build) -> None:
    task = threshold()
    trainer(callbacks=[SamplePictures(), WeightAveraging()], num_sanity_val_steps=0).fit(task, data())
    validated, drawn = [weight for _, weight in task.seen[:2]], [weight for _, weight in task.seen[2:]]
    assert len(drawn) == 2
    assert set(drawn) == set(validated)
    assert drawn[0] != -2  # two steps from 0, without averaging


@pytest.mark.parametrize(
    ("options", "verb", "expected"),
    [
        ({"count": 0}, "fit", []),
        ({"every_n_epochs": 2}, "fit", ["epoch_002.png"]),
        ({}, "validate", []),
        ({}, "test", []),
        ({}, "sanity", []),
        ({}, "fast", []),
    ],
)
def test_when_pictures_are_drawn(
    options: dict[str, int],
    verb: str,
    expected: list[str],
    tmp_path: Path,
    trainer: Build,
    data: Build,
    threshold: Build,
) -> None:
    settings = {"sanity": {"max_epochs": 0}, "fast": {"fast_dev_run": True}}.get(verb, {"max_epochs": 3})
    one = trainer(callbacks=[SamplePictures(**options)], **settings)
    if verb in ("validate", "test"):
        getattr(one, verb)(threshold(), data(), verbose=False)
    elif verb == "sanity":

        class Stop(Callback):
            def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
                raise InterruptedError

        one.callbacks.append(Stop())
        one.fit_loop.max_epochs = 1
        with pytest.raises(InterruptedError):
            one.fit(threshold(), data())
    else:
        one.fit(threshold(), data())
    assert list(pictures(tmp_path)) == expected


def test_loaders_of_other_data_are_refused_once(
    tmp_path: Path, trainer: Build, data: Build, threshold: Build, recwarn: pytest.WarningsRecorder
) -> None:
    module = data()
    other = DataLoader([{"image": torch.zeros(3, 32, 32)}], batch_size=1)
    trainer(callbacks=[SamplePictures()], max_epochs=2).fit(threshold(), module.train_dataloader(), other)
    assert sum("it needs the validation images of SegmentationDataModule" in str(one.message) for one in recwarn) == 1
    assert pictures(tmp_path) == {}
    trainer(callbacks=[SamplePictures()]).fit(threshold(), module.train_dataloader(), module.val_dataloader())
    assert list(pictures(tmp_path)) == ["epoch_001.png"]  # loaders alone do, if they are those


def test_a_full_disk_is_said_once_and_ends_nothing(
    tmp_path: Path,
    trainer: Build,
    data: Build,
    threshold: Build,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    def fill_the_disk(_image: Image.Image, path: Path, **_options: object) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fill_the_disk)
    one = trainer(callbacks=[SamplePictures()], max_epochs=2)
    one.fit(threshold(), data())
    assert one.current_epoch == 2
    said = [str(warning.message) for warning in recwarn if "couldn't be drawn" in str(warning.message)]
    assert said == ["pictures of epoch 1 couldn't be drawn: [Errno 28] No space left on device"]
    assert pictures(tmp_path) == {}


def test_tensorboard_shows_them(tmp_path: Path, trainer: Build, data: Build, threshold: Build) -> None:
    logger = TensorBoardLogger(tmp_path, name="board")
    trainer(callbacks=[SamplePictures()], max_epochs=2, logger=logger).fit(threshold(), data())
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    images = events.Images("pictures")
    assert [(image.step, image.width, image.height) for image in images] == [(2, *SIZE), (4, *SIZE)]
    assert len(list(Path(logger.log_dir, "pictures").glob("*.png"))) == 2


def test_senseless_numbers_are_refused() -> None:
    with pytest.raises(OptionError, match="count is -1 and every_n_epochs 1; give at least 0 and 1"):
        SamplePictures(count=-1)
    with pytest.raises(OptionError, match="every_n_epochs 0"):
        SamplePictures(every_n_epochs=0)


@pytest.mark.slow
def test_one_of_two_processes_draws(squares: Path, tmp_path: Path) -> None:
    script = f"""
import pytorch_lightning as pl
from unetseg.callbacks import SamplePictures
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.task import SegmentationTask
pl.seed_everything(0, verbose=False)
task = SegmentationTask(["background", "square"], encoder_depth=3, decoder_channels=[16, 8, 8])
data = SegmentationDataModule({str(squares)!r}, task.classes, num_workers=0, crop_size=32, batch_size=1)
pl.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False, max_epochs=2,
    callbacks=[SamplePictures()], default_root_dir={str(tmp_path / "run")!r}, enable_checkpointing=False,
).fit(task, data)
"""
    file = tmp_path / "script.py"
    file.write_text(script)
    run = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    shown = pictures(tmp_path)
    assert [picture.shape for picture in shown.values()] == [(SIZE[1], SIZE[0], 3)] * 2
