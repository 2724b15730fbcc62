"""Where a run leaves what it makes."""

import os
from pathlib import Path

import pytorch_lightning as pl

__all__ = ["run_folder"]


def run_folder(trainer: pl.Trainer) -> Path:
    """The folder that the logger chose, absolute. All processes must ask, for the first one tells the others."""
    return Path(os.path.abspath(trainer.log_dir or trainer.default_root_dir))
