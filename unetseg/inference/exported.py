"""Prediction by an exported network: no checkpoint, no model code and, but for torch's own format, no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetseg.data.images import Pixels
from unetseg.errors import ImageError, OptionError
from unetseg.inference.array_decision import class_probabilities, decide, decide_probabilities
from unetseg.inference.augmentation import TTA, mean_of_views
from unetseg.inference.base import BasePredictor
from unetseg.inference.description import ModelDescription
from unetseg.inference.prediction import Block, Prediction
from unetseg.inference.runtimes import Accelerator, open_runtime
from unetseg.inference.tiling import Blend, BlendedTiles, Tile

__all__ = ["ExportedPredictor"]


class ExportedPredictor(BasePredictor):
    """Classes of images, as :class:`unetseg.inference.Predictor` gives them, by a file that ``export`` wrote.

    Logits differ from the predictor's in their last bits, and so do classes where two are that close.

    Args:
        path: The file: ``.onnx``, ``.xml`` (OpenVINO) or ``.pt2`` (torch).
        accelerator: "auto" for a GPU if the runtime has one; "cpu"; "gpu".
        threads: Of the CPU; None for the runtime's own choice.
        tile: See there, as for all that follow.
        overlap: See there.
        blend: See there.
        tta: See there; "scales" needs torch.
        batch_size: See there.

    Raises:
        CheckpointError: If it isn't such a file.
        OptionError: If the runtime isn't installed, or an option doesn't go with the network.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        accelerator: Accelerator = "auto",
        threads: int | None = None,
        tile: int | Literal["auto"] | None = "auto",
        overlap: int | None = None,
        blend: Blend = "gaussian",
        tta: TTA = "none",
        batch_size: int = 1,
    ) -> None:
        self.runtime = open_runtime(path, accelerator, threads=threads)
        description = self.runtime.description
        _check_options(description, tile, tta)
        if description.size is not None or description.output == "classes":
            tile = None
        super().__init__(description, tile=tile, overlap=overlap, blend=blend, tta=tta, batch_size=batch_size)

    def map_bytes(self, height: int, width: int) -> int:
        """What the network's maps of an image took in torch when it was exported."""
        return round(self.description.pixel_bytes * height * width)

    def check(self, image: Pixels) -> None:
        """Refuse an array that isn't such an image.

        Raises:
            ImageError: It says what an image is.
        """
        super().check(image)
        height, width = image.shape[:2]
        least, size = self.description.min_size, self.description.size
        if size not in (None, (height, width)):
            assert size is not None
            raise ImageError(
                f"an image of {width}x{height} pixels isn't of the size that this network was exported for, "
                f"{size[1]}x{size[0]}; resize it, or export the network without --size."
            )
        if min(height, width) < least:
            raise ImageError(
                f"an image of {width}x{height} pixels is too small for this network, which takes {least}x{least} and "
                f"more. Use larger images."
            )

    def predict_whole(self, images: Sequence[Pixels], probabilities: bool) -> list[Prediction]:
        """Predict images of one size, none of which is tiled."""
        if probabilities and self.description.output == "classes":
            raise OptionError(_only_classes("probabilities"))
        batch = self._batch(images)
        maps: NDArray[np.float32] | None = None
        if self.description.output == "classes":
            classes: NDArray[np.uint8] = self._run(batch)
        elif self.tta != "none":
            maps = self._probabilities(batch)
            classes = decide_probabilities(maps, self.mode)
        else:
            logits = self._run(batch)
            classes = decide(logits, self.mode)
            maps = class_probabilities(logits, self.mode) if probabilities else None
        kept = [None] * len(images) if maps is None or not probabilities else list(maps)
        return [Prediction(one, map_) for one, map_ in zip(classes, kept, strict=True)]

    def tile_probabilities(self, tiles: Sequence[Pixels]) -> NDArray[np.float32]:
        """(N, classes, h, w) float32 of tiles of one size."""
        return self._probabilities(self._batch(tiles))

    def blend(self, tiles: BlendedTiles, tile: Tile, maps: NDArray[np.float32], probabilities: bool) -> Block:
        """What a tile finishes."""
        blended = tiles.blend(tile, maps)
        classes = decide_probabilities(blended[None], self.mode)[0]
        return Block(classes, blended if probabilities else None, tile.rows[0], tile.columns[0])

    def _batch(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        """(N, in_channels, H, W) float32 in [0, 1]."""
        pixels = np.stack([image.transpose(2, 0, 1) for image in images])
        if pixels.dtype == np.uint8:
            return pixels.astype(np.float32) / np.float32(255)
        floats: NDArray[np.float32] = pixels.astype(np.float32, copy=False)
        return floats

    def _probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        def predict(view: NDArray[np.float32]) -> NDArray[np.float32]:
            return class_probabilities(self._run(view), self.mode)

        return mean_of_views(predict, batch, self.tta, min_size=self.description.min_size)

    def _run(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        batch = np.ascontiguousarray(batch)
        if self.description.size is None or len(batch) == 1:
            return self.runtime.run(batch)
        return np.concatenate([self.runtime.run(batch[i : i + 1]) for i in range(len(batch))])


def _check_options(description: ModelDescription, tile: int | Literal["auto"] | None, tta: TTA) -> None:
    """Refuse what such a network can't do."""
    tiled = tile not in ("auto", None)
    if description.output == "classes" and (tiled or tta != "none"):
        raise OptionError(_only_classes("a tile size" if tiled else "test-time augmentation"))
    if description.size is not None:
        height, width = description.size
        if tiled or tta == "scales" or (tta == "d4" and height != width):
            what = "a tile size" if tiled else f"tta {tta!r}"
            raise OptionError(
                f"{what} needs a network that takes images of other sizes; this one was exported with --size {height} "
                f"{width}. Export it without."
            )


def _only_classes(what: str) -> str:
    return (
        f"{what} can't be had from this network: it was exported with --argmax, and gives classes only, no "
        f"probabilities. Export it without."
    )
