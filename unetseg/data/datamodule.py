"""Batches for training, validation and test: from files, or from built-in scenes."""

import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from unetseg.config import Mode, plain
from unetseg.data.cache import CachedSource
from unetseg.data.dataset import SegmentationDataset
from unetseg.data.epochs import EpochSampler
from unetseg.data.frequencies import count_classes, median_frequency_weights
from unetseg.data.labels import MaskFormat, ValueMap, chosen_mode
from unetseg.data.loading import TrainingLoader, default_num_workers, training_loader, whole_image_loader
from unetseg.data.masks import IndexMaskReader
from unetseg.data.opening import missing_split, open_sources, shard_settings
from unetseg.data.shards import ShardSource
from unetseg.data.sources import FileSource, Source
from unetseg.data.splits import Split
from unetseg.data.survey import check_not_binary
from unetseg.data.transforms import TrainingTransform
from unetseg.errors import DataError

__all__ = ["SegmentationDataModule"]

# crop_size, scale_range and color_jitter where they aren't given; scenes come in all colours as they are
_FOLDER_DEFAULTS = 320, (0.6, 1.6), 0.3
_SCENE_DEFAULTS = 96, (1.0, 1.0), 0.0

_STAGES: dict[str, Split] = {"fit": "train", "validate": "val", "test": "test"}


