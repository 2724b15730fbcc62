"""What predictions are tested on: checkpoints of untrained networks, photos and rasters made on the spot."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import rasterio
import tifffile
import torch
from PIL import Image

from unetseg.inference.command import main
from unetseg.inference.description import ModelDescription
from unetseg.task import SegmentationTask

CLASSES = {
    "multiclass": ["ground", "road", "water"],
    "binary": ["ground", "road"],
    "multilabel": ["left/right", "road"],
}
NORTH_UP = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_800_000)


@dataclass
class Computed:
    """A runtime that computes by a function of (N, C, H, W) float32 in [0, 1]."""

    compute: Callable[[np.ndarray], np.ndarray]
    description: ModelDescription

    def run(self, batch: np.ndarray) -> np.ndarray:
        return self.compute(batch)


def make_task(mode: str = "multiclass", classes: list[str] | None = None, **options: Any) -> SegmentationTask:
    """An untrained network of stride 8, whose classes all occur."""
    pl.seed_everything(0, verbose=False)
    options = {"encoder_depth": 3, "decoder_channels": [16, 8, 8], **options}
    task = SegmentationTask(classes or CLASSES[mode], mode=mode, **options).eval()
    with torch.no_grad():
        noise = torch.randint(0, 256, (1, task.hparams["in_channels"], 96, 97), dtype=torch.uint8)
        logits = task.model(noise).flatten(2)
        (*_, last) = (module for module in task.model.head.modules() if isinstance(module, torch.nn.Conv2d))
        last.weight /= logits.std(dim=2).view(-1, 1, 1, 1)
        last.bias.copy_((last.bias - logits.mean(dim=(0, 2))) / logits.std(dim=(0, 2)))
    return task


def save(task: SegmentationTask, path: Path) -> Path:
    """Write a task as the checkpoint of a fit: prediction asks for no more than the file."""
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(task)
    task.trainer = trainer
    trainer.save_checkpoint(path, weights_only=True)
    return path


def pixels(height: int, width: int, channels: int = 3) -> np.ndarray:
    """(H, W, C) uint8 without 0, noise in which there are shapes."""
    rng = np.random.default_rng(1000 * height + width)
    coarse = rng.integers(1, 256, (height // 9 + 1, width // 9 + 1, channels)).repeat(9, axis=0).repeat(9, axis=1)
    noise = rng.integers(-20, 21, (height, width, channels))
    return np.clip(coarse[:height, :width] + noise, 1, 255).astype(np.uint8)


def write_image(path: Path, height: int = 21, width: int = 34, **options: Any) -> Path:
    """Write an RGB image in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(height, width)).save(path, **options)
    return path


def write_raster(path: Path, image: np.ndarray, driver: str = "GTiff", **options: Any) -> Path:
    """Write (H, W, C) as a TIFF in blocks that lies on the earth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"crs": "EPSG:32633", "transform": NORTH_UP, "compress": "deflate", **options}
    size = {"height": image.shape[0], "width": image.shape[1], "count": image.shape[2], "dtype": image.dtype.name}
    blocks = {"blocksize": 128} if driver == "COG" else {"tiled": True, "blockxsize": 32, "blockysize": 32}
    if driver == "GTiff":
        options["photometric"] = "rgb" if image.shape[2] == 3 else "minisblack"
    with rasterio.open(path, "w", driver=driver, **size, **blocks, **options) as file:
        file.write(np.moveaxis(image, -1, 0))
    return path


def write_tiff(path: Path, image: np.ndarray) -> Path:
    """Write (H, W, 3) as a TIFF in blocks that lies nowhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image, photometric="rgb", tile=(32, 32), compression="zlib")
    return path


def predict(inputs: Path | list[Path], checkpoint: Path, output: Path, *options: str) -> int:
    """Run the command; return its exit code."""
    paths = inputs if isinstance(inputs, list) else [inputs]
    return main([*map(str, paths), f"--ckpt_path={checkpoint}", f"--output={output}", *options])


def files(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder, hidden ones among them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
