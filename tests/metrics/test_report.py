"""Names and table of the figures."""

import math

import torch

from unetseg.metrics import SegmentationMetrics, named_scores, score_table


def test_names_of_all_figures() -> None:
    metric = SegmentationMetrics(3)
    metric.update(torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 1, 1, 255]]]))
    named = named_scores(metric.compute(), ["sky", "road", "car"], "val")
    assert all(type(value) is float for value in named.values())
    assert {name: round(value, 4) for name, value in named.items()} == {
        "val_iou": 0.5,
        "val_iou_sky": 0.5,
        "val_iou_road": 0.5,
        "val_dice": 0.6667,
        "val_dice_sky": 0.6667,
        "val_dice_road": 0.6667,
        "val_boundary_iou": 0.5,
        "val_boundary_iou_sky": 0.5,
        "val_boundary_iou_road": 0.5,
        "val_accuracy": 0.6667,
        "val_micro_iou": 0.5,
        "val_image_iou": 0.5,
    }


def test_of_nothing_only_the_mean_iou_is_named() -> None:
    """It is monitored."""
    metric = SegmentationMetrics(2)
    metric.update(torch.zeros(1, 2, 3).long(), torch.full((1, 2, 3), 255))
    named = named_scores(metric.compute(), ["a", "b"], "test")
    assert list(named) == ["test_iou"]
    assert math.isnan(named["test_iou"])


def test_a_single_class() -> None:
    metric = SegmentationMetrics(1, "multilabel", boundary=False)
    metric.update(torch.ones(1, 1, 2, 3).long(), torch.ones(1, 1, 2, 3).long())
    assert set(named_scores(metric.compute(), ["a"], "val").values()) == {1.0}


def test_the_table_has_every_column() -> None:
    values = {
        "val_iou": 0.5,
        "val_iou_sky": 0.25,
        "val_iou_road": 0.75,
        "val_dice": 0.625,
        "val_dice_sky": 0.4,
        "val_dice_road": 0.85,
        "val_boundary_iou": 0.125,
        "val_boundary_iou_sky": 0.125,
        "val_accuracy": 0.875,
        "val_micro_iou": 0.5,
        "val_image_iou": 0.3125,
    }
    assert score_table(["sky", "road"], values, "val").splitlines() == [
        "class            val_iou      dice  boundary",
        "sky               0.2500    0.4000    0.1250",
        "road              0.7500    0.8500         —",
        "mean              0.5000    0.6250    0.1250",
        "pixel accuracy    0.8750",
        "micro IoU         0.5000",
        "IoU per image     0.3125",
    ]


def test_the_table_shows_absent_figures_as_a_dash() -> None:
    table = score_table(["sky", "a rather long name"], {"test_iou": math.nan, "test_iou_sky": 0.25}, "test")
    assert table.splitlines() == [
        "class               test_iou",
        "sky                   0.2500",
        "a rather long name         —",
        "mean                       —",
        "pixel accuracy             —",
        "micro IoU                  —",
        "IoU per image              —",
    ]
