"""Training, validation and test of a UNet, as Lightning runs them."""

import inspect
import math
import sys
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric

from unetseg import freezing, transfer
from unetseg.config import BlockOptions, DecoderName, HeadName, Mode, Precision, UpsampleOptions, check_choice, plain
from unetseg.decision import decide, num_logits
from unetseg.epoch_mean import EpochMean
from unetseg.errors import CheckpointError, ImageError, OptionError, abridged
from unetseg.finite_loss import FiniteLoss
from unetseg.inference.predictor import Predictor
from unetseg.losses import SegmentationLoss, build_loss, default_terms
from unetseg.metrics import SegmentationMetrics, named_scores
from unetseg.model import UNet
from unetseg.optimization import Interval
from unetseg.optimized_module import OptimizedModule
from unetseg.process_group import leave_at_exit

__all__ = ["SegmentationTask"]

Batch = dict[str, Any]
"""``image``: (N, in_channels, H, W) uint8, or floating point in [0, 1]; ``mask``: uint8, (N, H, W) class indices, or
for "multilabel" (N, classes, H, W) of 0 and 1; ``name``: names of the images that count in a validation or a test."""


class SegmentationTask(OptimizedModule):
    """A UNet that learns from images and masks, and reports how well.

    It logs ``train_loss``, ``val_loss``, and the figures of :class:`unetseg.metrics.SegmentationMetrics` as
    ``val_iou``, ``val_iou_<class>``, ``val_dice``, ``val_accuracy``, … and, in a test, ``test_*``. They are those of
    the whole data set, and on every process the same.

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
        mode: "multiclass", where a pixel has one class; "binary", where it has one of two, told by a single logit;
            "multilabel", where it has any number of them.
        loss: Terms of the loss and their weights, such as ``{ce: 1.0, dice: 1.0}``, the default ("bce" instead of "ce"
            where the mode isn't "multiclass"), or with options ``{ce: {weight: 1.0, label_smoothing: 0.1}}``: see
            :func:`unetseg.losses.build_loss`.
        class_weights: Weight of each class in the loss; "auto" counts the training masks once, for the median
            frequency over the class's own.
        optimizer: A class of torch.optim, such as "SGD", or with arguments ``{SGD: {momentum: 0.9}}``; None for AdamW.
        lr: Learning rate of the decoder and the head: the peak of the schedule.
        encoder_lr: The encoder's; None: 0.3 times lr with pretrained weights or ``init_from``, else lr.
        weight_decay: The optimizer's; None: 0.01 with AdamW, else what its class has.
        scheduler: A class of torch.optim.lr_scheduler, likewise; None for one cycle over the whole run. The word
            "run" among its arguments is the length of the run.
        scheduler_interval: What it counts, "epoch" or "step".
        freeze: Parts of the model that keep their weights and their batch norm's statistics, such as ``[encoder]``.
        init_from: A checkpoint, or what ``save_pretrained`` wrote, whose weights to begin with as far as they fit.
        compile: Whether ``torch.compile`` makes the model faster, after a wait at its first batches.
        ignore_index: Mask value of pixels that don't count.

    Raises:
        EncoderError: If the encoder or its weights don't exist.
        AlignmentError: If a kernel can't reach the encoder's skips.
        OptionError: If an option has a value that it doesn't take.
        CheckpointError: If ``init_from`` can't be read, or is of another network.
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
        loss: dict[str, float | dict[str, float]] | None = None,
        class_weights: list[float] | Literal["auto"] | None = None,
        optimizer: str | dict[str, dict[str, Any]] | None = None,
        lr: float = 1e-3,
        encoder_lr: float | None = None,
        weight_decay: float | None = None,
        scheduler: str | dict[str, dict[str, Any]] | None = None,
        scheduler_interval: Interval = "epoch",
        freeze: list[str] | None = None,
        init_from: str | None = None,
        compile: bool = False,  # noqa: A002 - Lightning's and PyTorch's word
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self._frozen: list[torch.nn.Module] = []
        check_choice("mode", mode, Mode)
        if mode == "binary" and len(classes) != 2:
            raise OptionError(
                f"mode is 'binary', and there are {len(classes)} classes: {abridged(classes)}. One logit tells two "
                f"apart; leave the mode out for one class of several a pixel."
            )
        for name, rate in (("lr", lr), ("encoder_lr", encoder_lr)):
            if rate is not None and not 0 <= rate < math.inf:
                raise OptionError(f"model.{name} is {rate}; it must be at least 0, such as 0.001.")
        if encoder_lr is None:
            encoder_lr = 0.3 * lr if encoder_weights or init_from else lr
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
                "loss": plain(default_terms(mode) if loss is None else loss),
                "class_weights": plain(class_weights),
                "optimizer": plain(optimizer),
                "lr": float(lr),
                "encoder_lr": float(encoder_lr),
                "weight_decay": None if weight_decay is None else float(weight_decay),
                "scheduler": plain(scheduler),
                "scheduler_interval": str(scheduler_interval),
                "freeze": [str(name) for name in freeze or []],
                "init_from": None,  # likewise
                "compile": bool(compile),
                "ignore_index": int(ignore_index),
            },
            # without it Lightning keeps the caller's frame, and all that lives there
            frame=inspect.currentframe(),
        )
        self.classes = list(classes)
        self.mode = mode
        self.model = UNet(
            encoder,
            classes=num_logits(len(classes), mode),
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
        self.transfer = (
            transfer.init_from(self.model, init_from, classes=self.classes, mode=mode) if init_from else None
        )
        if self.transfer:
            self._describe_normalization(mean, std)
        self._frozen = freezing.freeze(self.model, self.hparams["freeze"])
        freezing.keep_in_eval(self._frozen)  # Lightning begins with the modes that it finds
        self.loss = self._build_loss(None if class_weights == "auto" else class_weights)
        self.finite_loss = FiniteLoss()
        self.latest_scores: dict[str, float] = {}  # of the last validation or test: means and classes that occur
        # Not Lightning's mean: it forgets an epoch's first part when a run is resumed within it, and in distributed
        # runs it rounds the number of images on each process down to an even share.
        self.train_loss = EpochMean()
        self._restored_loss: list[list[float]] = []
        self.val_loss = MeanMetric(nan_strategy=math.nan)  # a loss that is nan stays nan
        self.val_scores = SegmentationMetrics(len(classes), mode, ignore_index)
        self.test_scores = SegmentationMetrics(len(classes), mode, ignore_index)
        self._predictor: Predictor | None = None

    def _describe_normalization(self, mean: list[float] | None, std: list[float] | None) -> None:
        """Keep what was asked for; say in the hyperparameters what came with other weights."""
        for name, given in (("mean", mean), ("std", std)):
            buffer = getattr(self.model, name)
            expected = torch.tensor(self.model.config[name]).view_as(buffer)
            if given is not None:
                buffer.copy_(expected)
            elif not torch.equal(buffer, expected):
                self.hparams[name] = self.model.config[name] = buffer.flatten().tolist()

    def _build_loss(self, class_weights: list[float] | None) -> SegmentationLoss:
        return build_loss(
            self.hparams["loss"],
            mode=self.mode,
            classes=len(self.classes),
            ignore_index=self.hparams["ignore_index"],
            class_weights=class_weights,
        )

    def setup(self, stage: str) -> None:
        """Bring the weights into the memory format of the images; count the classes if their weights are "auto"."""
        leave_at_exit()
        self.model.to(memory_format=torch.channels_last)
        if stage == "fit" and self.hparams["class_weights"] == "auto":
            weights = self.trainer.strategy.broadcast(self._count_classes() if self.trainer.is_global_zero else None)
            self.hparams["class_weights"] = weights  # so that a resumed run needn't count
            self.loss = self._build_loss(weights)
        if stage == "fit" and self.hparams["compile"] and self.model._compiled_call_impl is None:
            self.model.compile()  # in place, so that the names of the weights stay

    def _count_classes(self) -> list[float]:
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it from outside the class
        if not hasattr(data, "class_weights"):
            raise OptionError(
                "class_weights is 'auto', and the data has no method class_weights() that counts them; give a list."
            )
        weights: list[float] = data.class_weights()
        shown = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(self.classes, weights, strict=True))
        sys.stdout.write(f"class weights: {shown}\n")
        return weights

    def train(self, mode: bool = True) -> Self:
        """Switch to training, but for what is frozen."""
        super().train(mode)
        freezing.keep_in_eval(self._frozen)
        return self

    def forward(self, image: Tensor, all_logits: bool = False) -> Tensor | list[Tensor]:
        """Logits (N, num_logits, H, W) of images (N, in_channels, H, W), as ``UNet.forward`` takes them."""
        # the format of the weights, which these layers are fast in
        return self.model(image.contiguous(memory_format=torch.channels_last), all_logits)  # type: ignore[no-any-return]  # torch types a module's call as Any

    def on_train_start(self) -> None:
        """Go on with the mean loss of an epoch that a checkpoint was made in."""
        if self._restored_loss:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
            self.train_loss.restore(self._restored_loss, rank=rank, world_size=world_size)
            self._restored_loss = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch of crops, with deep supervision the weighted mean of those of all logits.

        Raises:
            LossError: If it isn't finite, or that of the step before wasn't: what follows would be lost.
        """
        self.finite_loss.look()
        logits = self._logits(batch, "data.crop_size", all_logits=True)
        weights = [0.5**i for i in range(len(logits))]
        losses = [weight * self.loss(one, batch["mask"]) for weight, one in zip(weights, logits, strict=True)]
        loss: Tensor = torch.stack(losses).sum() / sum(weights)
        place = f"step {self.global_step + 1}, in epoch {self.current_epoch + 1}"
        self.finite_loss.watch(loss, batch["name"], place)
        self.train_loss.update(loss.detach(), weight=len(batch["name"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and figures of whole images."""
        logits = self._logits(batch, ", ".join(batch["name"]))
        self.val_scores.update(decide(logits, self.mode), batch["mask"])
        # an image at a time, so that the mean doesn't depend on how they are batched
        losses = [self.loss(one[None], mask[None]) for one, mask in zip(logits, batch["mask"], strict=True)]
        labelled = (batch["mask"] != self.loss.ignore_index).flatten(1).any(dim=1)  # the others' loss is 0 of nothing
        self.val_loss.update(torch.stack(losses)[labelled])

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Figures of whole images."""
        logits = self._logits(batch, ", ".join(batch["name"]))
        self.test_scores.update(decide(logits, self.mode), batch["mask"])

    def on_predict_start(self) -> None:
        """Predict as the command does, in the trainer's precision if it is one of the predictor's."""
        asked = str(self.trainer.precision)
        precision = asked if asked in get_args(Precision) else "32-true"
        options: Any = {"mode": self.mode, "device": self.device, "precision": precision}
        self._predictor = Predictor(self.model, self.classes, **options)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The classes of images, as a :class:`unetseg.inference.Predictor` gives them.

        Returns:
            On the CPU, (N, H, W) uint8 class indices, or for "multilabel" (N, classes, H, W) of 0 and 1.

        Raises:
            ImageError: If they are too small for the encoder, or too large for the memory.
        """
        assert self._predictor is not None  # since the start
        images = batch["image"].permute(0, 2, 3, 1).cpu().numpy()
        return torch.stack([torch.from_numpy(self._predictor(image)) for image in images])

    def on_predict_end(self) -> None:
        """Let go of the predictor's copy of the weights, which may change."""
        self._predictor = None

    def _logits(self, batch: Batch, size_comes_from: str, *, all_logits: bool = False) -> Any:
        try:
            return self(batch["image"], all_logits)
        except ImageError as error:
            raise ImageError(f"{size_comes_from}: {error}") from None

    def on_train_epoch_end(self) -> None:
        """Log the mean of the training loss over the epoch's crops; move plateau schedules on."""
        self.finite_loss.look()
        if self.train_loss.update_called:
            self.log("train_loss", self.train_loss.compute(), prog_bar=True, sync_dist=True)
            self.train_loss.reset()
        super().on_train_epoch_end()

    def on_validation_epoch_end(self) -> None:
        """Log the loss and the figures of the validation split."""
        self.log("val_loss", self.val_loss.compute(), sync_dist=True)
        _reset(self.val_loss)
        self._log_scores("val", self.val_scores)

    def on_test_epoch_end(self) -> None:
        """Log the figures of the test split."""
        self._log_scores("test", self.test_scores)

    def _log_scores(self, prefix: str, metric: SegmentationMetrics) -> None:
        # kept beside Lightning's own record, which keeps a class's last value where it is nan now
        self.latest_scores = named_scores(metric.compute(), self.classes, prefix)
        _reset(metric)
        for name, value in self.latest_scores.items():
            self.log(name, value, prog_bar=name == f"{prefix}_iou", sync_dist=True)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another network in a line, where PyTorch lists every tensor; go on with the epoch's loss.

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
        if self._trainer is not None and self.trainer.state.fn == "fit":
            self._restored_loss = checkpoint.get("train_loss", [])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the length of the run, to which a resumed one goes on, and the epoch's loss so far on each process."""
        self.finite_loss.look()
        checkpoint["run_length"] = {"max_epochs": self.trainer.max_epochs, "max_steps": self.trainer.max_steps}
        checkpoint["train_loss"] = self.all_gather(self.train_loss.parts).reshape(-1, 2).tolist()  # type: ignore[union-attr]  # of a tensor it is one


def _reset(metric: Metric) -> None:
    """Begin anew; with tensors of inference mode, in which Lightning validates, a later fit couldn't count."""
    with torch.inference_mode(False):
        metric.reset()
