"""The one implementation of prediction: an array in, its classes out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetseg.checkpoint import read_checkpoint
from unetseg.config import Mode
from unetseg.data.images import ImageReader, Pixels
from unetseg.data.labels import parse_labels
from unetseg.data.masks import Color
from unetseg.decision import decide
from unetseg.errors import ImageError, UnetsegError
from unetseg.model import UNet

__all__ = ["Predictor"]


class Predictor:
    """Classes of images, each whole and at its own size.

    Args:
        model: The network; put into eval mode, moved to the device.
        classes: Names of its classes.
        device: "auto" for a GPU if there is one, or a torch device such as "cpu".
        mode: "multiclass", where a pixel has one class; "multilabel", where it has any number of them.
        max_value: Value of an image file that stands for full brightness, as in training; see ``ImageReader``.
        colors: RGB colour of each class, if the masks that it learned from had some.

    Attributes:
        read: Reads image files as it takes them, the way they were read in training.

    Raises:
        UnetsegError: If there is no such device.

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
        device: str = "auto",
        mode: Mode = "multiclass",
        max_value: float | None = None,
        colors: Sequence[Color] | None = None,
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.classes = tuple(classes)
        self.mode = mode
        self.colors = colors
        self.read = ImageReader(model.in_channels, max_value)
        try:
            self.device = torch.zeros((), device=device).device
        except (AssertionError, RuntimeError) as error:  # no such device here, or in this build of torch
            reason = str(error).splitlines()[0]
            raise UnetsegError(f"device {device!r} can't be used: {reason} Give auto, cpu or cuda.") from error
        self.model = model.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks a device beside a format

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, device: str = "auto") -> "Predictor":
        """A predictor from a file that ``fit`` wrote. The file is all it needs; nothing is downloaded.

        Raises:
            CheckpointError: If it isn't a checkpoint of this project.
        """
        checkpoint = read_checkpoint(path)
        settings = checkpoint.data_settings
        return cls(
            checkpoint.build_model(),
            checkpoint.classes,
            device=device,
            mode=checkpoint.mode,
            max_value=settings.get("max_value"),
            colors=_colors(settings),
        )

    def __call__(self, image: Pixels) -> NDArray[np.uint8]:
        """The class, or the classes, of every pixel.

        Args:
            image: (H, W, in_channels), uint8 in 0..255 or float32 in [0, 1]; RGB where in_channels is 3.

        Returns:
            (H, W) uint8, indices into ``classes``; of a "multilabel" model (classes, H, W) uint8 of 0 and 1.

        Raises:
            ImageError: If it is no such array, or too small for the encoder.
        """
        return decide(self.logits(image)[None], self.mode)[0].cpu().numpy()

    @torch.inference_mode()
    def logits(self, image: Pixels) -> Tensor:
        """The model's logits, (classes, H, W) on the device, of an image as a call takes it.

        Raises:
            ImageError: If it is no such array, or too small for the encoder.
        """
        channels = self.model.in_channels
        if image.ndim != 3 or image.shape[2] != channels or image.dtype not in (np.uint8, np.float32):
            raise ImageError(
                f"an image is an (H, W, {channels}) {'RGB ' if channels == 3 else ''}array, uint8 with values in "
                f"0..255 or float32 with values in [0, 1]; got shape {image.shape}, dtype {image.dtype}."
            )
        pixels = np.require(image, requirements=["C", "W"])  # torch warns of arrays that can't be written to
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]  # (1, in_channels, H, W), channels last
        logits: Tensor = self.model(batch.to(self.device))
        return logits[0]


def _colors(data_settings: Mapping[str, Any]) -> list[Color] | None:
    """The first colour of each class, where masks were coloured."""
    classes = data_settings.get("classes")
    if not isinstance(classes, Mapping):
        return None
    labels = parse_labels(classes)
    return [labels.colors[name][0] for name in labels.classes]
