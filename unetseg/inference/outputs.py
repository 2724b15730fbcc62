"""What prediction leaves behind for an image: its mask, or its masks, and perhaps an overlay."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetseg.data.images import Pixels
from unetseg.drawing import class_colors, topmost
from unetseg.inference.predictor import Predictor
from unetseg.inference.writers import write_legend, write_mask, write_overlay

__all__ = ["MaskWriter"]


class MaskWriter:
    """Writes the classes of images, and a legend of them.

    With one class a pixel, an image has one mask of class indices. With any number, it has a mask of 0 and 1 in a
    folder for each class, as `unetseg.data.folder.find_samples` reads them.

    Args:
        folder: Folder of the masks.
        predictor: What the classes come from; its colours are used if it has some.
        overlays: Whether to write the image with the classes over it, too.
    """

    def __init__(self, folder: Path, predictor: Predictor, *, overlays: bool = False) -> None:
        self.folder = folder
        self.overlays = overlays
        self.multilabel = predictor.mode == "multilabel"
        colors = predictor.colors or class_colors(len(predictor.classes), multilabel=self.multilabel)
        self.colors = list(colors)
        self.class_folders = _folder_names(predictor.classes)
        folders = self.class_folders if self.multilabel else None
        write_legend(folder, predictor.classes, self.colors, class_folders=folders)

    def write(self, path: Path, image: Pixels, classes: NDArray[np.uint8]) -> None:
        """Write what belongs to an image.

        Args:
            path: Mask's file, in the folder or below it.
            image: (H, W, C), uint8 or float32 in [0, 1].
            classes: What the predictor made of it.
        """
        if not self.multilabel:
            write_mask(path, classes, self.colors)
            shown, colors = classes, self.colors
        else:
            for class_folder, color, plane in zip(self.class_folders, self.colors, classes, strict=True):
                write_mask(self.folder / class_folder / path.relative_to(self.folder), plane, [(0, 0, 0), color])
            shown, colors = topmost(classes), [(0, 0, 0), *self.colors]
        if self.overlays:
            write_overlay(path.with_suffix(".overlay.jpg"), image, shown, colors)


def _folder_names(classes: Sequence[str]) -> list[str]:
    """A folder's name for each class: its own where it can be, and another for each."""
    names: list[str] = []
    for name in classes:
        plain = re.sub(r'^[. ]+|[\\/:*?"<>|\x00-\x1f]|[. ]+$', "_", name)  # what no system's file names hold
        taken = {other.casefold() for other in names}
        free = (f"{plain}_{i}" for i in itertools.count(2))
        names.append(plain if plain.casefold() not in taken else next(n for n in free if n.casefold() not in taken))
    return names
