"""A few validation images as the network sees them, epoch by epoch."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.utilities import rank_zero_warn

from unetseg.atomic import atomic_path
from unetseg.callbacks.folder import run_folder
from unetseg.data.dataset import WholeImages
from unetseg.data.images import Pixels
from unetseg.data.masks import Color
from unetseg.data.sources import Source
from unetseg.decision import decide
from unetseg.drawing import IGNORED, class_colors, paint, preview, topmost
from unetseg.errors import OptionError, UnetsegError
from unetseg.report.sheet import Row, sheet

__all__ = ["SamplePictures", "evenly"]

MAX_CROP = 1024  # a side of what is predicted: bounds the memory, and more isn't seen in a shrunk picture anyway
_MAX_LEGEND = 30  # classes that a legend names; of more, those that the targets show


@dataclass(frozen=True)
class _Sample:
    name: str
    image: Pixels  # (H, W, C)
    target: NDArray[np.uint8]  # (H, W), of multilabel data (H, W, classes)


class SamplePictures(Callback):
    """Draws input, target and prediction of a few validation images, the same in every epoch of a fit.

    They are written to ``pictures/epoch_001.png`` and so on in the run's folder, epochs counted from 1 as in the
    table of IoUs, and to every ``TensorBoardLogger``. The images are spread evenly over the validation split.
    An image of more than 1024 pixels a side is cropped to its centre; then it is shrunk to 512 pixels at most.
    Classes have the colours of the data's masks, otherwise those that ``predict`` gives them; ignored pixels of the
    target are grey. Where several classes of multilabel data meet, the last one shows; black is none of them.

    The first process draws, with the weights that were just validated: a callback that swaps averaged weights in must
    come later in the list. Training goes on as if nothing had been drawn, even if drawing fails.

    Args:
        count: Number of images; 0 for no pictures.
        every_n_epochs: Draw in epochs whose number is a multiple of it, if they are validated.

    Raises:
        OptionError: If one of them is too small.
    """

    def __init__(self, count: int = 4, every_n_epochs: int = 1) -> None:
        if count < 0 or every_n_epochs < 1:
            raise OptionError(
                f"SamplePictures: count is {count} and every_n_epochs {every_n_epochs}; give at least 0 and 1"
            )
        self.count = count
        self.every_n_epochs = every_n_epochs
        self._folder = Path()
        self._samples: list[_Sample] | None = None
        self._complained = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Learn the run's folder while all processes are here."""
        if stage == "fit":
            self._folder = run_folder(trainer) / "pictures"
            self._samples, self._complained = None, False

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, while the weights that were validated are in the network."""
        # neither log_dir nor the strategy's model from here on: other processes don't take part
        if not self.count or not trainer.is_global_zero or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        epoch = trainer.current_epoch + 1
        if trainer.fast_dev_run or epoch % self.every_n_epochs:  # type: ignore[attr-defined]  # Lightning sets it from outside the class
            return
        try:
            if self._samples is None:
                self._samples = self._read(trainer)
            if self._samples:
                picture = self._picture(trainer, pl_module, self._samples)
                _save(picture, self._folder / f"epoch_{epoch:03}.png")
                for logger in trainer.loggers:
                    if isinstance(logger, TensorBoardLogger):
                        logger.experiment.add_image("pictures", picture, trainer.global_step, dataformats="HWC")
        except (OSError, UnetsegError) as error:  # a full disk, an image that a limited validation never came to
            self._complain(f"pictures of epoch {epoch} couldn't be drawn: {error}")

    def _read(self, trainer: pl.Trainer) -> list[_Sample]:
        source = _source(trainer)
        if source is None:
            self._complain("SamplePictures draws nothing: it needs the validation images of SegmentationDataModule.")
            return []
        if not isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy):
            self._complain("SamplePictures draws nothing: with this strategy, no process has the whole network.")
            return []
        samples = []
        for index in evenly(len(source), self.count):
            image, target, name = source.read(index)
            middle = _centre(target.shape)
            samples.append(_Sample(name, image[middle].copy(), target[middle].copy()))  # the rest needn't stay
        return samples

    def _picture(self, trainer: pl.Trainer, module: pl.LightningModule, samples: list[_Sample]) -> NDArray[np.uint8]:
        classes, multilabel = list(module.hparams["classes"]), module.hparams["mode"] == "multilabel"
        colors = _data_colors(trainer, classes) or class_colors(len(classes), multilabel=multilabel)
        shown = [(0, 0, 0), *colors] if multilabel else colors
        ignore_index = int(module.hparams["ignore_index"])
        targets = [_single(sample.target, ignore_index) for sample in samples]
        with _evaluating(module), trainer.precision_plugin.val_step_context():
            predictions = [_predict(trainer, module, sample.image) for sample in samples]
        rows = [
            Row(sample.name, [preview(sample.image), paint(target, shown, ignore_index), paint(predicted, shown)])
            for sample, target, predicted in zip(samples, targets, predictions, strict=True)
        ]
        values = {int(value) for target in targets for value in np.unique(target)}
        legend = [
            (name, color)
            for i, (name, color) in enumerate(zip(classes, colors, strict=True), start=int(multilabel))
            if len(classes) <= _MAX_LEGEND or i in values
        ]
        if ignore_index in values:
            legend.append(("ignored", IGNORED))
        return sheet(["input", "target", "prediction"], rows, legend)

    def _complain(self, text: str) -> None:
        if not self._complained:
            rank_zero_warn(text)
        self._complained = True


def evenly(length: int, count: int) -> list[int]:
    """Numbers of ``count`` items among ``length``, spread evenly; of all, if they are no more.

    Example:
        >>> evenly(100, 4), evenly(2, 4)
        ([12, 37, 62, 87], [0, 1])
    """
    count = min(count, length)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def _source(trainer: pl.Trainer) -> Source | None:
    """Where validation reads, be it through the data module or through its loader."""
    dataset = getattr(trainer.val_dataloaders, "dataset", None)
    return dataset.pairs.source if isinstance(dataset, WholeImages) else None


def _data_colors(trainer: pl.Trainer, classes: list[str]) -> list[Color] | None:
    """The first colour of each class, where masks are coloured."""
    labels = getattr(trainer.datamodule, "labels", None)  # type: ignore[attr-defined]  # Lightning sets it from outside the class
    colors = getattr(labels, "colors", {})
    return [colors[name][0] for name in classes] if set(classes) <= set(colors) else None


def _centre(size: tuple[int, ...]) -> tuple[slice, slice]:
    """The middle of (H, W, ...) pixels."""
    top, left = (max(0, (side - MAX_CROP) // 2) for side in size[:2])
    return slice(top, top + MAX_CROP), slice(left, left + MAX_CROP)


def _single(target: NDArray[np.uint8], ignore_index: int) -> NDArray[np.uint8]:
    """One value a pixel: of several classes the last; ignored where there is none and one may be.

    Example:
        >>> _single(np.array([[[1, 1], [1, 255], [0, 255], [0, 0]]], dtype=np.uint8), 255).tolist()
        [[2, 1, 255, 0]]
    """
    if target.ndim == 2:
        return target
    shown = topmost(target.transpose(2, 0, 1))
    shown[(shown == 0) & (target == ignore_index).any(axis=2)] = ignore_index
    return shown


def _predict(trainer: pl.Trainer, module: pl.LightningModule, image: Pixels) -> NDArray[np.uint8]:
    batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(module.device)
    logits = module(trainer.precision_plugin.convert_input(batch))
    classes = decide(logits, module.hparams["mode"])[0].cpu().numpy()
    return classes if classes.ndim == 2 else topmost(classes)


@contextmanager
def _evaluating(module: pl.LightningModule) -> Iterator[None]:
    """Eval mode without gradients; afterwards every submodule and every generator is as it was."""
    modes = [(part, part.training) for part in module.modules()]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - what others draw from
    devices = [module.device] if module.device.type == "cuda" else []
    try:
        module.eval()
        with torch.random.fork_rng(devices), torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _save(picture: NDArray[np.uint8], path: Path) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
