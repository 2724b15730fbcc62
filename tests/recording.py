"""A callback of a user's own, which notes the weights after each step."""

from typing import Any, ClassVar

import pytorch_lightning as pl
import torch


class Recorder(pl.Callback):
    """What it notes is the class's own, for the command line makes the object."""

    steps: ClassVar[list[dict[str, torch.Tensor]]] = []
    losses: ClassVar[list[torch.Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: object
    ) -> None:
        self.losses.append(outputs["loss"].detach().clone())
        self.steps.append({name: value.detach().clone() for name, value in pl_module.state_dict().items()})
