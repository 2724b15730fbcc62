"""A mean that goes on in another run, on as many processes or on others."""

import pytest
import torch

from unetseg.epoch_mean import EpochMean

BATCHES = [(0.1, 3), (0.7, 2), (1e-3, 5), (0.25, 1)]


def mean_of(batches: list[tuple[float, int]]) -> EpochMean:
    mean = EpochMean()
    for value, weight in batches:
        mean.update(torch.tensor(value), weight=weight)
    return mean


def together(means: list[EpochMean]) -> float:
    total = torch.stack([mean.parts for mean in means]).sum(dim=0)
    return float(total[0] / total[1])


@pytest.mark.parametrize("done", range(4))
def test_goes_on_bit_for_bit(done: int) -> None:
    later = EpochMean()
    later.restore([mean_of(BATCHES[:done]).parts.tolist()], rank=0)
    assert later.update_called == bool(done)
    for value, weight in BATCHES[done:]:
        later.update(torch.tensor(value), weight=weight)
    assert torch.equal(later.compute(), mean_of(BATCHES).compute())


def test_each_process_goes_on_with_its_own() -> None:
    parts = [mean_of(BATCHES[:1]).parts.tolist(), mean_of(BATCHES[1:]).parts.tolist()]
    later = [EpochMean(), EpochMean()]
    for rank, mean in enumerate(later):
        mean.restore(parts, rank=rank, world_size=2)
        assert mean.parts.tolist() == parts[rank]
        assert mean.update_called


@pytest.mark.parametrize("world_size", [1, 3])
def test_other_processes_have_the_same_mean_together(world_size: int) -> None:
    parts = [mean_of(BATCHES[:1]).parts.tolist(), mean_of(BATCHES[1:]).parts.tolist()]
    later = [EpochMean() for _ in range(world_size)]
    for rank, mean in enumerate(later):
        mean.restore(parts, rank=rank, world_size=world_size)
        assert mean.update_called  # or the others would wait for it in vain
    assert together(later) == pytest.approx(sum(v * w for v, w in BATCHES) / 11)
