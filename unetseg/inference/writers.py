"""Masks, probabilities, overlays and the legend as files; each appears whole or not at all."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unetseg.atomic import atomic_path
from unetseg.data.images import Pixels
from unetseg.data.masks import Color
from unetseg.drawing import overlay

__all__ = ["write_legend", "write_mask", "write_overlay", "write_probabilities"]

# of class maps, it takes as long as level 1 and half as long as Pillow's 6, whose files are a fourth smaller
_PNG_LEVEL = 3


def write_mask(path: Path, class_map: NDArray[np.uint8], colors: Sequence[Color]) -> None:
    """Write an 8-bit palette PNG: the value of a pixel is its class, the palette makes it visible.

    Args:
        path: File to write; its folders are made.
        class_map: (H, W) uint8 class indices.
        colors: One for each class.
    """
    image = Image.fromarray(class_map)
    image.putpalette([channel for color in colors for channel in color])
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", compress_level=_PNG_LEVEL)


def write_probabilities(path: Path, probabilities: NDArray[np.floating]) -> None:
    """Write a NumPy file of half precision: half the size, and an error of 0.00025 at most.

    Rounding keeps the order of values, and 0 and 1 themselves, so none leaves [0, 1]. The error is also at most 0.05 %
    of a probability above 0.00006, and 3e-8 below.

    Args:
        path: File to write; its folders are made.
        probabilities: (classes, H, W), floating point in [0, 1].
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:  # given a path, NumPy would add .npy to it
        np.save(file, probabilities.astype(np.float16))


def write_overlay(path: Path, image: Pixels, class_map: NDArray[np.uint8], colors: Sequence[Color]) -> None:
    """Write the image as a JPEG with the classes' colours over it; the first class stays clear.

    Args:
        path: File to write; its folders are made.
        image: (H, W, C), uint8 or float32 in [0, 1].
        class_map: (H, W) uint8 class indices.
        colors: One for each class.
    """
    blend = Image.fromarray(overlay(image, class_map, colors))
    with atomic_path(path) as temporary:
        blend.save(temporary, format="JPEG", quality=92)


def write_legend(
    folder: Path, classes: Sequence[str], colors: Sequence[Color], *, class_folders: Sequence[str] | None = None
) -> None:
    """Write ``_legend.json`` for programs and ``_legend.png`` for people: value, name and colour of each class.

    Args:
        folder: Folder to write to; made if it isn't there.
        classes: Names, in the order of their values.
        colors: One for each.
        class_folders: Folder of each class's masks, where the class is their value 1.
    """
    rows: list[dict[str, object]] = [
        {"value": value, "name": name, "color": list(color)}
        for value, (name, color) in enumerate(zip(classes, colors, strict=True))
    ]
    if class_folders is not None:
        rows = [row | {"value": 1, "folder": name} for row, name in zip(rows, class_folders, strict=True)]
    text = json.dumps(rows, indent=1, ensure_ascii=False)
    with atomic_path(folder / "_legend.json") as temporary:
        temporary.write_text(text, encoding="utf-8")
    width = 60 + max(round(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(name)) for name in classes)
    picture = Image.new("RGB", (width, 20 * len(classes) + 10), "white")
    draw = ImageDraw.Draw(picture)
    for row, (name, color) in enumerate(zip(classes, colors, strict=True)):
        top = 5 + 20 * row
        draw.rectangle((5, top + 2, 30, top + 17), fill=color, outline="gray")
        draw.text((40, top + 4), name, fill="black")
    with atomic_path(folder / "_legend.png") as temporary:
        picture.save(temporary, format="PNG")
