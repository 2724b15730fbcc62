"""A table of what came out, and the next commands, for the person who waits."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping

from unetseg.callbacks.checkpointing import BestAndLastCheckpoint
from unetseg.metrics import score_table

__all__ = ["ScoreTable"]


class ScoreTable(Callback):
    """Prints the figures of every class when a fit, a validation or a test of a ``SegmentationTask`` has ended.

    After a fit it is the table of the best epoch, followed by the commands that come next.
    """

    def __init__(self) -> None:
        self._best: dict[str, float] = {}
        self._best_epoch = 0

    @property
    def state_key(self) -> str:
        """What its state is called in checkpoints, those that were made when it showed IoUs alone included."""
        return "IoUTable"

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far, for a run that goes on from here."""
        return {"best": self._best, "best_epoch": self._best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the earlier run's best epoch."""
        self._best, self._best_epoch = state_dict["best"], state_dict["best_epoch"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the best epoch's figures."""
        if trainer.sanity_checking:
            return
        scores = _latest_scores(pl_module)
        if trainer.state.fn != "validate" and (not self._best or scores["val_iou"] > self._best["val_iou"]):
            self._best, self._best_epoch = scores, trainer.current_epoch + 1

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Print the table of a validation or a test, below the progress bar, which is closed by now."""
        if prefix := {"validate": "val", "test": "test"}.get(stage):
            _say(trainer, score_table(_classes(pl_module), _latest_scores(pl_module), prefix))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Whether there is anything left to run isn't known yet."""
        self._has_run = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """There is; where the earlier best checkpoint couldn't be found, its figures don't count either."""
        self._has_run = True
        if getattr(_own_checkpoints(trainer), "best_model_score", None) is None:
            self._best = {}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the best epoch's table, where the checkpoint is, and what to type next."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it from outside the class
            return
        if not self._has_run:
            done = f"{trainer.current_epoch} of {trainer.max_epochs}"
            _say(trainer, f"no epoch was run: {done} were done before; --trainer.max_epochs sets another end")
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it from outside the class
            if isinstance(callback, EarlyStopping) and callback.wait_count >= max(1, callback.patience):
                _say(
                    trainer,
                    f"\nended early, after epoch {callback.stopped_epoch + 1}: {callback.monitor} had not been better "
                    f"for {callback.wait_count} validation{'s' * (callback.wait_count > 1)}",
                )
        if not self._best:
            _say(trainer, "\nno epoch was validated, so there is no best.ckpt; last.ckpt is the end of the run")
        else:
            _say(trainer, f"\nbest epoch: {self._best_epoch}\n{score_table(_classes(pl_module), self._best, 'val')}")
        if best := getattr(_own_checkpoints(trainer), "best_model_path", ""):
            verb = "test" if "test" in getattr(trainer.datamodule, "splits", ()) else "validate"  # type: ignore[attr-defined]  # Lightning sets it from outside the class
            command, best = f"{_python()} -m unetseg", _shown(best)
            _say(
                trainer,
                f"\ncheckpoint: {best}\n"
                f"next:       {command} {verb} --ckpt_path {best}\n"
                f"            {command} predict PHOTO.jpg --ckpt_path {best} --output masks",
            )


def _python() -> str:
    """What starts this Python from here: after `make fit` no environment is active."""
    if os.path.abspath(shutil.which("python") or "") == os.path.abspath(sys.executable):
        return "python"
    return _shown(sys.executable)


def _shown(path: str) -> str:
    """Relative to where the person is, if it is below."""
    full = os.path.abspath(path)  # not resolved: an environment's Python is a link
    return os.path.relpath(full) if Path(full).is_relative_to(Path.cwd()) else full


def _own_checkpoints(trainer: pl.Trainer) -> Callback | None:
    """What wrote best.ckpt: a user's own checkpoints come before it."""
    own = (one for one in trainer.checkpoint_callbacks if isinstance(one, BestAndLastCheckpoint))
    return next(own, trainer.checkpoint_callback)


def _latest_scores(module: pl.LightningModule) -> dict[str, float]:
    latest: dict[str, float] = getattr(module, "latest_scores", {})
    return dict(latest)


def _classes(module: pl.LightningModule) -> list[str]:
    return list(module.hparams["classes"])


def _say(trainer: pl.Trainer, text: str) -> None:
    if trainer.is_global_zero:
        sys.stdout.write(f"{text}\n")
