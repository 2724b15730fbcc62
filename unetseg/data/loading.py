"""Data loaders: workers that don't get into each other's way, and whole images batched by size."""

import os
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from unetseg.data.batching import DistributedBatches, group_by_size
from unetseg.data.dataset import WholeImages, collate
from unetseg.data.sources import Source, read_sizes
from unetseg.data.transforms import initialise_worker

__all__ = ["default_num_workers", "loader_options", "whole_image_loader"]


def default_num_workers() -> int:
    """Half of the cores that this process may use, shared with others of its run, from 1 to 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)  # of a distributed run, on this machine
    return max(1, min(8, cores // (2 * processes)))


def loader_options(num_workers: int, *, rank: int = 0) -> dict[str, Any]:
    """What all loaders have in common: workers that stay, and pages that a GPU can copy from.

    Args:
        num_workers: processes that load.
        rank: number of this process in distributed training.
    """
    return {
        "collate_fn": collate,
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": partial(initialise_worker, rank=rank),
    }


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
