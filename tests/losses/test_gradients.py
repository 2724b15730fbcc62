"""What the terms teach: their gradients, where there are none, and where numbers end."""

from typing import Any

import numpy as np
import pytest
import torch
from loss_references import IGNORED, reference

from unetseg.losses import boundary as boundary_module
from unetseg.losses import build_loss

WEIGHTS = pytest.mark.parametrize("weights", [None, [0.5, 3.0, 1.5]], ids=["equal", "uneven"])


def gradient(case: Any, logits: torch.Tensor, mask: torch.Tensor, weights: list[float] | None = None) -> torch.Tensor:
    logits = logits.clone().requires_grad_()
    case.build(weights and weights[: 2 if case.mode == "binary" else 3])(logits, mask).backward()
    return logits.grad


@WEIGHTS
def test_is_that_of_the_definition(case: Any, weights: list[float] | None) -> None:
    logits, mask = case.batch((1, 2, 3))
    own = weights and weights[: 2 if case.mode == "binary" else 3]
    expected, step = np.zeros(logits.shape), 1e-4
    for place in np.ndindex(*logits.shape):
        moved = [logits.double().numpy().copy() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        above, below = (reference(case.term, one, mask.numpy(), case.mode, own, **case.options) for one in moved)
        expected[place] = (above - below) / (2 * step)
    np.testing.assert_allclose(gradient(case, logits, mask, weights).numpy(), expected, atol=1e-5)


@WEIGHTS
def test_ignored_pixels_have_no_part(case: Any, weights: list[float] | None) -> None:
    logits, mask = case.batch()
    ignored = (mask == IGNORED) if case.mode == "multilabel" else (mask == IGNORED)[:, None].expand_as(logits)
    own = gradient(case, logits, mask, weights)
    assert own[ignored].abs().sum() == 0
    assert own[~ignored].abs().sum() > 0
    other = torch.where(ignored, 30 * torch.randn(logits.shape), logits)
    assert torch.equal(case.build()(other, mask), case.build()(logits, mask))


@pytest.mark.parametrize("ignore_index", [-1, 1, 255])
def test_any_value_can_be_the_ignored_one(case: Any, ignore_index: int) -> None:
    logits, mask = case.batch(values="some")  # class 1 doesn't occur
    expected = case.build()(logits, mask)
    moved = mask.long().masked_fill(mask == IGNORED, ignore_index)
    assert torch.equal(case.build(ignore_index=ignore_index)(logits, moved), expected)


@WEIGHTS
def test_nothing_but_ignored_pixels_gives_zero_with_a_gradient(case: Any, weights: list[float] | None) -> None:
    logits, mask = case.batch(ignored=1.1)
    assert case.build()(logits, mask).item() == 0
    assert torch.equal(gradient(case, logits, mask, weights), torch.zeros_like(logits))


@pytest.mark.parametrize(
    ("term", "mode"),
    [
        *[(term, "multiclass") for term in ("ce", "focal", "dice", "lovasz", "tversky")],
        *[(term, mode) for term in ("bce", "focal") for mode in ("binary", "multilabel")],
    ],
)
def test_nothing_but_pixels_without_a_weight_gives_zero_with_a_gradient(term: str, mode: str) -> None:
    options = {"label_smoothing": 0.2} if term in ("ce", "bce") else {}
    loss = build_loss({term: options}, mode=mode, classes=2, ignore_index=IGNORED, class_weights=[1, 0])
    logits = torch.randn(2, 1 if mode == "binary" else 2, 3, 5, requires_grad=True)
    mask = torch.ones((2, 2, 3, 5) if mode == "multilabel" else (2, 3, 5), dtype=torch.uint8)
    if mode == "multilabel":
        mask[:, 0] = IGNORED
    value = loss(logits, mask)
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("scale", [0.0, 30.0, 1e4])
def test_is_finite_at_any_logits(case: Any, scale: float) -> None:
    for values in ("all", "some", "one"):
        logits, mask = case.batch(values=values)
        logits = logits.sign() * scale
        assert case.build()(logits, mask).isfinite(), values
        assert gradient(case, logits, mask).isfinite().all(), values


@WEIGHTS
def test_is_float32_under_autocast(case: Any, weights: list[float] | None) -> None:
    logits, mask = case.batch()
    loss = case.build(weights and weights[: 2 if case.mode == "binary" else 3])
    expected = loss(logits.bfloat16().float(), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits.bfloat16(), mask)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    half = loss.bfloat16()(logits.bfloat16(), mask)  # Lightning's "bf16-true", which rounds the class weights
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, rtol=1e-2, atol=1e-2)


def test_distances_are_computed_once_for_all_logits_of_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    images = []
    original = boundary_module.signed_distances
    monkeypatch.setattr(boundary_module, "signed_distances", lambda *args: images.append(1) or original(*args))
    loss = build_loss({"boundary": 1}, mode="binary", classes=2, ignore_index=255)
    logits, mask = torch.randn(1, 1, 5, 7), torch.randint(0, 2, (1, 5, 7))
    with torch.inference_mode():
        first = loss(logits, mask.clone())
    logits.requires_grad_()
    loss(logits, mask).backward()  # with what inference mode left
    assert len(images) == 1
    assert logits.grad.abs().sum() > 0
    mask[0, 0, 0] = 1 - mask[0, 0, 0]
    assert loss(logits, mask) != first
    assert len(images) == 2
