"""What a split holds, counted a pair at a time."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from unetseg.checking.findings import Finding, PairName, about_stray_values
from unetseg.checking.pair import Moments, PairFigures
from unetseg.data.labels import Labels

__all__ = ["ClassFigures", "SizeCount", "SplitFigures", "Tally"]


@dataclass(frozen=True)
class SizeCount:
    """How many images have a size."""

    height: int
    width: int
    images: int


@dataclass(frozen=True)
class ClassFigures:
    """How often a class occurs.

    Attributes:
        name: what it is called.
        pixels: number of its pixels.
        share: its share of the pixels that aren't ignored; None where all are.
        images: number of images in which it occurs.
    """

    name: str
    pixels: int
    share: float | None
    images: int


@dataclass(frozen=True)
class SplitFigures:
    """What a split holds, in the pairs that could be read.

    Attributes:
        pairs: number of all its pairs.
        read: number of those that could be read.
        pixels: number of pixels.
        ignored_share: share of the labels that don't count; None if no pair could be read.
        sizes: sizes of the images, the most frequent first.
        classes: the classes, in order.
    """

    pairs: int
    read: int
    pixels: int
    ignored_share: float | None
    sizes: list[SizeCount]
    classes: list[ClassFigures]


class Tally:
    """Counts of a split, a pair at a time.

    Args:
        pairs: number of its pairs.
        labels: what the masks mean.

    Attributes:
        read: number of pairs that were added.
        class_images: number of images in which each class occurs.
        moments: those of all images that have some.
        stray: masks with values of no class.
        empty: masks without an object.
    """

    def __init__(self, pairs: int, labels: Labels) -> None:
        self.labels = labels
        self.pairs = pairs
        self.read = 0
        self.pixels = 0
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.class_pixels = np.zeros(len(labels.classes), np.int64)
        self.class_images = np.zeros(len(labels.classes), np.int64)
        self.ignored_pixels = np.zeros(1 if labels.mode == "multiclass" else len(labels.classes), np.int64)
        self.moments: Moments | None = None
        self.stray: list[Finding] = []
        self.empty: list[Finding] = []

    def add(self, pair: PairName, figures: PairFigures) -> None:
        """Count a pair."""
        self.read += 1
        self.pixels += figures.size[0] * figures.size[1]
        self.sizes[figures.size] += 1
        self.class_pixels += figures.class_pixels
        self.class_images += figures.class_pixels > 0
        self.ignored_pixels += figures.ignored_pixels
        if figures.moments is not None:
            self.moments = figures.moments if self.moments is None else self.moments + figures.moments
        ground = 1 if self.labels.mode == "multiclass" else 0  # multilabel masks have no class for nothing
        if figures.stray:
            self.stray.append(about_stray_values(pair, figures.stray, self.labels))
        elif figures.all_ignored:
            self.empty.append(Finding("ignored_mask", "no pixel counts", (pair,)))
        elif not figures.class_pixels[ground:].any():
            held = f"nothing but {self.labels.classes[0]}" if ground else "no class"
            self.empty.append(Finding("empty_mask", held, (pair,)))

    @property
    def only_zero_and_255(self) -> bool:
        """Whether a class is taken for ignored pixels, as `unetseg.data.survey.check_not_binary` would find."""
        return self.labels.perhaps_binary and bool(self.ignored_pixels.any()) and not self.class_pixels[1]

    def figures(self) -> SplitFigures:
        """Sum up."""
        counted = np.broadcast_to(self.pixels - self.ignored_pixels, self.class_pixels.shape)
        labelled = self.pixels * self.ignored_pixels.size
        columns = zip(self.labels.classes, self.class_pixels, counted, self.class_images, strict=True)
        return SplitFigures(
            pairs=self.pairs,
            read=self.read,
            pixels=self.pixels,
            ignored_share=int(self.ignored_pixels.sum()) / labelled if labelled else None,
            sizes=[
                SizeCount(*size, images)
                for size, images in sorted(self.sizes.items(), key=lambda entry: (-entry[1], entry[0]))
            ],
            classes=[
                ClassFigures(name, int(pixels), int(pixels) / int(total) if total else None, int(images))
                for name, pixels, total, images in columns
            ],
        )
