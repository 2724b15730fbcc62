"""A network that takes no time and whose predictions are known, and a trainer that says nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from unetseg.data.datamodule import SegmentationDataModule


class Threshold(pl.LightningModule):
    """Bright pixels are class 1 of two; in "multilabel" mode they are the first class, and all pixels the second."""

    def __init__(self, mode: str = "binary") -> None:
        super().__init__()
        self.save_hyperparameters({"classes": ["background", "square"], "mode": mode, "ignore_index": 255})
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[tuple[int, ...], float]] = []  # in eval mode: size of the images, and the weight

    def forward(self, image: Tensor) -> Tensor:
        if not self.training:
            self.seen.append((tuple(image.shape), self.weight.item()))
        logit = image.float().mean(dim=1, keepdim=True) - 120
        return {
            "binary": logit,
            "multiclass": torch.cat([-logit, logit], dim=1),
            "multilabel": torch.cat([logit, torch.ones_like(logit)], dim=1),
        }[self.hparams["mode"]]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.log("train_loss", self.weight.detach().sum(), on_step=False, on_epoch=True, batch_size=1)
        return self.weight.sum()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self(batch["image"])
        self.log("val_iou", 0.5, batch_size=1)

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.fixture
def threshold() -> type[Threshold]:
    return Threshold


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    def build(**options: Any) -> pl.Trainer:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        own = {
            "accelerator": "cpu",
            "max_epochs": 1,
            "logger": False,
            "log_every_n_steps": 1,
            "default_root_dir": tmp_path / "run",
        }
        return pl.Trainer(**(quiet | own | options))

    return build


@pytest.fixture
def data(squares: Path) -> Callable[..., SegmentationDataModule]:
    def build(**options: Any) -> SegmentationDataModule:
        own = {"classes": ["background", "square"], "num_workers": 0, "crop_size": 32, "batch_size": 2}
        return SegmentationDataModule(str(squares), **(own | options))

    return build
