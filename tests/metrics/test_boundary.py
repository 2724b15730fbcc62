"""Boundary IoU, against an erosion of one class after the other by scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from unetseg.metrics import SegmentationMetrics
from unetseg.metrics.boundary import boundary_distance, boundary_labels

SIZES = [(1, 1), (1, 9), (2, 3), (3, 3), (37, 53), (75, 61), (5, 131), (150, 211)]  # distances 1 to 5


def blobs(height: int, width: int, classes: int, seed: int) -> np.ndarray:
    """Smooth regions of all classes."""
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.normal(size=(height, width)), 6) for _ in range(classes)]
    return np.argmax(noise, axis=0).astype(np.uint8)


def near_boundary(region: np.ndarray) -> np.ndarray:
    """As the authors of boundary IoU compute it."""
    distance = max(1, round(0.02 * math.hypot(*region.shape)))
    eroded = ndimage.binary_erosion(region, np.ones((3, 3)), iterations=distance, border_value=0)
    return region & ~eroded


def by_brute_force(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Intersection over union of a class's regions (predicted, true) in all images."""
    near = [(near_boundary(predicted), near_boundary(true)) for predicted, true in pairs]
    union = sum(int((p | t).sum()) for p, t in near)
    return sum(int((p & t).sum()) for p, t in near) / union if union else math.nan


def boundary_iou(metric: SegmentationMetrics, images: list[tuple[np.ndarray, np.ndarray]]) -> Tensor:
    for predicted, mask in images:
        metric.update(torch.from_numpy(predicted)[None], torch.from_numpy(mask)[None])
    return metric.compute()["boundary_iou"]


@pytest.mark.parametrize("size", SIZES)
def test_one_class_a_pixel(size: tuple[int, int]) -> None:
    predicted, mask = blobs(*size, classes=4, seed=0), blobs(*size, classes=4, seed=1)
    expected = [by_brute_force([(predicted == c, mask == c)]) for c in range(4)]
    np.testing.assert_allclose(boundary_iou(SegmentationMetrics(4), [(predicted, mask)]), expected, rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_several_classes_a_pixel(size: tuple[int, int]) -> None:
    predicted, mask = (np.stack([blobs(*size, classes=2, seed=s + i) for i in range(3)]) for s in (0, 3))
    expected = [by_brute_force([(p == 1, m == 1)]) for p, m in zip(predicted, mask, strict=True)]
    metric = SegmentationMetrics(3, "multilabel")
    np.testing.assert_allclose(boundary_iou(metric, [(predicted, mask)]), expected, rtol=1e-6)


def test_images_of_all_sizes_are_summed_each_with_its_own_distance() -> None:
    images = [(blobs(*size, classes=3, seed=i), blobs(*size, classes=3, seed=~i % 99)) for i, size in enumerate(SIZES)]
    expected = [by_brute_force([(p == c, m == c) for p, m in images]) for c in range(3)]
    np.testing.assert_allclose(boundary_iou(SegmentationMetrics(3), images), expected, rtol=1e-6)


def test_a_prediction_that_keeps_the_area_but_loses_the_outline_is_told() -> None:
    """What the figure is for: IoU hardly sees it."""
    mask = np.zeros((201, 201), dtype=np.uint8)
    mask[20:180, 20:180] = 1
    ragged = mask.copy()
    ragged[20:26:2, 20:180] = ragged[174:180:2, 20:180] = 0
    metric = SegmentationMetrics(2)
    near = boundary_iou(metric, [(ragged, mask)])[1]
    assert metric.compute()["iou"][1] > 0.95
    assert near < 0.75


def test_pixels_that_are_not_counted_make_no_boundary() -> None:
    """By hand: 7 x 7 pixels, a distance of 1, so the ring at the border is near the boundary whatever it holds."""
    ring, uncounted = 24, 2
    labels = torch.ones(7, 7, dtype=torch.uint8)
    labels[3, 3] = uncounted
    left = boundary_labels(labels, classes=2)
    assert (left == 1).sum() == ring
    labels[3, 3] = 0  # of the other class, it makes a boundary around itself
    left = boundary_labels(labels, classes=2)
    assert (left == 1).sum() == ring + 8
    assert left[3, 3] == 0


def test_the_same_pixels_are_left_out_of_the_prediction() -> None:
    """By hand: what is predicted where the mask is ignored neither counts nor makes a boundary."""
    mask = torch.ones(1, 7, 7, dtype=torch.uint8)
    mask[0, 3, 3] = 255
    predicted = torch.ones_like(mask)
    predicted[0, 3, 3] = 0
    metric = SegmentationMetrics(2)
    metric.update(predicted, mask)
    torch.testing.assert_close(metric.compute()["boundary_iou"], torch.tensor([math.nan, 1.0]), equal_nan=True)
    metric.reset()
    predicted[0, 3, 2] = 0
    metric.update(predicted, mask)
    # near the boundary of class 1 are the ring in both, and in the prediction the 7 that touch the pixel of class 0
    expected = torch.tensor([0.0, 24 / (24 + 7)])
    torch.testing.assert_close(metric.compute()["boundary_iou"], expected)


def test_labels_are_not_changed_in_place() -> None:
    labels = torch.zeros(7, 7, dtype=torch.uint8)
    assert boundary_labels(labels, classes=2).sum() == 2 * 25
    assert labels.sum() == 0


@pytest.mark.parametrize(("size", "distance"), [((1, 1), 1), ((30, 40), 1), ((75, 100), 2), ((3000, 4000), 100)])
def test_the_distance_is_a_share_of_the_diagonal(size: tuple[int, int], distance: int) -> None:
    assert boundary_distance(*size) == distance
