"""What a run leaves behind to go on from: best.ckpt and last.ckpt."""

import os
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from unetseg.callbacks.folder import run_folder
from unetseg.checkpoint_io import copy_atomically

__all__ = ["BestAndLastCheckpoint"]


class BestAndLastCheckpoint(ModelCheckpoint):
    """``best.ckpt`` (highest val_iou) and ``last.ckpt`` (the newest, to resume from) in the run's folder.

    A resumed run has a folder of its own. It takes the earlier run's best along, so that its best.ckpt is the best
    of both and the earlier folder stays as it was.

    Lightning's own ``save_last`` writes the last epoch only where it is the best, too.

    Args:
        last_every_n_steps: Optimizer steps after which last.ckpt is written within an epoch, too; 0 for never.
    """

    def __init__(self, last_every_n_steps: int = 0) -> None:
        super().__init__(filename="best", monitor="val_iou", mode="max", enable_version_counter=False)
        self.last_every_n_steps = last_every_n_steps
        self._last_saved_at = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write into the run's folder, the one that the logger chose."""
        if self.dirpath is None and stage == "fit":
            self.dirpath = str(run_folder(trainer))
        if trainer.val_check_interval == 1.0:  # also where an epoch is validated now and then only
            self._save_on_train_epoch_end = True
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that goes on has a checkpoint of the step it begins at."""
        super().on_train_start(trainer, pl_module)
        self._last_saved_at = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write last.ckpt if it is time; not after an epoch's last batch, for what follows belongs to the epoch."""
        is_last_batch = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if self.last_every_n_steps and trainer.global_step % self.last_every_n_steps == 0 and not is_last_batch:
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write best.ckpt if this epoch is the best, and last.ckpt."""
        if self.monitor in trainer.callback_metrics:  # not where no epoch has been validated yet
            super().on_train_epoch_end(trainer, pl_module)
        self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        # between two steps gradients are being accumulated, which no checkpoint holds
        if trainer.fast_dev_run or self._last_saved_at == trainer.global_step:  # type: ignore[attr-defined]  # Lightning sets it from outside the class
            return
        self._last_saved_at = trainer.global_step
        self.last_model_path = os.path.join(str(self.dirpath), "last.ckpt")
        trainer.save_checkpoint(self.last_model_path)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on from the earlier run's best: the file beside the checkpoint, or else where the run was."""
        state = checkpoint.get("callbacks", {}).get(self.state_key, {})
        score, path = state.get("best_model_score"), state.get("best_model_path")
        if trainer.state.fn != "fit" or score is None or self.dirpath is None:
            return  # a validation or a test leaves no checkpoint
        own = Path(self.dirpath) / "best.ckpt"
        found = False
        if trainer.is_global_zero:
            earlier = [Path(str(trainer.ckpt_path)).with_name("best.ckpt"), Path(path)]
            best = next((file for file in earlier if self._is_best(file, score)), None)
            found = best is not None
            if best is None:
                sys.stdout.write(
                    f"the run that goes on has a best.ckpt of val_iou {float(score):.4f}, which is neither beside the "
                    f"checkpoint nor at {path}: the best of the epochs that follow will be kept\n"
                )
            elif best.resolve() != own.resolve():
                copy_atomically(best, own)
        if trainer.strategy.broadcast(found):
            self.best_model_score = self.kth_value = score
            self.best_model_path = self.kth_best_model_path = str(own)
            self.best_k_models = {str(own): score}

    def _is_best(self, file: Path, score: torch.Tensor) -> bool:
        """Whether a file is the best.ckpt of that score, and not another run's."""
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
            return bool(content["callbacks"][self.state_key]["best_model_score"] == score)
        except Exception:  # torch raises a class of its own for each way in which a file can be broken
            return False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: Lightning would look for the earlier run's files where they were."""
