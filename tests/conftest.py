"""A data set on disk that is small enough to train on in a second."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# tests talk to nobody, whoever loads ONNX Runtime first
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

SIZES = {"train": [(40, 48), (37, 51), (64, 33), (45, 45)], "val": [(41, 35), (33, 67)], "test": [(35, 49), (66, 34)]}


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Folder data in odd sizes: bright squares (class 1) on a dark ground (class 0), split by lists."""
    root = tmp_path / "squares"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rng = np.random.default_rng(0)
    for split, sizes in SIZES.items():
        names = [f"{split}_{i}" for i in range(len(sizes))]
        (root / f"{split}.txt").write_text("\n".join(names))
        for name, (height, width) in zip(names, sizes, strict=True):
            mask = np.zeros((height, width), dtype=np.uint8)
            top, left = rng.integers(0, height - 20), rng.integers(0, width - 20)
            mask[top : top + 20, left : left + 20] = 1
            image = rng.integers(0, 90, (height, width, 3)) + 150 * mask[..., None]
            Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"{name}.png")
            Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    return root
