"""Batches of whole images: images of one size together, others alone, so that nothing is padded or resized."""

import math
from collections.abc import Iterator, Sequence

from torch.utils.data import DistributedSampler

__all__ = ["DistributedBatches", "group_by_size"]


def group_by_size(
    sizes: Sequence[tuple[int, int]], *, max_pixels: float = math.inf, max_images: float = math.inf
) -> list[list[int]]:
    """Numbers of images in batches of one size.

    Args:
        sizes: (H, W) of each image.
        max_pixels: pixels of a batch; an image that has more is alone.
        max_images: images of a batch.

    Returns:
        Batches in the order of their first image; each image in exactly one.

    Example:
        >>> group_by_size([(4, 4), (3, 5), (4, 4), (4, 4)], max_pixels=32)
        [[0, 2], [1], [3]]
    """
    batches: list[list[int]] = []
    open_batch: dict[tuple[int, int], list[int]] = {}
    for index, (height, width) in enumerate(sizes):
        batch = open_batch.get((height, width))
        if batch is None or len(batch) == max_images or (len(batch) + 1) * height * width > max_pixels:
            batch = open_batch[height, width] = []
            batches.append(batch)
        batch.append(index)
    return batches


class DistributedBatches(DistributedSampler[int]):
    """Deals batches of whole images, by number, to the processes of a distributed run, each to one.

    All processes get equally many, for they wait for each other in every step: where the batches don't divide, the
    last one of some doesn't count, given as ``~batch``. It is a `DistributedSampler`, lest Lightning puts one in its
    place that repeats images as if they counted.

    Args:
        num_batches: number of all batches.
        num_replicas: number of processes.
        rank: this one's.

    Example:
        >>> [list(DistributedBatches(3, num_replicas=2, rank=rank)) for rank in (0, 1)]
        [[0, 2], [1, -2]]
    """

    def __init__(self, num_batches: int, *, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(range(num_batches), num_replicas=num_replicas, rank=rank, shuffle=False)  # type: ignore[arg-type]  # a Dataset is any sequence here
        self.num_batches = num_batches

    def __iter__(self) -> Iterator[int]:
        own = list(range(self.rank, self.num_batches, self.num_replicas))
        spare = own[-1] if own else 0
        return iter([*own, *[~spare] * (len(self) - len(own))])

    def __len__(self) -> int:
        return -(-self.num_batches // self.num_replicas)
