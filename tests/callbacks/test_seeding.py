"""What a step draws follows from the run's seed, the process, the epoch and the step."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from unetseg.callbacks import StepSeed


def draw(rank: int = 0, epoch: int = 0, step: int = 0) -> list[float]:
    StepSeed().on_train_batch_start(SimpleNamespace(global_rank=rank, current_epoch=epoch), None, None, step)
    return torch.rand(3).tolist()


def test_every_step_of_every_epoch_and_process_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    places = list(itertools.product(range(2), range(3), range(4)))
    draws = [tuple(draw(*place)) for place in places]
    assert len(set(draws)) == len(places)
    assert [tuple(draw(*place)) for place in reversed(places)] == draws[::-1]
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    assert not set(draws) & {tuple(draw(*place)) for place in places}


def test_an_unseeded_run_draws_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert draw() != draw()