class SegmentationDataModule(LightningDataModule):
    """Data for semantic segmentation: images and masks in files, or built-in scenes without any file.

    Training batches hold augmented crops of one size. Those of validation and test hold whole images, at their own
    size, never resized or padded: images of one size go together, others alone, so that no figure depends on the
    batches. In distributed runs each is seen once. All batches are a `unetseg.data.dataset.Batch`.

    Args:
        root: folder of the data set, laid out as `unetseg.data.folder.find_samples` says; without it and without
            ``shards``, the built-in scenes.
        classes: names of the classes, in the order of their indices; needed with ``root``. Where masks are coloured, a
            mapping of each name to its RGB colour, or to several, and of "ignore" to those of no class. In YAML, words
            such as on, off, yes and no need quotes.
        mask_format: ``index``: a mask's value is the class. ``binary``: any non-zero value is class 1. ``multilabel``:
            ``masks`` holds a folder for each class, and a pixel belongs to those where its value isn't zero.
        mode: ``binary``: two classes are told apart by a single logit. None: ``multilabel`` where masks are, otherwise
            ``multiclass``.
        value_map: class index of each value of an index mask, or "ignore": ``{7: 0, 8: 1, 0: ignore}``.
        mask_suffix: what a mask's name has behind the image's: ``_mask`` for ``1.jpg`` and ``1_mask.png``.
        manifest: a .csv or .json file with image, mask and split of each pair, in place of folders and lists; its paths
            are relative to ``root``.
        coco: a COCO JSON file, or one a split, in place of masks: ``{train: a.json, val: b.json}``. The first class is
            what no shape covers. Needs pycocotools.
        shards: a folder that ``python -m unetseg pack`` wrote, in place of ``root``; it knows its classes.
        in_channels: channels of the images; files of other channels are refused, but for grey, RGB and alpha.
        max_value: value of an image that stands for full brightness. None: 255 for 8 bits, 65535 for 16.
        ignore_index: value of mask pixels that belong to no class, 0 to 255.
        crop_size: side of the training crops in pixels; 320 with ``root``, otherwise 96.
        scale_range: range of the factor on the size before the crop; 0.6..1.6 with ``root``, otherwise 1.
        horizontal_flip: mirror left and right half of the time.
        vertical_flip: mirror top and bottom half of the time, for images without an up and a down.
        color_jitter: strength of the changes in brightness, contrast, saturation and hue, in [0, 1]; 0.3 with
            ``root``, otherwise 0.
        transforms: albumentations' transforms in place of the scale, the flips and the colours, see
            `unetseg.data.pipeline.build_pipeline`: ``[HorizontalFlip, {Affine: {rotate: [-20, 20]}}]``.
        batch_size: pairs in a training batch; with so many pairs or more, an incomplete batch is left out.
        val_batch_size: images of one size in a batch of validation or test, at most. None: as many as have no more
            pixels than a training batch.
        num_workers: processes that load data; by default half the cores, at most 8.
        cache_gb: bound on the memory, in 10^9 bytes a process, for decoded pairs of training and validation that are
            read from their files only once.
        split_seed: seed of the split that is drawn where the data isn't split.
        synthetic_length: built-in scenes for training; an eighth as many for validation and for test.

    Raises:
        DataError: if there is no such data set, or an argument can't be used with it.

    Example:
        >>> data = SegmentationDataModule(batch_size=2, num_workers=0)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["image"].shape, batch["mask"].dtype
        (torch.Size([2, 3, 96, 96]), torch.uint8)
    """

    def __init__(
        self,
        root: str | None = None,
        # all that YAML makes of names and colours
        classes: Sequence[str | bool | int | float | None] | Mapping[str, list[int] | list[list[int]]] | None = None,
        *,
        mask_format: MaskFormat = "index",
        mode: Mode | None = None,
        value_map: ValueMap | None = None,
        mask_suffix: str = "",
        manifest: str | None = None,
        coco: str | dict[str, str] | None = None,
        shards: str | None = None,
        in_channels: int = 3,
        max_value: float | None = None,
        ignore_index: int = 255,
        crop_size: int | None = None,
        scale_range: tuple[float, float] | None = None,
        horizontal_flip: bool = True,
        vertical_flip: bool = False,
        color_jitter: float | None = None,
        transforms: list[str | dict[str, Any]] | None = None,
        batch_size: int = 8,
        val_batch_size: int | None = None,
        num_workers: int | None = None,
        cache_gb: float = 0,
        split_seed: int = 0,
        synthetic_length: int = 360,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        _check_least("batch_size", batch_size, 1)
        _check_least("val_batch_size", val_batch_size, 1)
        _check_least("num_workers", num_workers, 0)
        _check_least("cache_gb", cache_gb, 0)
        _check_least("synthetic_length", synthetic_length, 1)
        self.root = None if root is None else str(root)
        self.batch_size = batch_size
        self.num_workers = default_num_workers() if num_workers is None else num_workers
        self.in_channels = in_channels
        self._ignore_index = ignore_index
        built_in = root is None and shards is None
        default_crop, default_scales, default_jitter = _SCENE_DEFAULTS if built_in else _FOLDER_DEFAULTS
        self._crop_size = default_crop if crop_size is None else crop_size
        self._val_batch_size = val_batch_size
        self._transform = TrainingTransform(
            crop_size=self._crop_size,
            ignore_index=ignore_index,
            scale_range=default_scales if scale_range is None else scale_range,
            horizontal_flip=horizontal_flip,
            vertical_flip=vertical_flip,
            color_jitter=default_jitter if color_jitter is None else color_jitter,
            in_channels=in_channels,
            transforms=_exclusive(transforms, scale_range=scale_range, color_jitter=color_jitter),
        )
        self.labels, self.image_reader, self.sources = open_sources(
            self.root,
            shards,
            classes,
            mask_format=mask_format,
            value_map=value_map,
            mask_suffix=mask_suffix,
            manifest=manifest,
            coco=coco,
            in_channels=in_channels,
            max_value=max_value,
            ignore_index=ignore_index,
            synthetic_length=synthetic_length,
            split_seed=split_seed,
        )
        self._mode = chosen_mode(self.labels, mode)
        self._shards = {split: source for split, source in self.sources.items() if isinstance(source, ShardSource)}
        readers = [source.mask_reader for source in self.sources.values() if isinstance(source, FileSource)]
        self._perhaps_binary = any(isinstance(reader, IndexMaskReader) and reader.perhaps_binary for reader in readers)
        self._cache_bytes = round(cache_gb * 1e9)
        self._sampler: EpochSampler | None = None
        self._resumed: dict[str, int] = {}
        self.save_hyperparameters(
            # what shards say of themselves, too, for a prediction must read images as they were read here
            plain(arguments | {"mask_format": self.labels.mask_format, "max_value": self.image_reader.max_value})
            | {"classes": self.labels.plain_classes},
            # Without it Lightning leaves a cycle that keeps the caller's variables alive: loaders, workers.
            frame=inspect.currentframe(),
            # Loggers get the task's; Lightning refuses two values of one name, and the classes may have colours here.
            logger=False,
        )

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their indices."""
        return list(self.labels.classes)

    @property
    def mode(self) -> Mode:
        """How the classes of a pixel are told apart, see `unetseg.config.Mode`."""
        return self._mode

    @property
    def description(self) -> str:
        """What the data is, in a line: where from, how many images in which split, how many classes."""
        counts = ", ".join(f"{len(source)} {split}" for split, source in self.sources.items())
        where = self.root or self.hparams["shards"] or "built-in scenes"
        return f"data: {where} ({counts} images; {len(self.classes)} classes)"

    @property
    def splits(self) -> list[Split]:
        """The splits that there are."""
        return list(self.sources)

    @property
    def shard_settings(self) -> dict[str, Any]:
        """What shards of this data must say of themselves, see `unetseg.data.shard_writer.write_shards`."""
        return shard_settings(self.labels, self.image_reader)

    def class_weights(self) -> list[float]:
        """Read all training masks for the weight of each class, by which rare ones can count more in a loss.

        They are those of `unetseg.data.frequencies.median_frequency_weights`.

        Raises:
            DataError: if the data set has no train split, or a mask can't be read.
            ImageError: if an image can't be read.
        """
        frequencies = count_classes(self._source("train"), len(self.classes), self.labels.ignore_index)
        return median_frequency_weights(frequencies)

    def setup(self, stage: str) -> None:
        """Make sure that masks of 0 and 255 aren't taken for class 0 and ignored pixels; take the cache's memory.

        Raises:
            DataError: if they would be, or there is no such memory.
        """
        source = self.sources.get(_STAGES.get(stage, "train"))
        if isinstance(source, FileSource) and self._perhaps_binary:
            check_not_binary(source.samples, self.classes)
            self._perhaps_binary = False
        for split in ("train", "val") if stage == "fit" else ():
            if split in self.sources and self._cache_bytes and not isinstance(self.sources[split], CachedSource):
                cached = CachedSource(self.sources[split], self._cache_bytes)
                self._cache_bytes -= cached.num_bytes
                self.sources[split] = cached

    def state_dict(self) -> dict[str, int]:
        """Where the epoch has come to, for Lightning's checkpoints; nothing before training."""
        return {} if self._sampler is None else self._sampler.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next training loader go on there."""
        if self.trainer is None or self.trainer.state.fn == "fit":  # a validation goes on with nothing
            self._resumed = state_dict
        # Lightning looks for a place in the loader alone
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")

    def train_dataloader(self) -> TrainingLoader:
        """Return a loader of shuffled, augmented crops in batches of ``batch_size``.

        Raises:
            DataError: if the data set has no train split; or, when it begins, if it shall go on within an epoch of
                other pairs, batches or processes.
        """
        self._transform.rank = self._rank
        source = self._source("train")
        loader = training_loader(
            SegmentationDataset(source, self._transform),
            self._shards["train"].shard_sizes if "train" in self._shards else [len(source)],
            batch_size=self.batch_size,
            # Batch norm can't train on a last batch of one pair; but a small set is one incomplete batch.
            drop_last=True,
            seed=self._seed,
            num_replicas=self._world_size,
            rank=self._rank,
            num_workers=self.num_workers,
        )
        self._sampler = loader.epoch_sampler
        if self._resumed:
            self._sampler.load_state_dict(self._resumed)
            self._resumed = {}
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        """Return a loader of whole validation images.

        Raises:
            DataError: if the data set has no val split.
            ImageError: if an image can't be read.
        """
        return self._whole_images("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return a loader of whole test images.

        Raises:
            DataError: if the data set has no test split.
            ImageError: if an image can't be read.
        """
        return self._whole_images("test")

    def _source(self, split: Split) -> Source:
        if split not in self.sources:
            given = {name: self.hparams[name] for name in ("shards", "manifest", "coco")}
            raise missing_split(split, self.root, **given)
        return self.sources[split]

    @property
    def _seed(self) -> int:
        """Of order and augmentations, the same in all processes: ``seed_everything``'s, or ``torch.manual_seed``'s."""
        given = os.environ.get("PL_GLOBAL_SEED")
        if given is not None:
            return int(given)
        return torch.initial_seed() if self._world_size == 1 else 0  # of which other processes know nothing

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def _whole_images(self, split: Split) -> DataLoader[Any]:
        return whole_image_loader(
            self._source(split),
            ignore_index=self._ignore_index,
            max_pixels=self.batch_size * self._crop_size**2,
            max_images=self._val_batch_size,
            num_replicas=self._world_size,
            rank=self._rank,
            num_workers=self.num_workers,
        )


def _exclusive(transforms: Any, **options: object) -> Any:
    """Transforms, which take the place of options that mustn't be given beside them."""
    if transforms is not None and (beside := [name for name, value in options.items() if value is not None]):
        raise DataError(
            f"--data.{beside[0]} and --data.transforms don't go together: the transforms take its place; leave one out"
        )
    return transforms


def _check_least(option: str, value: float | None, least: int) -> None:
    """Refuse a number that is too small; None stands for a default."""
    if value is not None and value < least:
        raise DataError(f"{option} {value}: must be at least {least}")
