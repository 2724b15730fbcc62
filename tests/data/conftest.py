"""Small data sets on disk."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_pairs(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes pairs below a folder, by name or with a mask given for each name."""

    def write(
        pairs: list[str] | Mapping[str, np.ndarray],
        folder: str = "data",
        *,
        image_suffix: str = ".png",
        size: tuple[int, int] = (7, 5),
    ) -> Path:
        rng = np.random.default_rng(0)
        masks = pairs if isinstance(pairs, Mapping) else {name: np.eye(*size, dtype=np.uint8) for name in pairs}
        for name, mask in masks.items():
            image_path = tmp_path / folder / "images" / f"{name}{image_suffix}"
            mask_path = tmp_path / folder / "masks" / f"{name}.png"
            image_path.parent.mkdir(parents=True, exist_ok=True)
            mask_path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (*mask.shape, 3), dtype=np.uint8)).save(image_path)
            Image.fromarray(mask).save(mask_path)
        return tmp_path / folder

    return write
