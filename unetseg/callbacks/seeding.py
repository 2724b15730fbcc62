"""Randomness that doesn't depend on what was drawn before."""

import os
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

__all__ = ["StepSeed"]


class StepSeed(Callback):
    """Seeds torch's generators before each training step by the run's seed, the process, the epoch and the step.

    So dropout draws in a resumed run what it would have drawn in one that wasn't interrupted, and on each process
    something else. A checkpoint can't hold the generators' states, as one process alone writes it. Without
    ``seed_everything`` nothing is done.
    """

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the step."""
        seed = os.environ.get("PL_GLOBAL_SEED")
        if seed is not None:
            place = (int(seed), trainer.global_rank, trainer.current_epoch, batch_idx)
            torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))
