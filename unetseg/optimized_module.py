"""A Lightning module that is optimized as its hyperparameters say."""

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch.optim.lr_scheduler import ReduceLROnPlateau

from unetseg.model import UNet
from unetseg.optimization import build_optimizer, build_scheduler

__all__ = ["OptimizedModule"]


class OptimizedModule(pl.LightningModule):
    """Has a ``model``, and hyperparameters for ``build_optimizer`` and ``build_scheduler`` of `unetseg.optimization`.

    Plateau schedules move before an epoch's checkpoint is written: Lightning moves them afterwards, and a run that is
    resumed would be one move behind.
    """

    model: UNet

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, with a group for the encoder and one for the rest, and its schedule."""
        optimizer = build_optimizer(
            self.model,
            optimizer=self.hparams["optimizer"],
            lr=self.hparams["lr"],
            encoder_lr=self.hparams["encoder_lr"],
            weight_decay=self.hparams["weight_decay"],
        )
        if getattr(self.trainer.precision_plugin, "scaler", None) is None:
            # gradients that aren't scaled can be clipped, which Lightning else refuses under mixed precision
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]  # a mark that torch reads, too
        steps = self.trainer.estimated_stepping_batches
        epochs = self.trainer.max_epochs
        schedule = build_scheduler(
            optimizer,
            scheduler=self.hparams["scheduler"],
            interval=self.hparams["scheduler_interval"],
            total_steps=None if math.isinf(steps) else int(steps),
            total_epochs=epochs if epochs is not None and epochs > 0 else None,
        )
        if "monitor" in schedule:  # which is there after a validation
            schedule["frequency"] = self.trainer.check_val_every_n_epoch or 1
        return {"optimizer": optimizer, "lr_scheduler": schedule}  # type: ignore[return-value]  # mypy wants a TypedDict

    def on_train_epoch_end(self) -> None:
        """Move plateau schedules on."""
        for config in self.trainer.lr_scheduler_configs:
            due = self.trainer.is_last_batch and (self.current_epoch + 1) % config.frequency == 0
            value = self.trainer.callback_metrics.get(config.monitor or "")
            if isinstance(config.scheduler, ReduceLROnPlateau) and due and value is not None:
                config.scheduler.step(float(value))

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """As Lightning does, but for plateau schedules, which it would move after the epoch's checkpoint."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)
