"""The curves of a run, drawn when it has ended."""

import sys
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_warn

from unetseg.callbacks.folder import run_folder
from unetseg.errors import UnetsegError
from unetseg.report.curves import NoCurvesError, plot_curves

__all__ = ["CurvesPlot"]


class CurvesPlot(Callback):
    """Draws ``curves.png`` into the run's folder when a fit has ended, also by an error or by Ctrl+C.

    The curves are those of a ``CSVLogger``; without one there are none. Where a run was resumed from a checkpoint
    with a metrics.csv beside it, they begin with that run's epochs. Without matplotlib, a line says how to get it.
    """

    def __init__(self) -> None:
        self._folder = Path()
        self._earlier: Path | None = None
        self._has_run = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Learn the run's folder while all processes are here."""
        self._has_run = False
        if stage == "fit":
            self._folder = run_folder(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """There will be something to draw, perhaps below what an earlier run has logged."""
        self._has_run = True
        beside = Path(trainer.ckpt_path).with_name("metrics.csv") if trainer.ckpt_path else None
        self._earlier = beside if beside is not None and beside.is_file() else None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the curves."""
        self._draw(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Draw what there is until then."""
        self._draw(trainer)

    def _draw(self, trainer: pl.Trainer) -> None:
        logger = next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)
        if not self._has_run or logger is None or not trainer.is_global_zero:
            return
        self._has_run = False  # what follows may fail, and isn't drawn twice
        try:
            logger.save()  # it keeps some rows back
            metrics = Path(logger.log_dir) / "metrics.csv"
            if metrics.is_file():
                plot_curves(metrics, self._folder / "curves.png", earlier=self._earlier)
        except NoCurvesError:
            pass
        except UnetsegError as error:
            sys.stdout.write(f"hint: no curves.png was drawn: {error}\n")
        except OSError as error:  # a full disk mustn't hide how the training ended
            rank_zero_warn(f"curves.png couldn't be written: {error}")
