"""Decisions on arrays of NumPy are those on tensors."""

import numpy as np
import pytest
import torch

from unetseg import decision
from unetseg.inference import array_decision

LOGITS = {"multiclass": 4, "binary": 1, "multilabel": 3}


@pytest.mark.parametrize("mode", LOGITS)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_they_equal_those_on_tensors(mode: str, scale: float) -> None:
    logits = (np.random.default_rng(0).normal(size=(2, LOGITS[mode], 7, 9)) * scale).astype(np.float32)
    logits[0, :, 2] = 0  # rows of ties
    tensor = torch.from_numpy(logits)
    np.testing.assert_array_equal(array_decision.decide(logits, mode), decision.decide(tensor, mode).numpy())
    probabilities = array_decision.class_probabilities(logits, mode)
    expected = decision.class_probabilities(tensor, mode)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected.numpy(), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(
        array_decision.decide_probabilities(expected.numpy(), mode), decision.decide_probabilities(expected, mode)
    )


@pytest.mark.parametrize("mode", LOGITS)
def test_half_precision_is_computed_in_float32(mode: str) -> None:
    logits = np.full((1, LOGITS[mode], 1, 2), 20, np.float16)  # whose exponential isn't finite in float16
    assert np.isfinite(array_decision.class_probabilities(logits, mode)).all()


def test_of_equal_logits_the_first_class_wins() -> None:
    logits = np.array([1.0, 3.0, 3.0, 2.0], np.float32).reshape(1, 4, 1, 1)
    assert array_decision.decide(logits, "multiclass").tolist() == [[[1]]]
