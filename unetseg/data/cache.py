"""Decoded pairs kept in memory that all workers share, up to a bound."""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from unetseg.data.sources import Pair, Source, read_sizes
from unetseg.errors import DataError

__all__ = ["CachedSource"]

_DTYPES = (np.dtype(np.uint8), np.dtype(np.float32))
# of a row of the table: whether it is there; height, width and channels of the image, its dtype, the mask's channels
_THERE, _HEIGHT, _WIDTH, _CHANNELS, _DTYPE, _MASK_CHANNELS, _FIELDS = range(7)


class CachedSource:
    """Another source, of which as many pairs as fit are decoded once and then copied from memory.

    The memory is shared: a pair that one worker process has read is there for all, however they were started. Which
    pairs fit is decided by the sizes in their headers, from the first on; the others are read every time.

    Args:
        source: where the pairs come from.
        max_bytes: bound on the memory of the pairs, which is taken at once.

    Attributes:
        num_cached: number of pairs that fit.
        num_bytes: memory that they take.

    Raises:
        DataError: if the system has less shared memory.
        ImageError: if an image can't be read.
    """

    def __init__(self, source: Source, max_bytes: int) -> None:
        self.source = source
        image, mask, _ = source.read(0)
        per_pixel = image.shape[2] * image.itemsize + (1 if mask.ndim == 2 else mask.shape[2])
        self._sizes = read_sizes(source)
        ends = itertools.accumulate(per_pixel * height * width for height, width in self._sizes)
        self._ends = list(itertools.takewhile(lambda end: end <= max_bytes, ends))
        self.num_cached = len(self._ends)
        self.num_bytes = self._ends[-1] if self._ends else 0
        try:
            self._memory = torch.empty(self.num_bytes, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]  # of torch
            self._table = torch.zeros(self.num_cached, _FIELDS, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]  # of torch
        except RuntimeError as error:
            raise DataError(
                f"--data.cache_gb: the system has no {self.num_bytes / 1e9:.1f} GB of shared memory; give less, or "
                f"give it more (in Docker, --shm-size)"
            ) from error
        if self.num_cached:
            self._to_memory(0, image, mask)

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """What a pair is called."""
        return self.source.name(index)

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of a pair."""
        return self._sizes[index]

    def read(self, index: int) -> Pair:
        """Copy a pair from memory, or read it, see `unetseg.data.sources.Source`."""
        if index >= self.num_cached:
            return self.source.read(index)
        if self._table[index, _THERE]:
            return self._from_memory(index)
        pair = self.source.read(index)
        self._to_memory(index, pair[0], pair[1])
        return pair

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        """Read a mask from its source."""
        return self.source.read_mask(index)

    def _slot(self, index: int) -> NDArray[np.uint8]:
        start = self._ends[index - 1] if index else 0
        slot: NDArray[np.uint8] = self._memory.numpy()[start : self._ends[index]]
        return slot

    def _to_memory(self, index: int, image: NDArray[np.uint8] | NDArray[np.float32], mask: NDArray[np.uint8]) -> None:
        slot = self._slot(index)
        if image.nbytes + mask.nbytes > slot.size:
            return  # of more bits than the first pair
        slot[: image.nbytes] = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
        slot[image.nbytes : image.nbytes + mask.nbytes] = np.ascontiguousarray(mask).reshape(-1)
        mask_channels = 0 if mask.ndim == 2 else mask.shape[2]
        row = torch.tensor([0, *image.shape, _DTYPES.index(image.dtype), mask_channels])
        self._table[index] = row
        self._table[index, _THERE] = 1  # last: another worker may look at any time

    def _from_memory(self, index: int) -> Pair:
        row = self._table[index].tolist()
        height, width, channels = row[_HEIGHT : _CHANNELS + 1]
        dtype = _DTYPES[row[_DTYPE]]
        slot = self._slot(index)
        end = height * width * channels * dtype.itemsize
        image = slot[:end].copy().view(dtype).reshape(height, width, channels)
        planes = row[_MASK_CHANNELS]
        mask = slot[end : end + height * width * max(1, planes)].copy()
        return image, mask.reshape((height, width, planes) if planes else (height, width)), self.name(index)
