"""An average of the weights, on the device where they are."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging

__all__ = ["WeightAverage"]


class WeightAverage(EMAWeightAveraging):
    """Lightning's exponential moving average, which would stay on the CPU when the network goes to a GPU.

    Args:
        decay: Weight of the past.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy the network to where it is about to be moved."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
