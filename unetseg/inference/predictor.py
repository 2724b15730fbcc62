"""Prediction by PyTorch: an image in, its classes out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from unetseg.checkpoint import read_checkpoint
from unetseg.config import Mode, Precision, check_choice
from unetseg.data.images import Pixels
from unetseg.data.labels import parse_labels
from unetseg.data.masks import Color
from unetseg.decision import class_probabilities, decide, decide_probabilities
from unetseg.errors import ImageError, OptionError, UnetsegError
from unetseg.inference.augmentation import TTA, mean_of_views
from unetseg.inference.base import BasePredictor
from unetseg.inference.description import ModelDescription
from unetseg.inference.folding import fold_batch_norm
from unetseg.inference.memory import peak_activation_bytes
from unetseg.inference.prediction import Block, Prediction
from unetseg.inference.tiling import Blend, BlendedTiles, Tile
from unetseg.model import UNet

__all__ = ["Predictor"]

_DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Predictor(BasePredictor):
    """Classes of images, each at its own size.

    The network's batch norms are folded into its convolutions, in a copy: logits differ from the model's in their last
    bits, and every use of a predictor gives the same ones.

    Args:
        model: The network.
        classes: Names of its classes.
        device: "auto" for a GPU if there is one, or a torch device such as "cpu".
        mode: "multiclass" or "binary", where a pixel has one class; "multilabel", where it has any number of them.
        max_value: Value of an image file that stands for full brightness, as in training; see ``ImageReader``.
        colors: RGB colour of each class, if the masks that it learned from had some.
        precision: "32-true"; or "bf16-mixed" or "16-mixed", which are faster on a GPU.
        tile: Most rows and columns that the network sees at a time; None for whole images; "auto" for whole ones while
            the network's maps take no more than 4 GiB, else 1024.
        overlap: Rows and columns that neighbouring tiles share, two fifths of a tile at most; None for 128, or as many.
        blend: How tiles pass into each other there: "gaussian", "linear", or "none" for a cut in the middle.
        tta: Test-time augmentation, the mean of the probabilities of several views: "none", "flips" (4), "d4" (8: flips
            and turns by quarters), "scales" (3).
        batch_size: Tiles in a batch.

    Attributes:
        read: Reads image files as it takes them, the way they were read in training.

    Raises:
        UnetsegError: If there is no such device.
        OptionError: If an option has a value that it doesn't take.

    Example:
        >>> predictor = Predictor(UNet(classes=2), classes=["background", "road"], device="cpu")
        >>> predictor(np.zeros((61, 47, 3), dtype=np.uint8)).shape
        (61, 47)
    """

    def __init__(
        self,
        model: UNet,
        classes: Sequence[str],
        *,
        device: str | torch.device = "auto",
        mode: Mode = "multiclass",
        max_value: float | None = None,
        colors: Sequence[Color] | None = None,
        precision: Precision = "32-true",
        tile: int | Literal["auto"] | None = "auto",
        overlap: int | None = None,
        blend: Blend = "gaussian",
        tta: TTA = "none",
        batch_size: int = 1,
    ) -> None:
        check_choice("precision", precision, Precision)
        description = ModelDescription(
            classes=tuple(classes),
            mode=mode,
            in_channels=model.in_channels,
            max_value=max_value,
            colors=None if colors is None else tuple(colors),
            min_size=model.min_size,
            total_stride=model.total_stride,
        )
        super().__init__(description, tile=tile, overlap=overlap, blend=blend, tta=tta, batch_size=batch_size)
        self.precision = precision
        self.mean, self.std = model.mean.flatten().tolist(), model.std.flatten().tolist()
        least = max(model.min_size, 64)
        example = torch.rand(1, model.in_channels, least + 1, least + 3, generator=torch.Generator().manual_seed(0))
        example = example.to(model.mean.device)
        self.network = fold_batch_norm(model, example).to(memory_format=torch.channels_last)
        self._measured: dict[tuple[int, int], int] = {}
        self.device = torch.device("cpu")
        self.to(device)

    @classmethod
    def from_checkpoint(cls, path: str | Path, **options: Any) -> "Predictor":
        """A predictor from a file that ``fit`` wrote. The file is all it needs; nothing is downloaded.

        Args:
            path: The file, such as ``runs/version_0/best.ckpt``.
            options: Those of the class that the file doesn't say: device, precision, tile, overlap, blend, tta,
                batch_size.

        Raises:
            CheckpointError: If it isn't a checkpoint of this project.
        """
        checkpoint = read_checkpoint(path)
        settings = checkpoint.data_settings
        said: dict[str, Any] = {
            "mode": checkpoint.mode,
            "max_value": settings.get("max_value"),
            "colors": _colors(settings),
        }
        return cls(checkpoint.build_model(), checkpoint.classes, **(said | options))

    def to(self, device: str | torch.device) -> "Predictor":
        """Move the network: "auto" for a GPU if there is one, or a torch device.

        Raises:
            UnetsegError: If there is no such device.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.zeros((), device=device).device
        except (AssertionError, RuntimeError) as error:  # no such device here, or in this build of torch
            reason = str(error).splitlines()[0]
            raise UnetsegError(f"device {str(device)!r} can't be used: {reason} Give auto, cpu or cuda.") from error
        self.network.to(self.device)
        return self

    def logits(self, image: Pixels) -> Tensor:
        """The network's logits of an image that it sees whole, without test-time augmentation.

        Args:
            image: As a call takes it.

        Returns:
            (num_logits, H, W) float32, on the device.

        Raises:
            ImageError: As in a call.
        """
        self.check(image)
        return self._logits(self._batch([image]))[0]

    def map_bytes(self, height: int, width: int) -> int:
        """What the network's maps of an image take in float32; tiles are the same in any precision."""
        if (height, width) not in self._measured:
            image = torch.empty(1, self.description.in_channels, height, width, dtype=torch.uint8, device="meta")
            self._measured[height, width] = peak_activation_bytes(self.network, image)
        return self._measured[height, width]

    @torch.inference_mode()
    def predict_whole(self, images: Sequence[Pixels], probabilities: bool) -> list[Prediction]:
        """Predict images of one size, none of which is tiled."""
        batch, mode = self._batch(images), self.mode
        maps: Tensor | None = None
        if self.tta != "none":
            maps = self._probabilities(batch)
            classes = decide_probabilities(maps, mode)
        else:
            logits = self._logits(batch)
            classes = decide(logits, mode)
            maps = class_probabilities(logits, mode) if probabilities else None
        kept = [None] * len(images) if maps is None or not probabilities else list(maps.cpu().numpy())
        return [Prediction(one, map_) for one, map_ in zip(classes.cpu().numpy(), kept, strict=True)]

    def tile_probabilities(self, tiles: Sequence[Pixels]) -> Tensor:
        """(N, classes, h, w) float32 of tiles of one size, on the device."""
        return self._probabilities(self._batch(tiles))

    @torch.inference_mode()
    def blend(self, tiles: BlendedTiles, tile: Tile, maps: Tensor, probabilities: bool) -> Block:
        """What a tile finishes."""
        blended = tiles.blend(tile, maps)
        classes = decide_probabilities(blended[None], self.mode)[0].cpu().numpy()
        kept = blended.cpu().numpy() if probabilities else None
        return Block(classes, kept, tile.rows[0], tile.columns[0])

    def _batch(self, images: Sequence[Pixels]) -> Tensor:
        """(N, in_channels, H, W), channels last, on the device."""
        pixels = np.stack(images) if len(images) > 1 else images[0][None]
        pixels = np.require(pixels, requirements=["C", "W"])  # torch warns of arrays that can't be written to
        return torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)

    @torch.inference_mode()
    def _probabilities(self, batch: Tensor) -> Tensor:
        """(N, classes, H, W) float32."""

        def predict(view: Tensor) -> Tensor:
            logits = self._logits(view.contiguous(memory_format=torch.channels_last))
            return class_probabilities(logits, self.mode)

        return mean_of_views(predict, batch, self.tta, min_size=self.description.min_size)

    @torch.inference_mode()
    def _logits(self, batch: Tensor) -> Tensor:
        """(N, num_logits, H, W) float32 of a batch on the device."""
        lower = self.precision != "32-true"
        try:
            # also where it is off, as Lightning may have switched it on around
            with torch.autocast(self.device.type, _DTYPES[self.precision] if lower else None, enabled=lower):
                logits: Tensor = self.network(batch)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError) and "memory" not in str(error):
                raise
            height, width = batch.shape[-2:]
            raise ImageError(
                f"the network's maps of {len(batch)} x {width}x{height} pixels don't fit into the memory; use tiles, "
                f"smaller ones (--tile 512), or a smaller --batch_size."
            ) from error
        logits = logits.float()
        if self.precision == "16-mixed" and not logits.isfinite().all():
            raise OptionError("float16 overflows in this network; use precision bf16-mixed or 32-true.")
        return logits


def _colors(data_settings: Mapping[str, Any]) -> list[Color] | None:
    """The first colour of each class, where masks were coloured."""
    classes = data_settings.get("classes")
    if not isinstance(classes, Mapping):
        return None
    labels = parse_labels(classes)
    return [labels.colors[name][0] for name in labels.classes]
