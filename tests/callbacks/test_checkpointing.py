"""Which checkpoints a run leaves, and how a resumed one finds the best of the earlier."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_jobs import TINY
from small_jobs import fit_squares as fit

from unetseg.__main__ import main


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def content(path: str) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_last_is_the_last_epoch_even_if_another_was_the_best(squares: Path) -> None:
    """Lightning's own save_last would leave the best there."""
    fit(squares, "--trainer.max_epochs=3", "--model.lr=0", "--model.encoder_lr=0", "--model.weight_decay=0")
    last, best = (content(f"runs/version_0/{name}.ckpt") for name in ("last", "best"))
    assert last["global_step"] == 6
    assert best["global_step"] <= last["global_step"]


def test_last_follows_epochs_that_are_not_validated(squares: Path) -> None:
    fit(squares, "--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2")
    assert content("runs/version_0/last.ckpt")["global_step"] == 6
    assert content("runs/version_0/best.ckpt")["global_step"] == 4


def test_a_run_without_validation_says_that_it_has_no_best(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares, "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=5")
    assert "no epoch was validated, so there is no best.ckpt" in capsys.readouterr().out
    assert not Path("runs/version_0/best.ckpt").exists()
    assert Path("runs/version_0/last.ckpt").exists()


@pytest.mark.parametrize("place", ["replaced", *(pytest.param(it, marks=pytest.mark.slow) for it in ("moved", "lost"))])
def test_the_earlier_best_is_looked_for_beside_the_checkpoint(
    place: str, squares: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(squares, "--trainer.max_epochs=2")
    best = content("runs/version_0/best.ckpt")
    shutil.move("runs/version_0", "moved")
    if place == "replaced":  # another run lies where this one was
        fit(squares, "--trainer.max_epochs=1", "--seed_everything=5", "--model.lr=0.01")
    if place != "moved":
        Path("moved/best.ckpt").unlink()
    capsys.readouterr()
    # no step changes anything, so that no epoch that follows is better
    score = next(s for name, s in best["callbacks"].items() if "Checkpoint" in name)["best_model_score"]
    assert main(["fit", "--ckpt_path=moved/last.ckpt", "--trainer.max_epochs=3", *TINY[-2:], "--run.folder=new"]) == 0
    said = capsys.readouterr().out
    (state,) = [s for name, s in content("new/version_0/last.ckpt")["callbacks"].items() if "Checkpoint" in name]
    if place == "moved":
        assert state["best_model_score"] >= score
        assert "neither beside" not in said
    else:
        assert f"has a best.ckpt of val_iou {float(score):.4f}, which is neither beside the checkpoint nor at" in said
        assert "best epoch: 3" in said
        assert content("new/version_0/best.ckpt")["epoch"] == 2


def test_checkpoints_within_an_epoch_are_not_made_between_two_steps(squares: Path) -> None:
    """With gradients of two batches added up, an epoch of two batches has one step, its last."""
    fit(squares, "--trainer.max_epochs=1", "--trainer.accumulate_grad_batches=2", "--run.checkpoint_every_n_steps=1")
    assert content("runs/version_0/last.ckpt")["global_step"] == 1


def test_a_resumed_run_makes_no_checkpoint_between_two_steps_either(squares: Path) -> None:
    """An epoch has two steps of two batches: of the four batches, checkpoints follow the second and the last."""
    job = ["--trainer.accumulate_grad_batches=2", "--run.checkpoint_every_n_steps=1", "--data.batch_size=1"]
    fit(squares, *job, "--trainer.max_epochs=2", "--trainer.max_steps=1")
    assert content("runs/version_0/last.ckpt")["global_step"] == 1
    resumed = ["--trainer.max_steps=-1", "--trainer.limit_train_batches=3"]
    assert main(["fit", "--ckpt_path=runs/version_0/last.ckpt", *resumed, *TINY[-2:], "--trainer.max_epochs=1"]) == 0
    loops = content("runs/version_1/last.ckpt")["loops"]["fit_loop"]
    assert loops["epoch_loop.batch_progress"]["current"]["ready"] == 3
