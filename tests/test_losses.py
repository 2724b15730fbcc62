"""The loss, against sums written out by hand."""

import pytest
import torch

from unetseg.losses import CrossEntropyDiceLoss


def by_hand(logits: torch.Tensor, mask: torch.Tensor, ignore_index: int) -> float:
    """Cross-entropy and Dice pixel by pixel, in Python numbers."""
    classes = logits.shape[1]
    entropy, counted = 0.0, 0
    overlap, predicted, present = [0.0] * classes, [0.0] * classes, [0.0] * classes
    for image, target in zip(logits, mask, strict=True):
        for row in range(target.shape[0]):
            for column in range(target.shape[1]):
                value = int(target[row, column])
                if value == ignore_index:
                    continue
                probabilities = image[:, row, column].softmax(0).tolist()
                entropy -= float(torch.tensor(probabilities[value]).log())
                counted += 1
                for c in range(classes):
                    overlap[c] += probabilities[c] * (value == c)
                    predicted[c] += probabilities[c]
                    present[c] += value == c
    dice = [1 - 2 * overlap[c] / (predicted[c] + present[c]) if present[c] else 0.0 for c in range(classes)]
    return entropy / counted + sum(dice) / classes


@pytest.mark.parametrize("ignored", [0, 5])
def test_is_cross_entropy_plus_dice(ignored: int) -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 4, 5, 7), torch.randint(0, 3, (2, 5, 7))  # class 3 occurs nowhere
    mask.view(-1)[:ignored] = 255
    assert CrossEntropyDiceLoss()(logits, mask).item() == pytest.approx(by_hand(logits, mask, 255), abs=1e-4)


def test_ignored_pixels_get_no_gradient() -> None:
    logits = torch.randn(1, 3, 4, 5, requires_grad=True)
    mask = torch.randint(0, 3, (1, 4, 5))
    mask[:, :2] = 7
    CrossEntropyDiceLoss(ignore_index=7)(logits, mask).backward()
    assert logits.grad[:, :, :2].abs().sum() == 0
    assert logits.grad[:, :, 2:].abs().sum() > 0


def test_a_batch_of_ignored_pixels_gives_zero_with_a_gradient() -> None:
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    loss = CrossEntropyDiceLoss()(logits, torch.full((2, 4, 5), 255, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


def test_is_float32_under_autocast() -> None:
    logits, mask = torch.randn(1, 3, 4, 5), torch.randint(0, 3, (1, 4, 5))
    expected = CrossEntropyDiceLoss()(logits.bfloat16().float(), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = CrossEntropyDiceLoss()(logits.bfloat16(), mask)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
