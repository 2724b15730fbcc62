"""A loss that isn't finite ends the run and says where it came from."""

import math

import pytest
import torch

from unetseg.errors import LossError
from unetseg.finite_loss import FiniteLoss


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_images_are_named(value: float) -> None:
    losses = FiniteLoss()
    losses.watch(torch.tensor(1.0), ["a"], "step 1")
    with pytest.raises(LossError, match=rf"the loss is {value} at step 2, on b, c\. If the images are as they should"):
        losses.watch(torch.tensor(value), ["b", "c"], "step 2")
    losses.look()  # said once


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_looked_at_one_step_later() -> None:
    losses = FiniteLoss()
    losses.watch(torch.tensor(math.nan, device="cuda"), ["a"], "step 1")
    with pytest.raises(LossError, match="the loss is nan at step 1, on a"):
        losses.look()
    losses.watch(torch.tensor(1.0, device="cuda"), ["b"], "step 2")
    losses.look()
