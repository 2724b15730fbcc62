"""Pictures in rows and columns, with titles and a legend, as one picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unetseg.data.masks import Color

__all__ = ["Row", "fit_to_cell", "sheet"]

MAX_SIDE = 512  # of a shown picture
_MIN_SIDE = 224  # a smaller one is enlarged, by the whole number that makes it at least this
_MIN_WIDTH = 160  # of a column: room for its title and a name
_GAP, _LINE, _TEXT, _BOX = 10, 22, 15, 14  # space between things, height of a line, of its letters, of a legend's box


@dataclass(frozen=True)
class Row:
    """Pictures that belong together.

    Attributes:
        name: What stands above them.
        pictures: (H, W, 3) uint8 each; the first one is a photo, the others are painted classes.
    """

    name: str
    pictures: Sequence[NDArray[np.uint8]]


def fit_to_cell(picture: NDArray[np.uint8], *, classes: bool) -> Image.Image:
    """A picture of a size that can be looked at: large ones are shrunk, small ones enlarged by a whole number.

    Args:
        picture: (H, W, 3) uint8.
        classes: Whether its colours are classes, of which no mixture may be made.

    Example:
        >>> fit_to_cell(np.zeros((600, 1024, 3), dtype=np.uint8), classes=True).size
        (512, 300)
        >>> fit_to_cell(np.zeros((100, 60, 3), dtype=np.uint8), classes=False).size
        (180, 300)
    """
    height, width = picture.shape[:2]
    longer = max(height, width)
    factor = MAX_SIDE / longer if longer > MAX_SIDE else -(-_MIN_SIDE // longer)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    smooth = factor < 1 and not classes
    return Image.fromarray(picture).resize(size, Image.Resampling.BOX if smooth else Image.Resampling.NEAREST)


def sheet(titles: Sequence[str], rows: Sequence[Row], legend: Sequence[tuple[str, Color]]) -> NDArray[np.uint8]:
    """Put pictures below titles and above a legend. The size depends on no colour, so sheets of epochs have one size.

    Args:
        titles: One for each column.
        rows: With a picture for each.
        legend: Names of the colours.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    cells = [[fit_to_cell(one, classes=i > 0) for i, one in enumerate(row.pictures)] for row in rows]
    widths = [max(_MIN_WIDTH, *(row[column].width for row in cells)) for column in range(len(titles))]
    lefts = [_GAP + sum(widths[:column]) + column * _GAP for column in range(len(titles))]
    width = lefts[-1] + widths[-1] + _GAP
    lines = _legend_lines(legend, width - 2 * _GAP)
    heights = [_LINE + max(cell.height for cell in row) + _GAP for row in cells]
    canvas = Image.new("RGB", (width, _GAP + _LINE + sum(heights) + _LINE * len(lines) + _GAP), "white")
    draw = ImageDraw.Draw(canvas)
    top = _GAP
    for left, title in zip(lefts, titles, strict=True):
        draw.text((left, top), title, fill="black", font_size=_TEXT + 1)
    top += _LINE
    for row, images, height in zip(rows, cells, heights, strict=True):
        draw.text((lefts[0], top), _cut(row.name, width - 2 * _GAP), fill="dimgray", font_size=_TEXT - 2)
        for left, image in zip(lefts, images, strict=True):
            canvas.paste(image, (left, top + _LINE))
        top += height
    for line in lines:
        for left, name, color in line:
            draw.rectangle((left, top + 2, left + _BOX, top + 2 + _BOX), fill=color, outline="gray")
            draw.text((left + _BOX + 6, top), name, fill="black", font_size=_TEXT)
        top += _LINE
    return np.asarray(canvas)


def _legend_lines(legend: Sequence[tuple[str, Color]], width: int) -> list[list[tuple[int, str, Color]]]:
    """Where each entry begins, from left to right and on as many lines as it takes."""
    lines: list[list[tuple[int, str, Color]]] = []
    left = width
    for name, color in legend:
        shown = _cut(name, width - _BOX - 6)
        needed = _BOX + 6 + _length(shown, _TEXT)
        if not lines or left + needed > width + _GAP:
            lines.append([])
            left = _GAP
        lines[-1].append((left, shown, color))
        left += needed + 2 * _GAP
    return lines


def _length(text: str, size: int) -> int:
    return round(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(text, font_size=size))


def _cut(text: str, width: int) -> str:
    """Leave out the beginning, for names differ at their end."""
    cut = text
    while len(cut) > 1 and _length(cut, _TEXT) > width:
        cut = f"…{cut[2:]}"
    return cut
