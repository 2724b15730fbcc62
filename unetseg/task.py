"""Training, validation and test of a UNet, as Lightning runs them."""

import inspect
import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MeanMetric, Metric

from unetseg.config import BlockOptions, DecoderName, HeadName, Mode, UpsampleOptions, check_choice
from unetseg.decision import decide
from unetseg.errors import CheckpointError, ImageError, UnetsegError
from unetseg.losses import build_loss
from unetseg.metrics import PerClassIoU, PerLabelIoU, mean_iou
from unetseg.model import UNet
from unetseg.optimization import OneCycle, build_optimizer

__all__ = ["SegmentationTask"]

Batch = dict[str, Any]
"""``image``: (N, in_channels, H, W) uint8, or floating point in [0, 1]; ``mask``: uint8, (N, H, W) class indices, or
for "multilabel" (N, classes, H, W) of 0 and 1; ``name``: names of the images that count in a validation or a test."""

_METRICS: dict[Mode, type[PerClassIoU] | type[PerLabelIoU]] = {"multiclass": PerClassIoU, "multilabel": PerLabelIoU}


class SegmentationTask(pl.LightningModule):
    """A UNet that learns from images and masks, and reports IoU.

    It logs ``train_loss``, ``val_loss``, ``val_iou``, ``val_iou_<class>`` and, in a test, ``test_*``. IoU is that
    of the whole data set, see :func:`unetseg.metrics.PerClassIoU`; on every process it is the same.

    Args:
        classes: Names of the classes, in the order of their mask values.
        encoder: Encoder's name, of segmentation-models-pytorch, or of timm after "tu-".
        encoder_weights: None for random ones, a name such as "imagenet", or the path of a local file.
        encoder_depth: Number of the encoder's downsampling stages.
        in_channels: Channels of the images. Pretrained weights of the first layer are adapted to them: repeated or
            summed over the channels, as timm does.
        mean: Mean of each image channel, of values in [0, 1]; None: what the encoder's published weights expect.
        std: Standard deviation of each image channel, likewise.
        decoder: "unet", or "unetplusplus" with dense nodes between encoder and decoder.
        decoder_channels: Channels after each decoder stage, deepest first; None for 256, 128, 64, 32, 16, or as
            many of them as there are stages.
        upsample: How the decoder upsamples.
        block: What its stages do besides: norm, activation, dropout, residual, attention, merge.
        head: "conv", a 3x3 convolution; or "upsample", from stride 2 straight to the logits, which takes one of
            decoder_channels less.
        deep_supervision: Whether the loss also counts logits of the decoder's other stages, each half as much as
            those of the next shallower one.
        mode: "multiclass", where a pixel has one class; "multilabel", where it has any number of them.
        lr: Peak learning rate of AdamW for the decoder and the head.
        encoder_lr: The encoder's; None: 0.3 times lr with pretrained weights, else lr.
        weight_decay: Weight decay of AdamW.
        ignore_index: Mask value of pixels that don't count.

    Raises:
        EncoderError: If the encoder or its weights don't exist.
        AlignmentError: If a kernel can't reach the encoder's skips.
        OptionError: If a decoder option has a value that it doesn't take.
    """

    def __init__(
        self,
        classes: list[str],
        *,
        encoder: str = "resnet18",
        encoder_weights: str | None = None,
        encoder_depth: int = 5,
        in_channels: int = 3,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        decoder: DecoderName = "unet",
        decoder_channels: list[int] | None = None,
        upsample: UpsampleOptions = UpsampleOptions(),  # noqa: B008 - frozen
        block: BlockOptions = BlockOptions(),  # noqa: B008 - frozen
        head: HeadName = "conv",
        deep_supervision: bool = False,
        mode: Mode = "multiclass",
        lr: float = 1e-3,
        encoder_lr: float | None = None,
        weight_decay: float = 1e-2,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_choice("mode", mode, Mode)
        if encoder_lr is None:
            encoder_lr = 0.3 * lr if encoder_weights else lr
        # plain numbers
        upsample = UpsampleOptions.of(UpsampleOptions.of(upsample).to_dict())
        block = BlockOptions.of(BlockOptions.of(block).to_dict())
        self.save_hyperparameters(
            {
                "classes": [str(name) for name in classes],
                "encoder": encoder,
                "encoder_weights": None,  # a checkpoint holds the weights: loading it must not fetch others
                "encoder_depth": int(encoder_depth),
                "in_channels": int(in_channels),
                "mean": None if mean is None else [float(value) for value in mean],
                "std": None if std is None else [float(value) for value in std],
                "decoder": decoder,
                "decoder_channels": None if decoder_channels is None else [int(c) for c in decoder_channels],
                "upsample": upsample.to_dict(),
                "block": block.to_dict(),
                "head": head,
                "deep_supervision": bool(deep_supervision),
                "mode": str(mode),
                "lr": float(lr),
                "encoder_lr": float(encoder_lr),
                "weight_decay": float(weight_decay),
                "ignore_index": int(ignore_index),
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
            in_channels=in_channels,
            mean=mean,
            std=std,
            decoder=decoder,
            decoder_channels=decoder_channels,
            upsample=upsample,
            block=block,
            head=head,
            deep_supervision=deep_supervision,
        )
        self.mode = mode
        self.loss = build_loss(None, mode=mode, classes=len(classes), ignore_index=ignore_index)
        self.latest_iou: dict[str, float] = {}  # of the last validation or test: mean and classes that occur
        # not Lightning's mean: in distributed runs it rounds the number of images on each process down to an even share
        self.val_loss = MeanMetric(nan_strategy=math.nan)  # a loss that is nan stays nan
        self.val_iou = _METRICS[mode](len(classes), ignore_index)
        self.test_iou = _METRICS[mode](len(classes), ignore_index)

    def setup(self, stage: str) -> None:
        """Bring the weights into the memory format of the images."""
        self.model.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor, all_logits: bool = False) -> Tensor | list[Tensor]:
        """Logits (N, classes, H, W) of images (N, in_channels, H, W), as ``UNet.forward`` takes them."""
        # the format of the weights, which these layers are fast in
        return self.model(image.contiguous(memory_format=torch.channels_last), all_logits)  # type: ignore[no-any-return]  # torch types a module's call as Any

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch of crops, with deep supervision the weighted mean of those of all logits."""
        logits = self._logits(batch, "data.crop_size", all_logits=True)
        weights = [0.5**i for i in range(len(logits))]
        losses = [weight * self.loss(one, batch["mask"]) for weight, one in zip(weights, logits, strict=True)]
        loss: Tensor = torch.stack(losses).sum() / sum(weights)
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(batch["name"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and confusion matrix of whole images."""
        logits = self._logits(batch, ", ".join(batch["name"]))
        self.val_iou.update(decide(logits, self.mode).long(), batch["mask"].long())
        # an image at a time, so that the mean doesn't depend on how they are batched
        losses = [self.loss(one[None], mask[None]) for one, mask in zip(logits, batch["mask"], strict=True)]
        labelled = (batch["mask"] != self.loss.ignore_index).flatten(1).any(dim=1)  # the others' loss is 0 of nothing
        self.val_loss.update(torch.stack(losses)[labelled])

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Confusion matrix of whole images."""
        logits = self._logits(batch, ", ".join(batch["name"]))
        self.test_iou.update(decide(logits, self.mode).long(), batch["mask"].long())

    def _logits(self, batch: Batch, size_comes_from: str, *, all_logits: bool = False) -> Any:
        try:
            return self(batch["image"], all_logits)
        except ImageError as error:
            raise ImageError(f"{size_comes_from}: {error}") from None

    def on_validation_epoch_end(self) -> None:
        """Log the loss and the IoU of the validation split."""
        self.log("val_loss", self.val_loss.compute(), sync_dist=True)
        _reset(self.val_loss)
        self._log_iou("val", self.val_iou)

    def on_test_epoch_end(self) -> None:
        """Log the IoU of the test split."""
        self._log_iou("test", self.test_iou)

    def _log_iou(self, prefix: str, metric: PerClassIoU | PerLabelIoU) -> None:
        iou = metric.compute().reshape(-1)  # torchmetrics makes a scalar of one class
        _reset(metric)
        present = {name: value for name, value in zip(self.classes, iou, strict=True) if not value.isnan()}
        named = {f"{prefix}_iou_{name}": value for name, value in present.items()}
        self.log(f"{prefix}_iou", mean_iou(iou), prog_bar=True, sync_dist=True)
        self.log_dict(named, sync_dist=True)
        # Lightning's own record keeps a class's last value where it is nan now
        self.latest_iou = {name: float(value) for name, value in {f"{prefix}_iou": mean_iou(iou), **named}.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another network in a line, where PyTorch lists every tensor.

        Raises:
            CheckpointError: If names or shapes of the weights differ.
        """
        own = {name: value.shape for name, value in self.state_dict().items()}
        saved = {name: value.shape for name, value in checkpoint["state_dict"].items()}
        if differing := sorted(name for name in own.keys() | saved.keys() if own.get(name) != saved.get(name)):
            raise CheckpointError(
                f"the checkpoint's weights don't fit this network: {len(differing)} tensors differ (first: "
                f"{differing[0]}). Was it made by another version of unetseg?"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the length of the run, to which a resumed one goes on."""
        checkpoint["run_length"] = {"max_epochs": self.trainer.max_epochs, "max_steps": self.trainer.max_steps}

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


def _reset(metric: Metric) -> None:
    """Begin anew; with tensors of inference mode, in which Lightning validates, a later fit couldn't count."""
    with torch.inference_mode(False):
        metric.reset()
