"""The one implementation of prediction: an array in, a class map out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetseg.checkpoint import read_checkpoint
from unetseg.errors import ImageError, UnetsegError
from unetseg.model import UNet

__all__ = ["Predictor"]


class Predictor:
    """Class maps of images, each whole and at its own size.

    Args:
        model: The network; put into eval mode, moved to the device.
        classes: Names of its classes.
        device: "auto" for a GPU if there is one, or a torch device such as "cpu".

    Raises:
        UnetsegError: If there is no such device.

    Example:
        >>> predictor = Predictor(UNet(classes=2), classes=["background", "road"], device="cpu")
        >>> predictor(np.zeros((61, 47, 3), dtype=np.uint8)).shape
        (61, 47)
    """

    def __init__(self, model: UNet, classes: Sequence[str], *, device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.classes = tuple(classes)
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
        return cls(checkpoint.build_model(), checkpoint.classes, device=device)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The class of every pixel.

        Args:
            image: (H, W, 3) uint8 RGB, 0..255.

        Returns:
            (H, W) uint8, indices into ``classes``.

        Raises:
            ImageError: If it is no such array, or too small for the encoder.
        """
        return self.logits(image).argmax(dim=0).to(torch.uint8).cpu().numpy()

    @torch.inference_mode()
    def logits(self, image: NDArray[np.uint8]) -> Tensor:
        """The model's logits, (classes, H, W) on the device, of an (H, W, 3) uint8 RGB image.

        Raises:
            ImageError: If it is no such array, or too small for the encoder.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ImageError(
                f"an image is an (H, W, 3) uint8 RGB array with values in 0..255; got shape {image.shape}, dtype "
                f"{image.dtype}."
            )
        pixels = np.require(image, requirements=["C", "W"])  # torch warns of arrays that can't be written to
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]  # (1, 3, H, W), channels last
        logits: Tensor = self.model(batch.to(self.device))
        return logits[0]
