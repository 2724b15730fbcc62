"""Training, validation and test of a UNet, as Lightning runs them."""

import inspect
import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from unetseg.config import UpsampleOptions
from unetseg.errors import UnetsegError
from unetseg.losses import CrossEntropyDiceLoss
from unetseg.metrics import mean_iou, per_class_iou
from unetseg.model import UNet
from unetseg.optimization import OneCycle, build_optimizer

__all__ = ["SegmentationTask"]

Batch = dict[str, Any]  # image: uint8 (N, 3, H, W); mask: uint8 (N, H, W); name: list of N str


class SegmentationTask(pl.LightningModule):
    """A UNet that learns from images and masks, and reports IoU.

    It logs ``train_loss``, ``val_loss``, ``val_iou``, ``val_iou_<class>`` and, in a test, ``test_*``. IoU is that
    of the whole data set, see :func:`unetseg.metrics.per_class_iou`; on every process it is the same.

    Args:
        classes: Names of the classes, in the order of their mask values.
        encoder: Encoder's name, of segmentation-models-pytorch, or of timm after "tu-".
        encoder_weights: None for random ones, a name such as "imagenet", or the path of a local file.
        encoder_depth: Number of the encoder's downsampling stages.
        decoder_channels: Channels after each decoder stage, deepest first; None for the last of
            256, 128, 64, 32, 16.
        upsample: Options of the decoder's transposed convolutions.
        lr: Peak learning rate of AdamW for the decoder and the head.
        encoder_lr: The encoder's; None: 0.3 times lr with pretrained weights, else lr.
        weight_decay: Weight decay of AdamW.
        ignore_index: Mask value of pixels that don't count.

    Raises:
        EncoderError: If the encoder or its weights don't exist.
        AlignmentError: If a kernel can't reach the encoder's skips.
    """

    def __init__(
        self,
        classes: list[str],
        *,
        encoder: str = "resnet18",
        encoder_weights: str | None = None,
        encoder_depth: int = 5,
        decoder_channels: list[int] | None = None,
        upsample: UpsampleOptions = UpsampleOptions(),  # noqa: B008 - frozen
        lr: float = 1e-3,
        encoder_lr: float | None = None,
        weight_decay: float = 1e-2,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        if encoder_lr is None:
            encoder_lr = 0.3 * lr if encoder_weights else lr
        upsample = UpsampleOptions.of(upsample)
        self.save_hyperparameters(
            {
                "classes": list(classes),
                "encoder": encoder,
                "encoder_weights": None,  # a checkpoint holds the weights: loading it must not fetch others
                "encoder_depth": encoder_depth,
                "decoder_channels": None if decoder_channels is None else list(decoder_channels),
                "upsample": upsample.to_dict(),
                "lr": lr,
                "encoder_lr": encoder_lr,
                "weight_decay": weight_decay,
                "ignore_index": ignore_index,
            },
            # without it Lightning keeps the caller's frame, and all that lives there
            frame=inspect.currentframe(),
        )
        self.classes = list(classes)
        self.model = UNet(
            encoder,
            classes=len(classes),
            encoder_weights=encoder_weights,
            encoder_depth=encoder_depth,
            decoder_channels=decoder_channels,
            upsample=upsample,
        )
        self.loss = CrossEntropyDiceLoss(ignore_index)
        self.val_iou = per_class_iou(len(classes), ignore_index)
        self.test_iou = per_class_iou(len(classes), ignore_index)

    def setup(self, stage: str) -> None:
        """Bring the weights into the memory format of the images."""
        self.model.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, classes, H, W) of images (N, 3, H, W), uint8 or floating point in [0, 1]."""
        # the format of the weights, which these layers are fast in
        return self.model(image.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]  # torch types a module's call as Any

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch of crops."""
        loss: Tensor = self.loss(self(batch["image"]), batch["mask"])
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(batch["name"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and confusion matrix of whole images."""
        logits = self(batch["image"])
        self.val_iou.update(logits.argmax(dim=1), batch["mask"].long())
        loss = self.loss(logits, batch["mask"])
        self.log("val_loss", loss, on_epoch=True, sync_dist=True, batch_size=len(batch["name"]))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Confusion matrix of whole images."""
        self.test_iou.update(self(batch["image"]).argmax(dim=1), batch["mask"].long())

    def on_validation_epoch_end(self) -> None:
        """Log the IoU of the validation split."""
        self._log_iou("val", self.val_iou.compute())
        self.val_iou.reset()

    def on_test_epoch_end(self) -> None:
        """Log the IoU of the test split."""
        self._log_iou("test", self.test_iou.compute())
        self.test_iou.reset()

    def _log_iou(self, prefix: str, iou: Tensor) -> None:
        self.log(f"{prefix}_iou", mean_iou(iou), prog_bar=True, sync_dist=True)
        present = {name: value for name, value in zip(self.classes, iou, strict=True) if not value.isnan()}
        self.log_dict({f"{prefix}_iou_{name}": value for name, value in present.items()}, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a one-cycle schedule over the whole run."""
        optimizer = build_optimizer(
            self.model,
            lr=self.hparams["lr"],
            encoder_lr=self.hparams["encoder_lr"],
            weight_decay=self.hparams["weight_decay"],
        )
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise UnetsegError(
                "the learning rate follows a cycle over the whole run, so the run needs a length: give "
                "--trainer.max_epochs or --trainer.max_steps."
            )
        schedule = OneCycle(optimizer, total_steps=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
