"""What is exported: untrained networks of stride 8, whose classes all occur."""

from pathlib import Path

import pytest
from prediction_jobs import CLASSES, make_task, save

from unetseg import Predictor


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each mode."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {mode: save(make_task(mode), folder / f"{mode}.ckpt") for mode in CLASSES}


@pytest.fixture(scope="session")
def predictors(checkpoints: dict[str, Path]) -> dict[str, Predictor]:
    """Their predictors, on the CPU."""
    return {mode: Predictor.from_checkpoint(path, device="cpu") for mode, path in checkpoints.items()}


@pytest.fixture
def predictor(predictors: dict[str, Predictor]) -> Predictor:
    """Three classes, one a pixel."""
    return predictors["multiclass"]
