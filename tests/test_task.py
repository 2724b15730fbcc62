"""What a validation says doesn't depend on how its images are batched, nor on how many processes share them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from prediction_jobs import make_task, pixels, predict, save
from torch.utils.data import DataLoader

from unetseg import Predictor
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.task import SegmentationTask

SIZES = [(40, 48), (37, 51), (40, 48), (48, 40), (40, 48), (37, 51), (33, 33)]
TRAIN = (48, 48)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Seven validation images of four sizes, one mask of them ignored altogether."""
    rng = np.random.default_rng(0)
    root = tmp_path / "mixed"
    names = [f"{i}" for i in range(len(SIZES))]
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for name, size in zip([*names, "train"], [*SIZES, TRAIN], strict=True):
        mask = rng.choice([0, 1, 2, 255], size).astype(np.uint8)
        if name == "3":
            mask[:] = 255
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(root / f"images/{name}.png")
        Image.fromarray(mask).save(root / f"masks/{name}.png")
    (root / "val.txt").write_text("\n".join(names))
    (root / "train.txt").write_text("train")
    return root


def validate(root: Path, *, reverse: bool = False, **options: Any) -> tuple[dict[str, float], list[int]]:
    """What an untrained network logs, and how many images its batches held."""
    if reverse:
        (root / "val.txt").write_text("\n".join(reversed((root / "val.txt").read_text().split())))
    pl.seed_everything(0, verbose=False)
    task = SegmentationTask(["a", "b", "c"], encoder_depth=3, decoder_channels=[16, 8, 8])
    batches: list[int] = []
    task.register_forward_pre_hook(lambda module, args: batches.append(len(args[0])))
    data = SegmentationDataModule(str(root), ["a", "b", "c"], num_workers=0, **options)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (logged,) = trainer.validate(task, data, verbose=False)
    return dict(logged), batches


def test_figures_do_not_depend_on_batches_or_order(mixed: Path) -> None:
    alone, batches = validate(mixed, val_batch_size=1)
    assert batches == [1] * 7
    together, batches = validate(mixed)
    assert sorted(batches) == [1, 1, 2, 3]
    pairs, batches = validate(mixed, val_batch_size=2, reverse=True)
    assert sorted(batches) == [1, 1, 1, 2, 2]
    assert together == pytest.approx(alone, abs=1e-6)
    assert pairs == pytest.approx(alone, abs=1e-6)
    by_class = {f"val_{name}{of}" for name in ("iou", "dice", "boundary_iou") for of in ("", "_a", "_b", "_c")}
    assert {"val_loss", "val_accuracy", "val_micro_iou", "val_image_iou", *by_class} == set(alone)


def test_an_image_that_does_not_count_changes_nothing(mixed: Path) -> None:
    """As the last batch of a process that has fewer than the others."""
    task = SegmentationTask(["a", "b", "c"], encoder_depth=3, decoder_channels=[16, 8, 8])
    data = SegmentationDataModule(str(mixed), ["a", "b", "c"], num_workers=0)
    loader = data.val_dataloader()
    (uncounted,) = [loader.collate_fn(loader.dataset[~2])]
    assert uncounted["name"] == []
    assert uncounted["mask"].unique().tolist() == [255]
    task.eval()
    task.validation_step(uncounted, 0)
    assert task.val_scores.confmat.sum() == 0
    assert task.val_loss.weight == 0


def test_a_task_that_has_been_validated_can_be_fitted(mixed: Path) -> None:
    """Lightning validates in inference mode, whose tensors nothing may change afterwards."""
    task = SegmentationTask(["a", "b", "c"], encoder_depth=3, decoder_channels=[16, 8, 8])
    data = SegmentationDataModule(str(mixed), ["a", "b", "c"], num_workers=0, crop_size=32, batch_size=1)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=1, enable_checkpointing=False, **quiet)
    trainer.validate(task, data, verbose=False)
    trainer.fit(task, data)
    assert "val_iou" in trainer.callback_metrics


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_a_few_batches_can_be_overfitted(mixed: Path) -> None:
    """Lightning then puts samplers of its own in place of the loaders'."""
    task = SegmentationTask(["a", "b", "c"], encoder_depth=3, decoder_channels=[16, 8, 8])
    data = SegmentationDataModule(str(mixed), ["a", "b", "c"], num_workers=0, crop_size=32, batch_size=1)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=1, enable_checkpointing=False, overfit_batches=1, **quiet)
    trainer.fit(task, data)
    assert "val_iou" in trainer.callback_metrics


