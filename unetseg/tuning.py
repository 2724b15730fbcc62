"""Looking for a batch size and a learning rate before a run, with Lightning's tuner."""

import itertools
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from pytorch_lightning import Trainer
from pytorch_lightning.tuner import lr_finder
from pytorch_lightning.tuner.tuning import Tuner

from unetseg.data.datamodule import SegmentationDataModule
from unetseg.errors import OptionError
from unetseg.task import SegmentationTask

__all__ = ["find_batch_size", "find_lr", "suggestion"]

LR_STEPS = 100
_BETA = 0.98  # of Lightning's running mean
_AROUND = 5
_TOO_EARLY = 10  # steps, at which the rate is too small for the loss to move


def find_batch_size(trainer: Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
    """Double the batch size until memory or training pairs are used up; the largest that fits is the run's.

    Args:
        trainer: The run's; with ``fast_dev_run`` nothing is done.
        task: What will be trained; its weights are afterwards as they were.
        data: Its ``batch_size`` is set.

    Raises:
        OptionError: If there are several processes, which Lightning can't do it for.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it from outside the class
        return
    if trainer.world_size > 1:
        raise OptionError(
            "run.find_batch_size works in a single process only, and the run has "
            f"{trainer.world_size}. Look with --trainer.devices 1 first, and give what it says as --data.batch_size."
        )
    with _long_enough(trainer):
        Tuner(trainer).scale_batch_size(task, datamodule=data, max_trials=16)
    data.batch_size = min(data.batch_size, len(data.sources["train"]))  # Lightning's last size may be beyond them
    data.hparams["batch_size"] = data.batch_size
    _say(trainer, f"batch size: {data.batch_size} (--data.batch_size)")


def find_lr(trainer: Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
    """Raise the learning rate over 100 steps; the run's is a tenth of that at which the loss was lowest.

    All parts of the network have the same rate meanwhile, and gradients aren't accumulated; the run's encoder_lr keeps
    its ratio to lr. Both are rounded to what is said, so that a run in which they are typed is the same.

    Args:
        trainer: The run's, which may be shorter than that; with ``fast_dev_run`` nothing is done.
        task: What will be trained; its weights are afterwards as they were. Its ``lr`` and ``encoder_lr`` are set.
        data: Its training pairs.

    Raises:
        OptionError: If the loss fell at none.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it from outside the class
        return
    with _sweep(trainer, task):
        finder = Tuner(trainer).lr_find(task, datamodule=data, attr_name="lr", update_attr=False, num_training=LR_STEPS)
    assert finder is not None  # without fast_dev_run
    rate = suggestion(finder.results["lr"], finder.results["loss"])
    if rate is None:
        raise OptionError("run.find_lr: the loss fell at none of the rates that were tried; give --model.lr instead.")
    ratio = task.hparams["encoder_lr"] / task.hparams["lr"] if task.hparams["lr"] else 1.0
    found = {"lr": _rounded(rate), "encoder_lr": _rounded(rate * ratio)}
    task.save_hyperparameters(found)  # what loggers and checkpoints hold
    _say(trainer, f"learning rate: --model.lr {found['lr']:g} --model.encoder_lr {found['encoder_lr']:g}")


def suggestion(rates: Sequence[float], means: Sequence[float]) -> float | None:
    """A tenth of the rate at which the loss was lowest, a common rule; None if it was lowest near the start.

    Lightning's own suggestion is where the loss falls fastest by the rate itself, not by its logarithm, as which it is
    raised: that is nearly always among the smallest rates, a thousandth of what a network learns at.

    Args:
        rates: Those of the steps, rising.
        means: Lightning's running means of the loss after each step. They come some fifty steps late, so the losses
            are taken out of them, and averaged over the eleven steps around each.

    Example:
        >>> rates = [10 ** (step / 12.5 - 8) for step in range(100)]
        >>> losses = [1 + (math.log10(rate) + 2) ** 2 for rate in rates]
        >>> sums = itertools.accumulate(losses, lambda mean, loss: 0.98 * mean + 0.02 * loss, initial=0)
        >>> means = [mean / (1 - 0.98 ** (step + 1)) for step, mean in enumerate(sums)][1:]
        >>> f"{suggestion(rates, means):.0e}"
        '1e-03'
    """
    sums = [mean * (1 - _BETA ** (step + 2)) for step, mean in enumerate(means)]
    losses = [(after - _BETA * before) / (1 - _BETA) for before, after in itertools.pairwise([0.0, *sums])]
    losses = list(itertools.takewhile(math.isfinite, losses))
    around = [statistics.fmean(losses[max(0, i - _AROUND) : i + _AROUND + 1]) for i in range(len(losses))]
    lowest = min(range(len(around)), key=around.__getitem__, default=0)
    return rates[lowest] / 10 if lowest > _TOO_EARLY else None


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


@contextmanager
def _long_enough(trainer: Trainer) -> Iterator[None]:
    """Let a short run have the steps that are needed, and a schedule of that length."""
    fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
    before = fit.max_epochs, epoch.max_steps
    if fit.max_epochs != -1:
        fit.max_epochs = max(fit.max_epochs or 0, LR_STEPS * trainer.accumulate_grad_batches)
    if epoch.max_steps != -1:
        epoch.max_steps = max(epoch.max_steps, LR_STEPS)
    try:
        yield
    finally:
        fit.max_epochs, epoch.max_steps = before


@contextmanager
def _sweep(trainer: Trainer, task: SegmentationTask) -> Iterator[None]:
    """No validation, no end where the loss is infinite, and a progress bar only where such are wanted."""
    before, bar = (trainer.check_val_every_n_epoch, trainer.accumulate_grad_batches), trainer.progress_bar_callback
    hidden = bar is None or getattr(bar, "is_disabled", False)
    lightning, bar_class = vars(lr_finder), vars(lr_finder)["tqdm"]
    lightning["tqdm"] = partial(bar_class, disable=hidden, leave=False)  # it knows no option for that
    if trainer.check_val_every_n_epoch is not None:
        trainer.check_val_every_n_epoch = sys.maxsize
    trainer.accumulate_grad_batches = 1  # Lightning loses steps where an epoch isn't a multiple of it
    task.finite_loss.is_on = False
    try:
        with _long_enough(trainer):
            yield
    finally:
        lightning["tqdm"] = bar_class
        trainer.check_val_every_n_epoch, trainer.accumulate_grad_batches = before
        task.finite_loss.is_on = True


def _say(trainer: Trainer, text: str) -> None:
    if trainer.is_global_zero:
        sys.stdout.write(f"{text}\n")
