"""What a run leaves behind to go on from: best.ckpt and last.ckpt."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only

__all__ = ["BestAndLastCheckpoint"]


class BestAndLastCheckpoint(ModelCheckpoint):
    """``best.ckpt`` (highest val_iou) and ``last.ckpt`` (the newest, to resume from) in the run's folder.

    A resumed run has a folder of its own. It takes the earlier run's best along, so that its best.ckpt is the best
    of both and the earlier folder stays as it was.
    """

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="val_iou", mode="max", save_last=True, enable_version_counter=False)
        self._is_fitting = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write into the run's folder, the one that the logger chose."""
        self._is_fitting = stage == "fit"
        if self.dirpath is None and stage == "fit":
            # the same on every process; absolute, so that a resumed run finds it from elsewhere
            self.dirpath = os.path.abspath(trainer.log_dir or trainer.default_root_dir)
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the earlier run's best."""
        earlier = Path(state_dict["best_model_path"])
        if not self._is_fitting or self.dirpath is None:  # a validation or a test leaves no checkpoint
            return
        if not earlier.is_file() or state_dict["best_model_score"] is None:
            return
        best = Path(self.dirpath) / "best.ckpt"
        if earlier.resolve() != best.resolve():
            _copy(earlier, best)
        self.best_model_score = self.kth_value = state_dict["best_model_score"]
        self.best_model_path = self.kth_best_model_path = str(best)
        self.best_k_models = {str(best): self.best_model_score}


@rank_zero_only
def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
