"""The one implementation of prediction: an image in, its classes out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetseg.checkpoint import read_checkpoint
from unetseg.config import Mode, check_choice
from unetseg.data.images import ImageReader, Pixels
from unetseg.data.labels import parse_labels
from unetseg.data.masks import Color
from unetseg.decision import class_probabilities, decide, decide_probabilities
from unetseg.errors import ImageError, OptionError, UnetsegError
from unetseg.inference.augmentation import TTA, mean_of_views
from unetseg.inference.folding import fold_batch_norm
from unetseg.inference.memory import peak_activation_bytes
from unetseg.inference.sources import ArraySource, ImageSource, read_tiles
from unetseg.inference.tiling import Blend, BlendedTiles, Tiling
from unetseg.model import UNet

__all__ = ["Block", "Precision", "Prediction", "Predictor"]

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
"""What a network computes in, in Lightning's words: float32; or convolutions and products in bfloat16 or float16."""

AUTO_TILE = 1024
DEFAULT_OVERLAP = 128
MEMORY_BUDGET = 4 * 2**30
"""Bytes that the network's maps may take before an image is tiled by itself. Not what this machine has free: the same
image gives the same mask everywhere."""

_ALWAYS_WHOLE = 2**20  # pixels, for which no network's memory is measured
_DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Prediction:
    """What an image shows.

    Attributes:
        classes: (H, W) uint8, indices of classes; of a "multilabel" model (classes, H, W) uint8 of 0 and 1.
        probabilities: (classes, H, W) float32 in [0, 1], if they were asked for.
    """

    classes: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Block(Prediction):
    """What a rectangle of an image shows.

    Attributes:
        top: Its first row in the image.
        left: Its first column.
    """

    top: int = 0
    left: int = 0


