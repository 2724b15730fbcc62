"""Batches of whole images: images of one size together, others alone, so that nothing is padded or resized."""

import math
from collections.abc import Iterator, Sequence

from torch.utils.data import DistributedSampler

__all__ = ["SizeBatches", "group_by_size"]


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


class SizeBatches(DistributedSampler[list[int]]):
    """Deals batches of whole images to the processes of a distributed run, each image to one.

    All processes get equally many, for they wait for each other in every step: where the batches don't divide, the
    last ones of some are an image that doesn't count, given as ``~index``. It is a `DistributedSampler`, lest Lightning
    puts one in its place that repeats images as if they counted.

    Args:
        batches: the batches of all processes.
        num_replicas: number of processes.
        rank: this one's.

    Example:
        >>> [list(SizeBatches([[0, 1], [2], [3]], num_replicas=2, rank=rank)) for rank in (0, 1)]
        [[[0, 1], [3]], [[2], [-3]]]
    """

    def __init__(self, batches: Sequence[list[int]], *, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(batches, num_replicas=num_replicas, rank=rank, shuffle=False)  # type: ignore[arg-type]  # a Dataset is any sequence here
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        own = list(self.batches[self.rank :: self.num_replicas])
        if len(own) < len(self):
            spare = own[-1] if own else self.batches[0]
            own.append([~spare[0]])
        return iter(own)

    def __len__(self) -> int:
        return -(-len(self.batches) // self.num_replicas)
