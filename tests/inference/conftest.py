"""Checkpoints that several modules predict with."""

from pathlib import Path

import pytest
from prediction_jobs import CLASSES, make_task, save


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each mode."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {mode: save(make_task(mode), folder / f"{mode}.ckpt") for mode in CLASSES}


@pytest.fixture(scope="session")
def checkpoint(checkpoints: dict[str, Path]) -> Path:
    """Three classes, one a pixel."""
    return checkpoints["multiclass"]
