"""What a checkpoint must know of its run beside the network and the data."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

__all__ = ["RunRecord"]


class RunRecord(Callback):
    """Puts a run's settings into its checkpoints as ``run``, so that a resumed run goes on with them.

    Args:
        settings: Plain containers.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add them."""
        checkpoint["run"] = self.settings
