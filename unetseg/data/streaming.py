"""Training from shards: an order that reads them one after another, and a loader that goes on in mid-epoch."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from unetseg.errors import DataError

__all__ = ["ShardLoader", "ShardSampler", "epoch_order", "training_loader"]

WINDOW = 4  # shards; LitData keeps as many open


def epoch_order(shard_sizes: Sequence[int], *, seed: int, epoch: int, window: int = WINDOW) -> NDArray[np.int64]:
    """Order of all pairs in an epoch: shards shuffled, then pairs within windows of so many shards.

    So each pair is read once, and no more than a few shards are in use at a time.

    Args:
        shard_sizes: number of pairs in each shard.
        seed: of the shuffle.
        epoch: number of the epoch, from 0.
        window: shards whose pairs are mixed.

    Returns:
        Numbers of the pairs, a permutation of 0 to ``sum(shard_sizes) - 1``.

    Example:
        >>> order = epoch_order([2, 2, 2, 1], seed=0, epoch=0, window=2)
        >>> sorted(order.tolist())
        [0, 1, 2, 3, 4, 5, 6]
    """
    generator = np.random.default_rng((seed, epoch))
    ends = np.cumsum(shard_sizes, dtype=np.int64)
    shards = generator.permutation(len(ends))
    pairs = [np.arange(ends[shard] - shard_sizes[shard], ends[shard]) for shard in shards]
    windows = [np.concatenate(pairs[first : first + window]) for first in range(0, len(pairs), window)]
    return np.concatenate([generator.permutation(part) for part in windows])


class ShardSampler(DistributedSampler[int]):
    """Deals the pairs of each epoch to the processes: to each a run of them, so that it reads shards of its own.

    All processes get equally many. If batches are to be whole, at most one less than a batch of each process is left
    over, other pairs in each epoch. Otherwise, or where that would leave no batch, pairs from the start of the epoch
    make up for those that are missing, at most one less than there are processes.

    It is a `DistributedSampler`, lest Lightning puts one in its place. Each pass over it is the next epoch, unless
    ``set_epoch`` names another.

    Args:
        shard_sizes: number of pairs in each shard.
        batch_size: pairs in a batch of one process.
        drop_last: whether an incomplete last batch is left out.
        num_replicas: number of processes.
        rank: this one's.
        seed: of the shuffle.

    Example:
        >>> parts = [ShardSampler([5, 5, 3], batch_size=2, num_replicas=2, rank=rank) for rank in (0, 1)]
        >>> [len(part) for part in parts], len({index for part in parts for index in part})
        ([6, 6], 12)
    """

    def __init__(
        self,
        shard_sizes: Sequence[int],
        *,
        batch_size: int,
        drop_last: bool = True,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
    ) -> None:
        length = sum(shard_sizes)
        super().__init__(range(length), num_replicas=num_replicas, rank=rank, seed=seed)  # type: ignore[arg-type]  # a Dataset is any sequence here
        self.shard_sizes = list(shard_sizes)
        self.batch_size = batch_size
        whole = length // (num_replicas * batch_size) * batch_size
        self.num_samples = whole if drop_last and whole else -(-length // num_replicas)
        self.total_size = self.num_samples * num_replicas
        self._num_batches = -(-self.num_samples // batch_size)
        self._current_epoch = 0
        self._batches = 0  # of the current epoch that have been given out
        self._resume: dict[str, int] | None = None

    def __iter__(self) -> Iterator[int]:
        start = self._begin()
        order = np.resize(epoch_order(self.shard_sizes, seed=self.seed, epoch=self._current_epoch), self.total_size)
        own = order[self.rank * self.num_samples : (self.rank + 1) * self.num_samples]
        return map(int, own[start * self.batch_size :])

    def count_batch(self) -> None:
        """Note that a batch has been given out."""
        self._batches += 1

    def state_dict(self) -> dict[str, int]:
        """Where the current epoch has come to; plain numbers, the same in all processes."""
        place = {"epoch": self._current_epoch, "batches": self._batches, "num_batches": self._num_batches}
        return place | {"seed": self.seed} | self._layout

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass go on where ``state`` was taken, unless ``set_epoch`` names another epoch before."""
        self.seed = state["seed"]
        if state["batches"] < state["num_batches"]:
            self._resume, self.epoch, self._batches = state, state["epoch"], state["batches"]
        else:
            self._resume, self.epoch, self._batches = None, state["epoch"] + 1, 0
        self._current_epoch = self.epoch

    @property
    def _layout(self) -> dict[str, int]:
        """What must not change within an epoch: shards, batches and processes."""
        content = zlib.crc32(np.array(self.shard_sizes, "<i8").tobytes())
        return {"shards": content, "batch_size": self.batch_size, "num_replicas": self.num_replicas}

    def _begin(self) -> int:
        """Begin a pass; return how many of its batches an earlier run has had."""
        state, self._resume = self._resume, None
        self._current_epoch, self.epoch = self.epoch, self.epoch + 1
        self._batches = 0
        if state is None or state["epoch"] != self._current_epoch or not state["batches"]:
            return 0
        if any(state[name] != value for name, value in self._layout.items()):
            others = "" if state["shards"] == self._layout["shards"] else ", of other shards"
            raise DataError(
                f"the checkpoint was made within an epoch of {state['num_replicas']} x {state['batch_size']} pairs a "
                f"step (processes x batch size), and this run has {self.num_replicas} x {self.batch_size}{others}: "
                f"which pairs are left can't be told. Resume with the same --trainer.devices, --data.batch_size and "
                f"--data.shards, or from a checkpoint of an epoch's end"
            )
        self._batches = state["batches"]
        return self._batches


class ShardLoader(DataLoader[Any]):
    """A `DataLoader` over a `ShardSampler`, which it tells how far the epoch has come.

    Batches count when they are given out. Those that workers have prepared beyond them are made again in a new run. It
    has no state of its own for Lightning to keep: Lightning would restore that only after the task has asked for the
    number of its steps, which sets the loaders up for good. The data module keeps the sampler's.
    """

    @property
    def shard_sampler(self) -> ShardSampler:
        """The sampler."""
        sampler: ShardSampler = self.sampler  # type: ignore[assignment]  # torch types it as any iterable
        return sampler

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch promises a class of its own, which nobody needs
        # Nothing is begun before the first batch is asked for: Lightning names the epoch after it has asked for an
        # iterator.
        for batch in super().__iter__():
            if isinstance(self.sampler, ShardSampler):  # not where Lightning's overfit_batches has replaced it
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
    **options: Any,
) -> ShardLoader:
    """Return a loader of shuffled training pairs, of each epoch another order.

    Args:
        dataset: the pairs, by their numbers in the shards.
        shard_sizes: see `ShardSampler`, also for the next five.
        batch_size: pairs in a batch of one process.
        drop_last: whether an incomplete last batch is left out.
        seed: of the shuffle.
        num_replicas: number of processes.
        rank: this one's.
        **options: of `DataLoader`: ``collate_fn``, ``num_workers``, ``worker_init_fn``, …
    """
    sampler = ShardSampler(
        shard_sizes, batch_size=batch_size, drop_last=drop_last, num_replicas=num_replicas, rank=rank, seed=seed
    )
    return ShardLoader(dataset, batch_size=batch_size, sampler=sampler, **options)
