"""Batches for training, validation and test: from a folder of images and masks, or from built-in scenes."""

import inspect
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unetseg.data.folder import FolderSource, Split, check_not_binary, find_samples, missing_classes
from unetseg.data.readers import MaskFormat, abridged
from unetseg.data.synthetic import CLASSES, SyntheticScenes
from unetseg.data.transforms import TrainingTransform, initialise_worker
from unetseg.errors import DataError

__all__ = ["Batch", "Item", "SceneSource", "SegmentationDataModule", "SegmentationDataset"]

# crop_size, scale_range and color_jitter where they aren't given; scenes come in all colours as they are
_FOLDER_DEFAULTS = 320, (0.6, 1.6), 0.3
_SCENE_DEFAULTS = 96, (1.0, 1.0), 0.0

_SCENE_SEEDS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}


class Item(TypedDict):
    """One pair: image (3, H, W) uint8 RGB, mask (H, W) uint8 class indices, and its name."""

    image: Tensor
    mask: Tensor
    name: str


class Batch(TypedDict):
    """N pairs: image (N, 3, H, W) uint8 RGB, mask (N, H, W) uint8 class indices, and their names."""

    image: Tensor
    mask: Tensor
    name: list[str]


@dataclass(frozen=True)
class SceneSource:
    """Pairs from the built-in scenes, named by number."""

    scenes: SyntheticScenes

    def __len__(self) -> int:
        return len(self.scenes)

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
        """Render a pair."""
        return *self.scenes.render(index), f"{index:05d}"


Source = FolderSource | SceneSource


class SegmentationDataset(Dataset[Item]):
    """Pairs as tensors, augmented if a transform is given, otherwise whole and untouched.

    Args:
        source: where the pairs come from.
        transform: augmentation of image and mask.
    """

    def __init__(self, source: Source, transform: TrainingTransform | None = None) -> None:
        self.source = source
        self.transform = transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Item:
        """Return pair ``index``; errors as of its source."""
        image, mask, name = self.source.read(index)
        if self.transform:
            image, mask = self.transform(image, mask)
        channels_first = np.ascontiguousarray(image.transpose(2, 0, 1))  # (H, W, 3) -> (3, H, W)
        return Item(image=torch.from_numpy(channels_first), mask=torch.from_numpy(mask), name=name)


