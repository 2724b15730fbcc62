"""Images of one size go together, each exactly once, and all processes take equally many steps."""

import pickle

import numpy as np
import pytest
from torch.utils.data import DistributedSampler

from unetseg.data.batching import DistributedBatches, group_by_size


def random_sizes(seed: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    return [tuple(size) for size in rng.integers(1, 1 + rng.integers(1, 6), (count, 2)).tolist()]


@pytest.mark.parametrize("seed", range(20))
def test_each_image_is_in_one_batch_of_its_size(seed: int):
    sizes = random_sizes(seed)
    max_images = [1, 3, float("inf")][seed % 3]
    max_pixels = [float("inf"), 40, 7, 1][seed % 4]
    batches = group_by_size(sizes, max_pixels=max_pixels, max_images=max_images)
    assert sorted(index for batch in batches for index in batch) == list(range(len(sizes)))
    assert batches == sorted(sorted(batch) for batch in batches)
    for batch in batches:
        assert len({sizes[index] for index in batch}) == 1
        height, width = sizes[batch[0]]
        assert 1 <= len(batch) <= max_images
        assert len(batch) == 1 or len(batch) * height * width <= max_pixels


def test_batches_are_filled():
    assert group_by_size([(2, 3)] * 7, max_pixels=18) == [[0, 1, 2], [3, 4, 5], [6]]
    assert group_by_size([(2, 3), (3, 2)] * 2) == [[0, 2], [1, 3]]
    assert group_by_size([(2, 3)] * 3, max_images=2) == [[0, 1], [2]]
    assert group_by_size([]) == []


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("num_batches", [1, 2, 7, 24])
def test_processes_share_the_batches_and_take_equally_many_steps(num_batches: int, processes: int):
    samplers = [DistributedBatches(num_batches, num_replicas=processes, rank=rank) for rank in range(processes)]
    dealt = [list(sampler) for sampler in samplers]
    assert {len(own) for own in dealt} == {len(sampler) for sampler in samplers} == {-(-num_batches // processes)}
    assert sorted(batch for own in dealt for batch in own if batch >= 0) == list(range(num_batches))
    uncounted = [batch for own in dealt for batch in own if batch < 0]
    assert all(0 <= ~batch < num_batches for batch in uncounted)
    assert len(uncounted) == -num_batches % processes


def test_every_pass_deals_the_same():
    sampler = DistributedBatches(3, num_replicas=2, rank=1)
    assert list(sampler) == list(sampler) == [1, -2]


def test_one_batch_for_three_processes():
    assert [list(DistributedBatches(1, num_replicas=3, rank=rank)) for rank in range(3)] == [[0], [-1], [-1]]


def test_nothing_is_no_batch():
    assert list(DistributedBatches(0, num_replicas=2, rank=1)) == []


def test_lightning_leaves_it_in_its_place_and_it_can_be_sent():
    sampler = DistributedBatches(2, num_replicas=2, rank=1)
    assert isinstance(sampler, DistributedSampler)
    assert list(pickle.loads(pickle.dumps(sampler))) == [1]
