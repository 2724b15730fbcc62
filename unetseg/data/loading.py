"""Data loaders: of training batches that are counted as they are given out, and of whole images batched by size."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from unetseg.data.batching import DistributedBatches, group_by_size
from unetseg.data.dataset import WholeImages, collate
from unetseg.data.epochs import EpochSampler
from unetseg.data.sources import Source, read_sizes
from unetseg.data.transforms import initialise_worker

__all__ = ["TrainingLoader", "default_num_workers", "loader_options", "training_loader", "whole_image_loader"]


def default_num_workers() -> int:
    """Half of the cores that this process may use, shared with others of its run, from 1 to 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)  # of a distributed run, on this machine
    return max(1, min(8, cores // (2 * processes)))


def loader_options(num_workers: int, *, rank: int = 0, seed: int = 0) -> dict[str, Any]:
    """What all loaders have in common: workers that stay, and pages that a GPU can copy from.

    Args:
        num_workers: processes that load.
        rank: number of this process in distributed training.
        seed: of the workers' generators.
    """
    return {
        # Without one of its own, a loader draws from torch's, more or less often by the number of its workers: what
        # the network draws, as for dropout, would depend on them.
        "generator": torch.Generator().manual_seed(seed),
        "collate_fn": collate,
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": partial(initialise_worker, rank=rank),
    }


class TrainingLoader(DataLoader[Any]):
    """A `DataLoader` over an `EpochSampler`, which it tells how far the epoch has come.

    Batches count when they are given out. Those that workers have prepared beyond them are made again in a new run. It
    has no state of its own for Lightning to keep: Lightning would restore that only after the task has asked for the
    number of its steps, which sets the loaders up for good. The data module keeps the sampler's.
    """

    @property
    def epoch_sampler(self) -> EpochSampler:
        """The sampler."""
        sampler: EpochSampler = self.sampler  # type: ignore[assignment]  # torch types it as any iterable
        return sampler

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch promises a class of its own, which nobody needs
        # Nothing is begun before the first batch is asked for: Lightning names the epoch after it has asked for an
        # iterator.
        for batch in super().__iter__():
            if isinstance(self.sampler, EpochSampler):  # not where Lightning's overfit_batches has replaced it
                self.sampler.count_batch()
            yield batch


def training_loader(
    dataset: Dataset[Any],
    shard_sizes: Sequence[int],
    *,
    batch_size: int,
    drop_last: bool = True,
    seed: int = 0,
    num_replicas: int = 1,
    rank: int = 0,
    num_workers: int,
    **options: Any,
) -> TrainingLoader:
    """Return a loader of shuffled training pairs, of each epoch another order.

    Args:
        dataset: the pairs, by the `unetseg.data.epochs.Draw` of each.
        shard_sizes: see `EpochSampler`, also for the next five.
        batch_size: pairs in a batch of one process.
        drop_last: whether an incomplete last batch is left out.
        seed: of order and augmentations.
        num_replicas: number of processes.
        rank: this one's.
        num_workers: processes that load.
        **options: others of `DataLoader`.
    """
    sampler = EpochSampler(
        shard_sizes, batch_size=batch_size, drop_last=drop_last, num_replicas=num_replicas, rank=rank, seed=seed
    )
    options = loader_options(num_workers, rank=rank, seed=seed) | options
    return TrainingLoader(dataset, batch_size=batch_size, sampler=sampler, **options)


def whole_image_loader(
    source: Source,
    *,
    ignore_index: int,
    max_pixels: float,
    max_images: int | None,
    num_replicas: int,
    rank: int,
    num_workers: int,
) -> DataLoader[Any]:
    """Return a loader of whole images, those of one size together, each in one process.

    Args:
        source: the pairs.
        ignore_index: value of mask pixels that don't count.
        max_pixels: pixels of a batch, where ``max_images`` is None; an image that has more is alone.
        max_images: images of a batch.
        num_replicas: number of processes.
        rank: this one's.
        num_workers: processes that load.

    Raises:
        ImageError: if an image's size can't be read.
    """
    if max_images == 1:
        batches = [[index] for index in range(len(source))]
    else:
        limit = {"max_pixels": max_pixels} if max_images is None else {"max_images": max_images}
        batches = group_by_size(read_sizes(source), **limit)
    return DataLoader(
        WholeImages(source, batches, ignore_index),
        batch_size=None,
        sampler=DistributedBatches(len(batches), num_replicas=num_replicas, rank=rank),
        **loader_options(num_workers, rank=rank),
    )
