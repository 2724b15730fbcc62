"""Ending a run that gets no better."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping

from unetseg.errors import OptionError

__all__ = ["Patience"]


class Patience(EarlyStopping):
    """Ends a run after some validations without a better val_iou.

    Lightning's own goes back to the saved number when a run is resumed with another.

    Args:
        validations: That many.

    Raises:
        OptionError: When a run begins in which there are no validations.
    """

    def __init__(self, validations: int) -> None:
        super().__init__("val_iou", mode="max", patience=validations)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make sure that there are validations."""
        if stage == "fit" and trainer.limit_val_batches == 0:
            raise OptionError(
                "run.early_stopping waits for a better val_iou, but trainer.limit_val_batches is 0, so that nothing is "
                "validated. Leave one of them out."
            )
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the earlier run was, with this run's number of validations."""
        super().load_state_dict(state_dict | {"patience": self.patience})