@pytest.mark.slow
def test_two_processes_say_what_one_says(mixed: Path) -> None:
    """Five batches don't divide by two, so one process has a repeated image that mustn't count."""
    alone, _ = validate(mixed, val_batch_size=2)
    script = f"""
import json, pytorch_lightning as pl
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.task import SegmentationTask
pl.seed_everything(0, verbose=False)
task = SegmentationTask(["a", "b", "c"], encoder_depth=3, decoder_channels=[16, 8, 8])
data = SegmentationDataModule({str(mixed)!r}, ["a", "b", "c"], num_workers=0, val_batch_size=2)
trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False)
logged = trainer.validate(task, data, verbose=False)[0]
if trainer.is_global_zero:
    print("LOGGED", json.dumps(logged))
"""
    file = mixed.parent / "script.py"
    file.write_text(script)
    run = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("LOGGED")]
    assert json.loads(line.removeprefix("LOGGED")) == pytest.approx(alone, abs=1e-6)


def test_several_classes_a_pixel_learn_on_their_own() -> None:
    """Two classes, both of them everywhere in the left half: softmax could give a pixel one of them alone."""
    pl.seed_everything(0, verbose=False)
    task = SegmentationTask(["x", "y"], encoder_depth=3, decoder_channels=[16, 8, 8], mode="multilabel")
    task.log = lambda *args, **options: None
    image = torch.full((4, 3, 32, 32), 40, dtype=torch.uint8)
    image[..., :16] = 200
    mask = torch.zeros(4, 2, 32, 32, dtype=torch.uint8)
    mask[..., :16] = 1
    batch = {"image": image, "mask": mask, "name": list("abcd")}
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    task.train()
    for step in range(30):
        optimizer.zero_grad()
        task.training_step(batch, step).backward()
        optimizer.step()
    task.eval()
    with torch.no_grad():
        task.validation_step(batch, 0)
    assert (task.val_scores.compute()["iou"] > 0.9).all()


@pytest.mark.parametrize(
    ("mode", "precision"),
    [("multiclass", "32-true"), ("binary", "32-true"), ("multilabel", "32-true"), ("multiclass", "bf16-mixed")],
)
def test_trainer_command_and_predictor_give_the_same_classes(
    squares: Path, tmp_path: Path, mode: str, precision: str
) -> None:
    task = make_task(mode, ["background", "square"])
    checkpoint = save(task, tmp_path / "best.ckpt")
    data = SegmentationDataModule(str(squares), ["background", "square"], num_workers=0)
    options: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    trainer = pl.Trainer(precision=precision, enable_progress_bar=False, enable_model_summary=False, **options)
    predicted = trainer.predict(task, dataloaders=data.test_dataloader())
    images = [squares / "images" / f"test_{i}.png" for i in range(2)]
    assert predict(images, checkpoint, tmp_path / "masks", f"--trainer.precision={precision}") == 0
    predictor = Predictor.from_checkpoint(checkpoint, device="cpu", precision=precision)
    assert len(predicted) == len(images)
    for classes, path in zip(predicted, images, strict=True):
        expected = predictor(predictor.read(path))
        assert (classes.dtype, classes.device.type) == (torch.uint8, "cpu")
        assert 0 < expected.mean() < 1
        np.testing.assert_array_equal(classes, expected[None])
        folders = ["background", "square"] if mode == "multilabel" else [""]
        masks = np.stack([np.asarray(Image.open(tmp_path / "masks" / one / path.name)) for one in folders])
        np.testing.assert_array_equal(masks.squeeze(), expected.squeeze())


def test_a_batch_is_predicted_image_by_image() -> None:
    """In a batch, other kernels may round otherwise."""
    task = make_task("multiclass")
    images = torch.from_numpy(np.stack([pixels(45, 37), pixels(45, 37)[::-1], 255 - pixels(45, 37)])).permute(
        0, 3, 1, 2
    )
    loader = [{"image": images[:2], "name": ["a", "b"]}, {"image": images[2:].float() / 255, "name": ["c"]}]
    options: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    trainer = pl.Trainer(enable_progress_bar=False, enable_model_summary=False, **options)
    first, second = trainer.predict(task, dataloaders=DataLoader(loader, batch_size=None))
    assert (first.shape, second.shape) == ((2, 45, 37), (1, 45, 37))
    predictor = Predictor(task.model, task.classes, device="cpu")
    expected = [predictor(image) for image in images.permute(0, 2, 3, 1).numpy()]
    np.testing.assert_array_equal(first, expected[:2])
    assert (second[0].numpy() == expected[2]).mean() > 0.999  # brightness in float32, not in 8 bits