class Predictor:
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
        check_choice("blend", blend, Blend)
        check_choice("tta", tta, TTA)
        for name, value in {"batch_size": batch_size, "tile": 1 if tile in ("auto", None) else tile}.items():
            if type(value) is not int or value < 1:
                hint = ' (or "auto", or None)' if name == "tile" else ""
                raise OptionError(f"{name} is {value!r}; it must be a whole number from 1 on{hint}.")
        self.classes = tuple(classes)
        self.mode = mode
        self.colors = colors
        self.precision = precision
        self.tile = tile
        self.tta = tta
        self.batch_size = batch_size
        stride, side = model.total_stride, AUTO_TILE if tile in ("auto", None) else int(tile)
        if tile is None:
            overlap = None
        if overlap is None:
            overlap = min(DEFAULT_OVERLAP, 2 * side // 5 // stride * stride)
        self.tiling = Tiling(side, overlap, stride, blend)
        self.read = ImageReader(model.in_channels, max_value)
        self.in_channels, self.min_size = model.in_channels, model.min_size
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

    def __call__(self, image: Pixels) -> NDArray[np.uint8]:
        """The class, or the classes, of every pixel.

        Args:
            image: (H, W, in_channels), uint8 in 0..255 or float32 in [0, 1]; RGB where in_channels is 3.

        Returns:
            (H, W) uint8, indices into ``classes``; of a "multilabel" model (classes, H, W) uint8 of 0 and 1.

        Raises:
            ImageError: If it is no such array, too small for the encoder, or too large for the memory.
        """
        return self.predict([image])[0].classes

    def predict(self, images: Sequence[Pixels], *, probabilities: bool = False) -> list[Prediction]:
        """Predict images of one size in one batch; those that are tiled one after the other.

        Args:
            images: As a call takes them.
            probabilities: Whether these are wanted, too.

        Raises:
            ImageError: As in a call.
        """
        for image in images:
            self._check(image)
        if len({(image.shape, image.dtype) for image in images}) > 1:
            kinds = ", ".join(sorted({f"{image.shape} {image.dtype}" for image in images}))
            raise ImageError(f"images of one batch have one size and one dtype; got {kinds}.")
        if not images or self.is_tiled(*images[0].shape[:2]):
            return [self._assembled(image, probabilities) for image in images]
        classes, maps = self._classify(images, probabilities)
        kept = [None] * len(images) if maps is None else list(maps.cpu().numpy())
        return [Prediction(one, map_) for one, map_ in zip(classes.cpu().numpy(), kept, strict=True)]

    def is_tiled(self, height: int, width: int) -> bool:
        """Whether the network sees an image of that size in parts."""
        if self.tile is None:
            return False
        if self.tile == "auto":
            return height * width > _ALWAYS_WHOLE and self._bytes(height, width) > MEMORY_BUDGET
        return max(height, width) > self.tiling.tile

    def blocks(self, source: ImageSource, *, probabilities: bool = False) -> Iterator[Block]:
        """Predict an image that is read by windows, in memory that doesn't grow with its height.

        Args:
            source: The image.
            probabilities: Whether these are wanted, too.

        Returns:
            Rectangles that cover the image once, row by row from the top, in each from the left; those of a row have
            one height.

        Raises:
            ImageError: As in a call, and as the source raises.
        """
        if not self.is_tiled(source.height, source.width):
            image = source.read(0, 0, source.height, source.width)
            (whole,) = self.predict([image], probabilities=probabilities)
            yield Block(whole.classes, whole.probabilities)
            return
        tiles = BlendedTiles(source.height, source.width, self.tiling)
        for group, windows in read_tiles(source, tiles, self.batch_size):
            for window in windows:
                self._check(window)
            for tile, maps in zip(group, self._probabilities(self._batch(windows)), strict=True):
                with torch.inference_mode():
                    blended = tiles.blend(tile, maps)
                    classes = decide_probabilities(blended[None], self.mode)[0].cpu().numpy()
                    kept = blended.cpu().numpy() if probabilities else None
                yield Block(classes, kept, tile.rows[0], tile.columns[0])

    def logits(self, image: Pixels) -> Tensor:
        """The network's logits of an image that it sees whole, without test-time augmentation.

        Args:
            image: As a call takes it.

        Returns:
            (num_logits, H, W) float32, on the device.

        Raises:
            ImageError: As in a call.
        """
        self._check(image)
        return self._logits(self._batch([image]))[0]

    def _bytes(self, height: int, width: int) -> int:
        """What the network's maps of an image take in float32; tiles are the same in any precision."""
        if (height, width) not in self._measured:
            image = torch.empty(1, self.in_channels, height, width, dtype=torch.uint8, device="meta")
            self._measured[height, width] = peak_activation_bytes(self.network, image)
        return self._measured[height, width]

    def _check(self, image: Pixels) -> None:
        channels = self.in_channels
        if image.ndim != 3 or image.shape[2] != channels or image.dtype not in (np.uint8, np.float32):
            raise ImageError(
                f"an image is an (H, W, {channels}) {'RGB ' if channels == 3 else ''}array, uint8 with values in "
                f"0..255 or float32 with values in [0, 1]; got shape {image.shape}, dtype {image.dtype}."
            )

    def _batch(self, images: Sequence[Pixels]) -> Tensor:
        """(N, in_channels, H, W), channels last, on the device."""
        pixels = np.stack(images) if len(images) > 1 else images[0][None]
        pixels = np.require(pixels, requirements=["C", "W"])  # torch warns of arrays that can't be written to
        return torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)

    def _assembled(self, image: Pixels, probabilities: bool) -> Prediction:
        size = image.shape[:2]
        classes = np.empty((len(self.classes), *size) if self.mode == "multilabel" else size, np.uint8)
        maps = np.empty((len(self.classes), *size), np.float32) if probabilities else None
        for block in self.blocks(ArraySource(image), probabilities=probabilities):
            height, width = block.classes.shape[-2:]
            place = (..., slice(block.top, block.top + height), slice(block.left, block.left + width))
            classes[place] = block.classes
            if maps is not None:
                maps[place] = block.probabilities
        return Prediction(classes, maps)

    @torch.inference_mode()
    def _classify(self, images: Sequence[Pixels], probabilities: bool) -> tuple[Tensor, Tensor | None]:
        """Classes, and probabilities if wanted, of images that are seen whole."""
        batch = self._batch(images)
        if self.tta != "none":
            maps = self._probabilities(batch)
            return decide_probabilities(maps, self.mode), maps if probabilities else None
        logits = self._logits(batch)
        return decide(logits, self.mode), class_probabilities(logits, self.mode) if probabilities else None

    @torch.inference_mode()
    def _probabilities(self, batch: Tensor) -> Tensor:
        """(N, classes, H, W) float32."""
        return mean_of_views(
            lambda view: class_probabilities(self._logits(view), self.mode), batch, self.tta, min_size=self.min_size
        )

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
