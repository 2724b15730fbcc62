"""What a run leaves behind: best.ckpt and last.ckpt, and a table for the person who waits."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from unetseg.metrics import iou_table

__all__ = ["BestAndLastCheckpoint", "IoUTable"]


class BestAndLastCheckpoint(ModelCheckpoint):
    """``best.ckpt`` (highest val_iou) and ``last.ckpt`` (the newest, to resume from) in the run's folder.

    A resumed run has a folder of its own. It takes the earlier run's best along, so that its best.ckpt is the best
    of both and the earlier folder stays as it was.
    """

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="val_iou", mode="max", save_last=True, enable_version_counter=False)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write into the run's folder, the one that the logger chose."""
        if self.dirpath is None and stage == "fit":
            self.dirpath = trainer.log_dir  # the same on every process
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the earlier run's best."""
        earlier = Path(state_dict["best_model_path"])
        if self.dirpath is None or not earlier.is_file() or state_dict["best_model_score"] is None:
            return
        best = Path(self.dirpath) / "best.ckpt"
        if earlier.resolve() != best.resolve():
            best.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(earlier, best)
        self.best_model_score = self.kth_value = state_dict["best_model_score"]
        self.best_model_path = self.kth_best_model_path = str(best)
        self.best_k_models = {str(best): self.best_model_score}


class IoUTable(Callback):
    """Prints the IoU of every class when a fit, a validation or a test has ended.

    After a fit it is the table of the best epoch, followed by the commands that come next.
    """

    def __init__(self) -> None:
        self._best: dict[str, float] = {}
        self._best_epoch = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the best epoch's metrics; print them if this is all there is to do."""
        if trainer.sanity_checking:
            return
        metrics = _scalars(trainer, "val_iou")
        if trainer.state.fn == "validate":
            _say(trainer, iou_table(_classes(pl_module), metrics, "val"))
        elif metrics.get("val_iou", 0.0) >= self._best.get("val_iou", 0.0):
            self._best, self._best_epoch = metrics, trainer.current_epoch + 1

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the test's table."""
        _say(trainer, iou_table(_classes(pl_module), _scalars(trainer, "test_iou"), "test"))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the best epoch's table, where the checkpoint is, and what to type next."""
        if not self._best or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a mixin function
            return
        _say(trainer, f"\nbest epoch: {self._best_epoch}\n{iou_table(_classes(pl_module), self._best, 'val')}")
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if best:
            best = _shown(best)
            _say(
                trainer,
                f"\ncheckpoint: {best}\n"
                f"next:       python -m unetseg test --ckpt_path {best}\n"
                f"            python -m unetseg predict PHOTO.jpg --ckpt_path {best} --output masks",
            )


def _shown(path: str) -> str:
    """Relative to where the person is, if it is below."""
    full = Path(path).resolve()
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) else str(full)


def _scalars(trainer: pl.Trainer, prefix: str) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(prefix)}


def _classes(module: pl.LightningModule) -> list[str]:
    return list(module.hparams["classes"])


def _say(trainer: pl.Trainer, text: str) -> None:
    if trainer.is_global_zero:
        sys.stdout.write(f"{text}\n")