class SegmentationDataModule(LightningDataModule):
    """Data for semantic segmentation: a folder of images and masks, or built-in scenes without any file.

    Training batches hold augmented crops of one size; validation and test give one whole image at a time,
    at its own size, never resized or padded. All batches are a `Batch`.

    Args:
        root: folder of the data set, laid out as `unetseg.data.folder.find_samples` says; without it, the
            built-in scenes.
        classes: names of the classes, in the order of their indices; needed with ``root``. In YAML, words
            such as on, off, yes and no need quotes.
        mask_format: ``index``: a mask's value is the class. ``binary``: any non-zero value is class 1.
        ignore_index: value of mask pixels that belong to no class, 0 to 255.
        crop_size: side of the training crops in pixels; 320 with ``root``, otherwise 96.
        scale_range: range of the factor on the size before the crop; 0.6..1.6 with ``root``, otherwise 1.
        horizontal_flip: mirror left and right half of the time.
        vertical_flip: mirror top and bottom half of the time, for images without an up and a down.
        color_jitter: strength of the changes in brightness, contrast, saturation and hue, in [0, 1]; 0.3 with
            ``root``, otherwise 0.
        batch_size: pairs in a training batch; with so many pairs or more, an incomplete batch is left out.
        num_workers: processes that load data; by default half the cores, at most 8.
        split_seed: seed of the split that is drawn where the folder isn't split.
        synthetic_length: built-in scenes for training; an eighth as many for validation and for test.

    Raises:
        DataError: if the folder isn't a data set, or an argument can't be used with it.

    Example:
        >>> data = SegmentationDataModule(batch_size=2, num_workers=0)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["image"].shape, batch["mask"].dtype
        (torch.Size([2, 3, 96, 96]), torch.uint8)
    """

    def __init__(
        self,
        root: str | None = None,
        classes: Sequence[str | bool | int | float | None] | None = None,  # all that YAML makes of names
        *,
        mask_format: MaskFormat = "index",
        ignore_index: int = 255,
        crop_size: int | None = None,
        scale_range: tuple[float, float] | None = None,
        horizontal_flip: bool = True,
        vertical_flip: bool = False,
        color_jitter: float | None = None,
        batch_size: int = 8,
        num_workers: int | None = None,
        split_seed: int = 0,
        synthetic_length: int = 360,
    ) -> None:
        super().__init__()
        _check_least("batch_size", batch_size, 1)
        _check_least("num_workers", num_workers, 0)
        _check_least("synthetic_length", synthetic_length, 1)
        if not 0 <= ignore_index <= 255:
            raise DataError(f"ignore_index {ignore_index}: must be in 0..255, the values of an 8-bit mask")
        self.root = None if root is None else str(root)
        self.batch_size = batch_size
        self.num_workers = _default_num_workers() if num_workers is None else num_workers
        self._mask_format = mask_format
        self._ignore_index = ignore_index
        default_crop, default_scales, default_jitter = _SCENE_DEFAULTS if root is None else _FOLDER_DEFAULTS
        self._transform = TrainingTransform(
            crop_size=default_crop if crop_size is None else crop_size,
            ignore_index=ignore_index,
            scale_range=default_scales if scale_range is None else scale_range,
            horizontal_flip=horizontal_flip,
            vertical_flip=vertical_flip,
            color_jitter=default_jitter if color_jitter is None else color_jitter,
        )
        self._samples = {} if root is None else find_samples(root, split_seed=split_seed)
        self.classes: list[str] = self._resolve_classes(classes)
        self._sources = self._make_sources(synthetic_length)
        two_classes = mask_format == "index" and (len(self.classes), ignore_index) == (2, 255)
        self._perhaps_binary = root is not None and two_classes
        self.save_hyperparameters(
            {
                "root": self.root,
                "classes": list(self.classes),
                "mask_format": str(mask_format),
                "ignore_index": int(ignore_index),
                "crop_size": None if crop_size is None else int(crop_size),
                "scale_range": None if scale_range is None else [float(scale) for scale in scale_range],
                "horizontal_flip": bool(horizontal_flip),
                "vertical_flip": bool(vertical_flip),
                "color_jitter": None if color_jitter is None else float(color_jitter),
                "batch_size": int(batch_size),
                "num_workers": None if num_workers is None else int(num_workers),
                "split_seed": int(split_seed),
                "synthetic_length": int(synthetic_length),
            },
            # Without it Lightning leaves a cycle that keeps the caller's variables alive: loaders, workers.
            frame=inspect.currentframe(),
        )

    @property
    def description(self) -> str:
        """What the data is, in a line: where from, how many images in which split, how many classes."""
        counts = ", ".join(f"{len(source)} {split}" for split, source in self._sources.items())
        return f"data: {self.root or 'built-in scenes'} ({counts} images; {len(self.classes)} classes)"

    @property
    def splits(self) -> list[Split]:
        """The splits that there are."""
        return list(self._sources)

    def setup(self, stage: str) -> None:
        """Make sure that masks of 0 and 255 aren't taken for class 0 and ignored pixels.

        Raises:
            DataError: if they would be.
        """
        if self._perhaps_binary:
            split: Split = {"validate": "val", "test": "test"}.get(stage, "train")  # type: ignore[assignment]  # of a str
            check_not_binary(self._samples.get(split, []), self.classes)
            self._perhaps_binary = False

    def train_dataloader(self) -> DataLoader[Item]:
        """Return a loader of shuffled, augmented crops in batches of ``batch_size``."""
        world_size = self.trainer.world_size if self.trainer else 1
        self._transform.rank = self.trainer.global_rank if self.trainer else 0
        dataset = SegmentationDataset(self._sources["train"], self._transform)
        # Batch norm can't train on a last batch of one pair; but a small set is one incomplete batch.
        drop_last = math.ceil(len(dataset) / world_size) >= self.batch_size
        return self._loader(dataset, batch_size=self.batch_size, shuffle=True, drop_last=drop_last)

    def val_dataloader(self) -> DataLoader[Item]:
        """Return a loader of whole validation images, one at a time."""
        return self._loader(SegmentationDataset(self._sources["val"]))

    def test_dataloader(self) -> DataLoader[Item]:
        """Return a loader of whole test images, one at a time.

        Raises:
            DataError: if the data set has no test split.
        """
        if "test" not in self._sources:
            raise DataError(f"{self.root} has no test split; add test.txt, or test/ beside train/ and val/")
        return self._loader(SegmentationDataset(self._sources["test"]))

    def _loader(
        self,
        dataset: SegmentationDataset,
        *,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
    ) -> DataLoader[Item]:
        return DataLoader(
            dataset=dataset,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=partial(initialise_worker, rank=self.trainer.global_rank if self.trainer else 0),
        )

    def _resolve_classes(self, classes: Sequence[object] | None) -> list[str]:
        """Check the names of the classes, or take those of the built-in scenes."""
        if classes is None and self.root is not None:
            raise missing_classes(self.root, [pair for part in self._samples.values() for pair in part])
        names = list(CLASSES) if classes is None else _checked_names(classes)
        if self.root is None and names != list(CLASSES):
            raise DataError(
                f"--data.classes [{', '.join(names)}] without --data.root: the built-in data has the classes "
                f"{', '.join(CLASSES)}; leave out --data.classes, or give your folder as --data.root"
            )
        if self._mask_format == "binary" and len(names) != 2:
            raise DataError(f"--data.mask_format binary needs exactly two classes; got {abridged(names)}")
        return names

    def _make_sources(self, synthetic_length: int) -> dict[Split, Source]:
        if self.root is None:
            held_out = max(1, synthetic_length // 8)
            lengths = {"train": synthetic_length, "val": held_out, "test": held_out}
            return {
                split: SceneSource(SyntheticScenes(lengths[split], seed=seed)) for split, seed in _SCENE_SEEDS.items()
            }
        return {
            split: FolderSource(samples, self._mask_format, len(self.classes), self._ignore_index)
            for split, samples in self._samples.items()
        }


def _check_least(option: str, value: int | None, least: int) -> None:
    """Refuse a number that is too small; None stands for a default."""
    if value is not None and value < least:
        raise DataError(f"{option} {value}: must be at least {least}")


def _checked_names(classes: Sequence[object]) -> list[str]:
    """Return the names of the classes if they can name classes."""
    if isinstance(classes, str):
        raise DataError(f"--data.classes {classes!r}: must be a list, for example '[background, road]'")
    names = []
    for name in classes:
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"--data.classes: {name!r} isn't a name; quote it if YAML reads it so: ['on', '1']")
        names.append(str(name))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"--data.classes: {abridged(twice)} given more than once; names must differ")
    if not 2 <= len(names) <= 255:
        raise DataError(f"--data.classes: got {len(names)} names; 2 to 255 classes are possible")
    return names


def _default_num_workers() -> int:
    """Half of the cores that this process may use, from 1 to 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // 2))
