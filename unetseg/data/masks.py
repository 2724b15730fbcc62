"""Masks as class indices: one reader for each way in which people write them down."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from unetseg.data.mask_files import Color, color_codes, color_of, decode_mask, read_binary, values_of, without_alpha
from unetseg.errors import DataError, MaskSizeError, MaskValueError, abridged

__all__ = [
    "IGNORE",
    "BinaryMaskReader",
    "Color",
    "ColorMaskReader",
    "IndexMaskReader",
    "MaskReader",
    "MultilabelMaskReader",
]

IGNORE: Literal["ignore"] = "ignore"
"""What stands for "no class" where classes are named."""

_FULL = ([255], [65535])  # the only value besides 0 of masks that are black and white


class MaskReader(Protocol):
    """Reads what a sample has as its mask."""

    def __call__(self, mask: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Read a mask.

        Args:
            mask: a file; for multilabel data one a class; for COCO the shapes of an image.
            size: (H, W) of the image.

        Returns:
            (H, W) uint8 class indices or ignore_index; for multilabel data (H, W, classes) uint8 of 0, 1 and
            ignore_index. Its size is the file's own, which need not be the image's.

        Raises:
            DataError: if it can't be read, or holds what isn't a class.
        """
        ...


@dataclass(frozen=True)
class IndexMaskReader:
    """Masks whose values are class indices, or are mapped to them.

    A palette image gives its raw indices, never its colours; it is refused where its palette holds other classes, in
    grey. Colour channels that are all equal count as one. JPEG is refused, as its compression changes values.

    Args:
        num_classes: number of classes C, at most 255.
        ignore_index: value of pixels that belong to no class, 0 to 255.
        value_map: class of each value, or "ignore"; then no other value may occur. None: a value is its class.

    Example:
        >>> IndexMaskReader(2, 255, {7: 0, 8: 1, 9: "ignore"}).classes_of(np.array([[7, 8, 9]]), "a.png")
        array([[  0,   1, 255]], dtype=uint8)
    """

    num_classes: int
    ignore_index: int
    value_map: Mapping[int, int | Literal["ignore"]] | None = None

    def __call__(self, mask: str | os.PathLike[str], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Read a file, see `MaskReader`."""
        decoded = decode_mask(mask, stored_values=True)
        values = values_of(decoded, mask)
        classes = self.classes_of(values, mask)
        if decoded.palette is not None:
            self._check_palette(decoded.palette, values, mask)
        return classes

    def classes_of(self, values: NDArray[Any], name: str | os.PathLike[str]) -> NDArray[np.uint8]:
        """Classes of values; ``name`` is what an error calls them."""
        if self.value_map is not None:
            known, classes = self._table
            mapped, stray = _looked_up(values, known, classes)
            if stray:
                raise MaskValueError(
                    f"{name} holds the values {abridged(stray)}, which --data.value_map doesn't list; map them to a "
                    f"class, or to {IGNORE}"
                )
            return mapped
        outside = values >= self.num_classes
        if values.dtype.kind == "i":
            outside |= values < 0
        outside &= values != self.ignore_index
        if outside.any():
            found = np.unique(values[outside]).tolist()
            binary = f"; for masks of 0 and {found[0]} use --data.mask_format binary" if found in _FULL else ""
            raise MaskValueError(
                f"{name} holds the values {abridged(found)}; with {self.num_classes} classes it may hold "
                f"0..{self.num_classes - 1} and {self.ignore_index} (ignored); --data.value_map can map others{binary}"
            )
        return np.ascontiguousarray(values, dtype=np.uint8)

    @property
    def perhaps_binary(self) -> bool:
        """Whether masks of 0 and 255 would be taken for class 0 and ignored pixels."""
        return self.value_map is None and (self.num_classes, self.ignore_index) == (2, 255)

    def _check_palette(self, palette: NDArray[np.uint8], values: NDArray[Any], name: str | os.PathLike[str]) -> None:
        """Refuse a grey mask that a program has saved with a palette of its values, in an order of its own."""
        greys = palette[:, 0]
        if (palette != greys[:, None]).any() or (greys == np.arange(greys.size)).all():
            return
        used = np.unique(values)
        used = used[used < greys.size]
        shown = set(greys[used].tolist())
        known = {*range(self.num_classes), self.ignore_index} if self.value_map is None else set(self.value_map)
        # of black and white alone, nothing follows: they make 0 and 1 visible
        if (greys[used] != used).any() and shown - {0, 255} and shown <= known:
            raise DataError(
                f"{name} has the indices {abridged(used)} of a palette with the values {abridged(greys[used])}, and "
                f"both may be classes; save it as an 8-bit grey PNG, without a palette"
            )

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Values in ascending order, and their classes."""
        pairs = sorted((self.value_map or {}).items())
        classes = [self.ignore_index if target == IGNORE else target for _, target in pairs]
        return np.array([value for value, _ in pairs], np.int64), np.array(classes, np.uint8)


@dataclass(frozen=True)
class BinaryMaskReader:
    """Masks of two classes: 0, and any other value. JPEG is refused, as its compression changes values."""

    def __call__(self, mask: str | os.PathLike[str], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Read a file, see `MaskReader`."""
        return read_binary(mask)


@dataclass(frozen=True)
class ColorMaskReader:
    """Masks whose colours are the classes.

    A palette image gives its colours, a grey one those of its values; alpha is dropped. JPEG is refused, as its
    compression changes colours.

    Args:
        colors: class of each RGB colour.
        ignore_index: value of pixels that belong to no class.
        ignored: RGB colours of those.

    Example:
        >>> read = ColorMaskReader({(128, 64, 128): 0, (0, 0, 230): 1}, ignore_index=255, ignored=((0, 0, 0),))
        >>> read.classes_of(np.array([[[0, 0, 230], [0, 0, 0]]], np.uint8), "a.png")
        array([[  1, 255]], dtype=uint8)
    """

    colors: Mapping[Color, int]
    ignore_index: int
    ignored: Sequence[Color] = ()

    def __call__(self, mask: str | os.PathLike[str], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Read a file, see `MaskReader`."""
        pixels = without_alpha(decode_mask(mask, stored_values=False), mask)
        if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
            raise DataError(
                f"{mask}: {pixels.shape[2]} channels of {pixels.dtype} aren't the colours of a mask; save it as an "
                f"8-bit RGB or palette PNG"
            )
        return self.classes_of(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), mask)

    def classes_of(self, pixels: NDArray[np.uint8], name: str | os.PathLike[str]) -> NDArray[np.uint8]:
        """Classes (H, W) of RGB colours (H, W, 3); ``name`` is what an error calls them."""
        known, classes = self._table
        found, stray = _looked_up(color_codes(pixels), known, classes)
        if stray:
            most_first = sorted(stray, key=lambda code: -stray[code])
            colours = [f"{color_of(code)} ({stray[code]} pixels)" for code in most_first]
            raise MaskValueError(
                f"{name} holds colours that belong to no class: {abridged(colours)}; give each a class in "
                f"--data.classes, or list it there under {IGNORE}"
            )
        return found

    @cached_property
    def _table(self) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Colours as numbers in ascending order, and their classes."""
        pairs = [*self.colors.items(), *((color, self.ignore_index) for color in self.ignored)]
        codes = color_codes(np.array([color for color, _ in pairs], np.uint8))
        order = np.argsort(codes)
        return codes[order], np.array([index for _, index in pairs], np.uint8)[order]


@dataclass(frozen=True)
class MultilabelMaskReader:
    """Masks with one file a class, so that a pixel may have several: 0, and any other value.

    Args:
        classes: names of the classes, in order. A sample's mask maps those that have a file to it; the others don't
            occur in it.
    """

    classes: Sequence[str]

    def __call__(self, mask: Mapping[str, Path], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Read the files of a sample, see `MaskReader`."""
        planes = {name: read_binary(path) for name, path in mask.items()}
        sizes = {plane.shape for plane in planes.values()} or {size}
        if len(sizes) > 1:
            shown = ", ".join(f"{mask[name]} is {p.shape[1]} x {p.shape[0]}" for name, p in planes.items())
            raise MaskSizeError(f"the masks of an image must have one size (width x height): {shown}")
        absent = np.zeros(sizes.pop(), np.uint8)
        return np.stack([planes.get(name, absent) for name in self.classes], axis=-1)  # (H, W) -> (H, W, classes)


def _looked_up(
    values: NDArray[Any], known: NDArray[Any], classes: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], dict[int, int]]:
    """Classes of values by a table.

    Args:
        values: (H, W).
        known: those of the table, in ascending order.
        classes: of each of these.

    Returns:
        The classes, (H, W); and the values that the table lacks, each with its number of pixels.
    """
    flat = values.reshape(-1)
    # searched once for each run of equal values, of which a mask has far fewer than pixels
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(starts, append=flat.size)
    runs = flat[starts]
    place = np.minimum(np.searchsorted(known, runs), known.size - 1)
    stray: dict[int, int] = {}
    for run in np.flatnonzero(known[place] != runs).tolist():
        value = int(runs[run])
        stray[value] = stray.get(value, 0) + int(lengths[run])
    return np.repeat(classes[place], lengths).reshape(values.shape), dict(sorted(stray.items()))
