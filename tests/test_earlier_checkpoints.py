"""What a checkpoint brings along, and what it doesn't: to other verbs, to other objects, from other versions."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from small_jobs import TINY
from small_jobs import fit_squares as fit

from unetseg.__main__ import main
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.task import SegmentationTask


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(said: str) -> str:
    return said[said.index("class ") :].split("\n\n")[0].strip()


@pytest.mark.slow
def test_a_validation_has_limits_of_its_own(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares, "--trainer.max_epochs=1", "--trainer.limit_val_batches=0.5")
    limited = table(capsys.readouterr().out)
    best = "--ckpt_path=runs/version_0/best.ckpt"
    assert main(["validate", best, *TINY[-2:]]) == 0
    whole = table(capsys.readouterr().out)
    assert main(["validate", best, *TINY[-2:], "--trainer.limit_val_batches=0.5"]) == 0
    assert table(capsys.readouterr().out) == limited != whole


def test_another_seed_is_refused_where_a_run_goes_on(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares, "--trainer.max_epochs=1", "--seed_everything=4")
    last = "--ckpt_path=runs/version_0/last.ckpt"
    assert main(["fit", last, "--trainer.max_epochs=2", "--seed_everything=5", *TINY[-2:]]) == 1
    assert "--seed_everything is 5; runs/version_0/last.ckpt is of a run with 4" in capsys.readouterr().err
    assert main(["fit", last, "--trainer.max_epochs=2", "--seed_everything=4", *TINY[-2:]]) == 0


@pytest.mark.slow
def test_settings_of_the_trainer_come_along(squares: Path) -> None:
    settings = ["--trainer.max_time=00:02:00:00", "--trainer.gradient_clip_val=0.5", "--trainer.deterministic=true"]
    fit(squares, "--trainer.max_epochs=1", *settings)
    assert main(["fit", "--ckpt_path=runs/version_0/last.ckpt", "--trainer.max_epochs=2", *TINY[-2:]]) == 0
    first, second = (torch.load(f"runs/version_{i}/last.ckpt", weights_only=True)["run"] for i in (0, 1))
    assert first == second
    assert first["trainer"]["max_time"] == "00:02:00:00"
    assert first["trainer"]["gradient_clip_val"] == 0.5


def as_made_before(path: str) -> None:
    """Take away what checkpoints didn't have when they showed IoUs alone."""
    content = torch.load(path, weights_only=True)
    for name in ("loss", "class_weights", "optimizer", "scheduler", "scheduler_interval", "freeze"):
        del content["hyper_parameters"][name]
    content["hyper_parameters"]["weight_decay"] = 0.01
    del content["datamodule_hyper_parameters"]["mode"], content["run"], content["train_loss"]
    content["SegmentationDataModule"] = {}
    torch.save(content, path)


def test_a_checkpoint_from_before_is_resumed(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares, "--trainer.max_epochs=1")
    as_made_before("runs/version_0/last.ckpt")
    last = ["--ckpt_path=runs/version_0/last.ckpt", "--trainer.max_epochs=2", *TINY[-2:]]
    for option in ("--model.optimizer=SGD", "--model.freeze=[encoder]", "--model.loss={ce: 1}"):
        assert main(["fit", *last, option]) == 1
        assert "and its settings hold" in capsys.readouterr().err
    assert main(["fit", *last]) == 0
    assert "best epoch" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_a_validation_leaves_nothing_for_a_fit_to_go_on_with(squares: Path) -> None:
    fit(squares, "--trainer.max_epochs=2", "--trainer.max_steps=3", "--run.checkpoint_every_n_steps=1")
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    task = SegmentationTask(["background", "square"], encoder_depth=3, decoder_channels=[16, 8, 8])
    data = SegmentationDataModule(str(squares), ["background", "square"], num_workers=0, crop_size=32, batch_size=2)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, enable_checkpointing=False, **quiet)
    trainer.validate(task, data, ckpt_path="runs/version_0/last.ckpt", verbose=False, weights_only=True)
    trainer.fit(task, data)
    assert trainer.global_step == 2


def test_images_are_normalised_as_was_asked_or_as_the_weights_want(squares: Path) -> None:
    own = {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    SegmentationTask(["a", "b"], **own, mean=mean, std=std).model.save_pretrained("trained")
    taken = SegmentationTask(["a", "b"], **own, init_from="trained")
    torch.testing.assert_close(taken.model.mean.flatten(), torch.tensor(mean))
    assert taken.hparams["mean"] == taken.model.config["mean"] == pytest.approx(mean)
    typed = SegmentationTask(["a", "b"], **own, init_from="trained", mean=[0.4, 0.4, 0.4])
    torch.testing.assert_close(typed.model.mean.flatten(), torch.tensor([0.4, 0.4, 0.4]))
    assert typed.hparams["mean"] == typed.model.config["mean"] == [0.4, 0.4, 0.4]
    torch.testing.assert_close(typed.model.std.flatten(), torch.tensor(std))
