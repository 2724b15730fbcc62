"""Masks, overlays and the legend as files; each appears whole or not at all."""

import colorsys
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unetseg.data.images import Pixels

__all__ = ["palette", "preview", "write_legend", "write_mask", "write_overlay"]

Color = tuple[int, int, int]


def palette(classes: int) -> list[Color]:
    """A colour for each class: black for the first, then hues a golden angle apart, so neighbours differ.

    Example:
        >>> palette(2)
        [(0, 0, 0), (230, 46, 46)]
    """
    colors: list[Color] = [(0, 0, 0)]
    for i in range(classes - 1):
        rgb = colorsys.hsv_to_rgb(i * 0.381966 % 1.0, (0.8, 0.5)[i // 8 % 2], (0.9, 1.0, 0.65)[i // 4 % 3])
        colors.append((round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])))
    return colors


def write_mask(path: Path, class_map: NDArray[np.uint8], colors: Sequence[Color]) -> None:
    """Write an 8-bit palette PNG: the value of a pixel is its class, the palette makes it visible.

    Args:
        path: File to write; its folders are made.
        class_map: (H, W) uint8 class indices.
        colors: One for each class.
    """
    image = Image.fromarray(class_map)
    image.putpalette([channel for color in colors for channel in color])
    _write(path, lambda temporary: image.save(temporary, format="PNG"))


def preview(image: Pixels) -> NDArray[np.uint8]:
    """An image that a person can look at: RGB of the first three channels, or grey.

    Args:
        image: (H, W, C), uint8 or float32 in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.
    """
    shown = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    if shown.dtype == np.float32:
        shown = (shown.clip(0, 1) * 255).round()
    return shown.astype(np.uint8)


def write_overlay(path: Path, image: Pixels, class_map: NDArray[np.uint8], colors: Sequence[Color]) -> None:
    """Write the image as a JPEG with the classes' colours over it; the first class stays clear.

    Args:
        path: File to write; its folders are made.
        image: (H, W, C), uint8 or float32 in [0, 1].
        class_map: (H, W) uint8 class indices.
        colors: One for each class.
    """
    tint = np.asarray(colors, dtype=np.float32)[class_map]
    weight = np.where(class_map == 0, 0.0, 0.5).astype(np.float32)[..., None]
    blend = Image.fromarray((preview(image) * (1 - weight) + tint * weight).round().astype(np.uint8))
    _write(path, lambda temporary: blend.save(temporary, format="JPEG", quality=92))


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
    _write(folder / "_legend.json", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    width = 60 + max(round(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(name)) for name in classes)
    picture = Image.new("RGB", (width, 20 * len(classes) + 10), "white")
    draw = ImageDraw.Draw(picture)
    for row, (name, color) in enumerate(zip(classes, colors, strict=True)):
        top = 5 + 20 * row
        draw.rectangle((5, top + 2, 30, top + 17), fill=color, outline="gray")
        draw.text((40, top + 4), name, fill="black")
    _write(folder / "_legend.png", lambda temporary: picture.save(temporary, format="PNG"))


def _write(path: Path, save: Callable[[Path], object]) -> None:
    """Under a temporary name, then renamed: a killed run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
