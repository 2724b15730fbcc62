"""The losses, against sums written out by hand."""

import math

import pytest
import torch

from unetseg.losses import BinaryCrossEntropyDiceLoss, CrossEntropyDiceLoss


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


def each_by_hand(logits: torch.Tensor, mask: torch.Tensor, ignore_index: int) -> float:
    """Binary cross-entropy over all values that count, and Dice of each class, in Python numbers."""
    entropy: list[float] = []
    dice = 0.0
    for c in range(logits.shape[1]):
        values = zip(logits[:, c].flatten().tolist(), mask[:, c].flatten().tolist(), strict=True)
        pairs = [(1 / (1 + math.exp(-logit)), target) for logit, target in values if target != ignore_index]
        entropy += [-math.log(p if target else 1 - p) for p, target in pairs]
        overlap, total = sum(p * target for p, target in pairs), sum(p + target for p, target in pairs)
        dice += 1 - 2 * overlap / total if any(target for _, target in pairs) else 0
    return sum(entropy) / len(entropy) + dice / logits.shape[1]


@pytest.mark.parametrize("ignored", [0, 9])
def test_classes_of_which_a_pixel_has_several_are_binary_each(ignored: int) -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 3, 5, 7), torch.randint(0, 2, (2, 3, 5, 7))
    mask[:, 2] = 0  # it occurs nowhere
    mask.view(-1)[:ignored] = 255
    assert BinaryCrossEntropyDiceLoss()(logits, mask).item() == pytest.approx(each_by_hand(logits, mask, 255), abs=1e-4)


LOSSES = pytest.mark.parametrize(
    ("loss", "shape"), [(CrossEntropyDiceLoss, (2, 4, 5)), (BinaryCrossEntropyDiceLoss, (2, 3, 4, 5))]
)


@LOSSES
def test_ignored_pixels_get_no_gradient(loss: type, shape: tuple[int, ...]) -> None:
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    mask = torch.randint(0, 2, shape)
    mask[..., :2, :] = 7
    loss(ignore_index=7)(logits, mask).backward()
    assert logits.grad[:, :, :2].abs().sum() == 0
    assert logits.grad[:, :, 2:].abs().sum() > 0


@LOSSES
def test_a_batch_of_ignored_pixels_gives_zero_with_a_gradient(loss: type, shape: tuple[int, ...]) -> None:
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    value = loss()(logits, torch.full(shape, 255, dtype=torch.uint8))
    value.backward()
    assert value.item() == 0
    assert logits.grad.abs().sum() == 0


@LOSSES
def test_is_float32_under_autocast(loss: type, shape: tuple[int, ...]) -> None:
    logits, mask = torch.randn(2, 3, 4, 5), torch.randint(0, 2, shape)
    expected = loss()(logits.bfloat16().float(), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss()(logits.bfloat16(), mask)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
