"""Epochs of training pairs: an order of each, dealt to the processes, that can be gone on with in the middle."""

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from unetseg.errors import DataError

__all__ = ["Draw", "EpochSampler", "epoch_order", "epoch_seeds"]

WINDOW = 4  # shards; LitData keeps as many open
_OF_DRAWS = 1  # beside seed and epoch; without it, the draws would be those of the order


class Draw(NamedTuple):
    """One pair of an epoch.

    Attributes:
        pair: its number in the source.
        seed: of its augmentation, 0 to 2^63 - 1.
    """

    pair: int
    seed: int


def epoch_order(shard_sizes: Sequence[int], *, seed: int, epoch: int, window: int = WINDOW) -> NDArray[np.int64]:
    """Order of all pairs in an epoch: shards shuffled, then pairs within windows of so many shards.

    So each pair is read once, and no more than a few shards are in use at a time. Of a single shard, all pairs are
    mixed.

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


def epoch_seeds(count: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Seeds of the augmentations at the first so many places of an epoch; what follows doesn't change them.

    Example:
        >>> first, more = epoch_seeds(3, seed=0, epoch=0), epoch_seeds(5, seed=0, epoch=0)
        >>> first.tolist() == more[:3].tolist()
        True
    """
    return np.random.default_rng((seed, epoch, _OF_DRAWS)).integers(2**63, size=count)


class EpochSampler(DistributedSampler[Draw]):
    """Deals the pairs of each epoch to the processes: to each a run of them, so that it reads shards of its own.

    All processes get equally many. If batches are to be whole, at most one less than a batch of each process is left
    over, other pairs in each epoch. Otherwise, or where that would leave no batch, pairs from the start of the epoch
    make up for those that are missing, at most one less than there are processes.

    With each pair comes a seed for its augmentation. It follows from the seed, the epoch and the place in the epoch of
    all processes together, and from nothing else.

    It is a `DistributedSampler`, lest Lightning puts one in its place. Each pass over it is the next epoch, unless
    ``set_epoch`` names another.

    Args:
        shard_sizes: number of pairs in each shard; those of files or scenes are one shard.
        batch_size: pairs in a batch of one process.
        drop_last: whether an incomplete last batch is left out.
        num_replicas: number of processes.
        rank: this one's.
        seed: of order and augmentations.

    Example:
        >>> parts = [EpochSampler([5, 5, 3], batch_size=2, num_replicas=2, rank=rank) for rank in (0, 1)]
        >>> [len(part) for part in parts], len({draw.pair for part in parts for draw in part})
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

    def __iter__(self) -> Iterator[Draw]:
        done = self._begin() * self.batch_size
        which = {"seed": self.seed, "epoch": self._current_epoch}
        own = slice(self.rank * self.num_samples + done, (self.rank + 1) * self.num_samples)
        order = np.resize(epoch_order(self.shard_sizes, **which), self.total_size)[own]
        seeds = epoch_seeds(self.total_size, **which)[own]
        return map(Draw, map(int, order), map(int, seeds))  # one by one: a list would take ten times the memory

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
        """What must not change within an epoch: pairs and their shards, batches and processes."""
        shards = zlib.crc32(np.array(self.shard_sizes, "<i8").tobytes())
        numbers = {"pairs": sum(self.shard_sizes), "batch_size": self.batch_size, "num_replicas": self.num_replicas}
        return {"shards": shards} | numbers

    def _begin(self) -> int:
        """Begin a pass; return how many of its batches an earlier run has had."""
        state, self._resume = self._resume, None
        self._current_epoch, self.epoch = self.epoch, self.epoch + 1
        self._batches = 0
        if state is None or state["epoch"] != self._current_epoch or not state["batches"]:
            return 0
        state = self._layout | state  # an older checkpoint says less
        if any(state[name] != value for name, value in self._layout.items()):
            raise DataError(
                f"the checkpoint was made within an epoch of {_described(state)}, and this run has "
                f"{_described(self._layout)}{_other_shards(state, self._layout)}: which pairs are left can't be told. "
                f"Resume with the same data, --data.batch_size and --trainer.devices, or from a checkpoint of an "
                f"epoch's end"
            )
        self._batches = state["batches"]
        return self._batches


def _described(layout: dict[str, int]) -> str:
    """Pairs, batches and processes, for an error message."""
    return (
        f"{layout['pairs']} training pairs with --data.batch_size {layout['batch_size']} on {layout['num_replicas']} "
        f"{'process' if layout['num_replicas'] == 1 else 'processes'}"
    )


def _other_shards(state: dict[str, int], layout: dict[str, int]) -> str:
    """Say that the same number of pairs lies in other shards."""
    same_number = state["pairs"] == layout["pairs"]
    return ", in other shards" if same_number and state["shards"] != layout["shards"] else ""
