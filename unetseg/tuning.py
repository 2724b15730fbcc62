"""Looking for a batch size and a learning rate before a run, with Lightning's tuner."""

import sys

from pytorch_lightning import Trainer
from pytorch_lightning.tuner.tuning import Tuner

from unetseg.data.datamodule import SegmentationDataModule
from unetseg.errors import OptionError
from unetseg.task import SegmentationTask

__all__ = ["find_batch_size", "find_lr"]


def find_batch_size(trainer: Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
    """Double the batch size until memory or training pairs are used up; the largest that fits is the run's.

    Args:
        trainer: The run's.
        task: What will be trained; its weights are afterwards as they were.
        data: Its ``batch_size`` is set.
    """
    Tuner(trainer).scale_batch_size(task, datamodule=data, max_trials=16)
    data.hparams["batch_size"] = data.batch_size
    _say(trainer, f"batch size: {data.batch_size} (--data.batch_size)")


def find_lr(trainer: Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
    """Raise the learning rate over 100 steps; the run's is that at which the loss fell fastest.

    All parts of the network have the same rate meanwhile; the run's encoder_lr keeps its ratio to lr.

    Args:
        trainer: The run's.
        task: What will be trained; its weights are afterwards as they were. Its ``lr`` and ``encoder_lr`` are set.
        data: Its training pairs.

    Raises:
        OptionError: If the steps don't suffice to tell.
    """
    finder = Tuner(trainer).lr_find(task, datamodule=data, attr_name="lr", update_attr=False)
    rate = finder.suggestion() if finder else None
    if rate is None:
        raise OptionError("run.find_lr needs more steps than the run has; give --model.lr, or more epochs or pairs.")
    ratio = task.hparams["encoder_lr"] / task.hparams["lr"]
    task.hparams["lr"], task.hparams["encoder_lr"] = rate, rate * ratio
    _say(trainer, f"learning rate: {rate:.3g} (--model.lr), encoder {rate * ratio:.3g} (--model.encoder_lr)")


def _say(trainer: Trainer, text: str) -> None:
    if trainer.is_global_zero:
        sys.stdout.write(f"{text}\n")
