"""Pairs as tensors: a data set, and how its items become a batch."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unetseg.data.epochs import Draw
from unetseg.data.sources import Source
from unetseg.data.transforms import TrainingTransform

__all__ = ["Batch", "Item", "SegmentationDataset", "WholeImages", "collate"]


class Item(TypedDict):
    """One pair.

    Attributes:
        image: (C, H, W) uint8, or float32 in [0, 1].
        mask: (H, W) uint8 class indices; for multilabel data (classes, H, W) uint8 of 0, 1 and ignore_index.
        name: what it is called; None for a pair that doesn't count.
    """

    image: Tensor
    mask: Tensor
    name: str | None


class Batch(TypedDict):
    """N pairs.

    Attributes:
        image: (N, C, H, W) uint8, or float32 in [0, 1].
        mask: (N, H, W) uint8 class indices; for multilabel data (N, classes, H, W) uint8.
        name: what those are called that count.
    """

    image: Tensor
    mask: Tensor
    name: list[str]


def collate(items: Sequence[Item]) -> Batch:
    """Stack items of one size; where some images are float32, all become it."""
    images = [item["image"] for item in items]
    if len({image.dtype for image in images}) > 1:
        images = [image if image.is_floating_point() else image.float() / 255 for image in images]
    return Batch(
        image=torch.stack(images),
        mask=torch.stack([item["mask"] for item in items]),
        name=[item["name"] for item in items if item["name"] is not None],
    )


class SegmentationDataset(Dataset[Item]):
    """Pairs by number, augmented if a transform is given, otherwise whole and untouched.

    Args:
        source: where the pairs come from.
        transform: augmentation of image and mask.
    """

    def __init__(self, source: Source, transform: TrainingTransform | None = None) -> None:
        self.source = source
        self.transform = transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | Draw) -> Item:
        """Return a pair by its number, or with the augmentation that its seed decides; errors as of its source."""
        index, seed = key if isinstance(key, Draw) else (key, None)
        image, mask, name = self.source.read(index)
        if self.transform:
            image, mask = self.transform(image, mask, seed=seed)
        channels_first = np.ascontiguousarray(image.transpose(2, 0, 1))  # (H, W, C) -> (C, H, W)
        planes = mask if mask.ndim == 2 else np.ascontiguousarray(mask.transpose(2, 0, 1))
        return Item(image=torch.from_numpy(channels_first), mask=torch.from_numpy(planes), name=name)


class WholeImages(Dataset[list[Item]]):
    """Whole pairs by the number of their batch, as `unetseg.data.batching.DistributedBatches` deals them.

    A number below 0, ``~i``, is the first pair of batch i with a mask that is ignored altogether, which doesn't count.

    Args:
        source: where the pairs come from.
        batches: numbers of the pairs in each batch.
        ignore_index: value of mask pixels that don't count.
    """

    def __init__(self, source: Source, batches: Sequence[Sequence[int]], ignore_index: int) -> None:
        self.pairs = SegmentationDataset(source)
        self.batches = batches
        self.ignore_index = ignore_index

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, batch: int) -> list[Item]:
        """Return the pairs of a batch."""
        if batch >= 0:
            return [self.pairs[index] for index in self.batches[batch]]
        item = self.pairs[self.batches[~batch][0]]
        return [Item(image=item["image"], mask=torch.full_like(item["mask"], self.ignore_index), name=None)]
