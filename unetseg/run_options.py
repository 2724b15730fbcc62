"""Options of a training run that are neither the model's nor the data's, and what of Lightning they stand for."""

import dataclasses

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from unetseg.callbacks import (
    BestAndLastCheckpoint,
    CurvesPlot,
    Patience,
    SamplePictures,
    ScoreTable,
    StepSeed,
    WeightAverage,
)
from unetseg.errors import OptionError
from unetseg.run_folder import RunLogger

__all__ = ["RunOptions", "run_callbacks", "run_loggers"]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What a run keeps and shows, and when it ends early.

    Args:
        folder: Where the runs' folders are; each run makes one of its own, version_N.
        checkpoint_every_n_steps: Optimizer steps after which last.ckpt is written within an epoch, too; 0 for never.
        pictures: Validation images that are drawn after each validation, beside target and prediction; 0 for none.
        tensorboard: Whether to log to TensorBoard, too. Needs the package tensorboard.
        early_stopping: Validations without a better val_iou after which the run ends; null for never.
        ema_decay: Weight of the past in an exponential moving average of the weights, which is what is validated and
            saved; about 1 / (1 - decay) steps are averaged, so a run should have many more; null for none.
        find_lr: Whether to look for a learning rate first, by raising it over 100 steps: a tenth of that at
            which the loss was lowest takes the place of --model.lr.
        find_batch_size: Whether to look first for the largest batch that fits the memory.
    """

    folder: str = "runs"
    checkpoint_every_n_steps: int = 0
    pictures: int = 4
    tensorboard: bool = False
    early_stopping: int | None = None
    ema_decay: float | None = None
    find_lr: bool = False
    find_batch_size: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            OptionError: If one is out of its range.
        """
        for name in ("checkpoint_every_n_steps", "pictures"):
            if getattr(self, name) < 0:
                raise OptionError(f"run.{name} is {getattr(self, name)}; it must be 0 or more.")
        if self.early_stopping is not None and self.early_stopping < 1:
            raise OptionError(f"run.early_stopping is {self.early_stopping}; it must be 1 or more, or null.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise OptionError(f"run.ema_decay is {self.ema_decay}; it must be between 0 and 1, such as 0.99, or null.")


def run_callbacks(options: RunOptions) -> list[Callback]:
    """The callbacks of a run, in an order that matters: pictures are drawn while the averaged weights are in place."""
    callbacks: list[Callback] = [
        BestAndLastCheckpoint(options.checkpoint_every_n_steps),
        ScoreTable(),
        StepSeed(),
        SamplePictures(options.pictures),
        CurvesPlot(),
    ]
    if options.early_stopping is not None:
        callbacks.append(Patience(options.early_stopping))
    if options.ema_decay is not None:
        callbacks.append(WeightAverage(options.ema_decay))
    return callbacks


def run_loggers(options: RunOptions) -> list[Logger]:
    """CSV always, in a folder of its own, and TensorBoard in the same if asked for.

    Raises:
        OptionError: If TensorBoard isn't installed.
    """
    csv = RunLogger(options.folder)
    if not options.tensorboard:
        return [csv]
    try:
        return [csv, TensorBoardLogger(options.folder, name="", version=csv.version)]
    except ModuleNotFoundError as error:
        raise OptionError("run.tensorboard needs a package that isn't there: pip install tensorboard.") from error
