"""IoU, against a confusion matrix counted by hand."""

import pytest
import torch

from unetseg.metrics import PerClassIoU, PerLabelIoU, iou_table, mean_iou


def test_is_that_of_all_pixels_together() -> None:
    metric = PerClassIoU(3)
    metric.update(torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 1, 1, 255]]]))
    metric.update(torch.tensor([[[1, 1]]]), torch.tensor([[[1, 1]]]))
    iou = metric.compute()
    # class 0: 1 of 2 pixels; class 1: 3 of 4, the ignored one not among them; class 2 nowhere
    torch.testing.assert_close(iou, torch.tensor([1 / 2, 3 / 4, torch.nan]), equal_nan=True)
    torch.testing.assert_close(mean_iou(iou), torch.tensor(5 / 8))


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    metric = PerClassIoU(3)
    metric.update(torch.tensor([[0, 2]]), torch.tensor([[0, 0]]))
    torch.testing.assert_close(metric.compute(), torch.tensor([0.5, torch.nan, 0.0]), equal_nan=True)


def test_does_not_depend_on_batches() -> None:
    torch.manual_seed(0)
    predicted, target = torch.randint(0, 4, (6, 9, 11)), torch.randint(0, 4, (6, 9, 11))
    target[:, :2] = 255
    whole, parts = PerClassIoU(4), PerClassIoU(4)
    whole.update(predicted, target)
    for i in (4, 1, 3, 0, 5, 2):
        parts.update(predicted[i : i + 1], target[i : i + 1])
    assert torch.equal(whole.compute(), parts.compute())


def test_classes_of_which_a_pixel_has_several_are_counted_on_their_own() -> None:
    rng = torch.Generator().manual_seed(0)
    predicted, target = (torch.randint(0, 2, (3, 4, 7, 5), generator=rng) for _ in range(2))
    target[:, 1, :3] = 255
    predicted[:, 3] = target[:, 3] = 0
    metric = PerLabelIoU(4)
    for i in range(3):
        metric.update(predicted[i : i + 1], target[i : i + 1])
    expected = []
    for c in range(4):
        pairs = [(p, t) for p, t in zip(predicted[:, c].flatten(), target[:, c].flatten(), strict=True) if t != 255]
        union = sum(int(p or t) for p, t in pairs)
        expected.append(sum(int(p and t) for p, t in pairs) / union if union else torch.nan)
    torch.testing.assert_close(metric.compute(), torch.tensor(expected), equal_nan=True)


def test_the_table_shows_absent_classes_as_a_dash() -> None:
    table = iou_table(["sky", "a rather long name"], {"test_iou": 0.25, "test_iou_sky": 0.25}, "test")
    assert table.splitlines() == [
        "class               test_iou",
        "sky                   0.2500",
        "a rather long name         —",
        "mean                  0.2500",
    ]


def test_deterministic_mode_changes_neither_result_nor_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """There torchmetrics would compare every pixel with every cell of the matrix."""
    target = torch.randint(0, 4, (2, 9, 11))
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        metric, by_label = PerClassIoU(4), PerLabelIoU(2)
        seen = []
        bincount = torch.bincount
        monkeypatch.setattr(torch, "bincount", lambda *a, **k: seen.append(1) or bincount(*a, **k))
        metric.update(target, target)
        by_label.update(target[None] % 2, target[None] % 2)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(seen) == 2
    assert torch.equal(metric.compute(), torch.ones(4))
