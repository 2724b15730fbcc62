"""Intersection over union of a whole data set."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex, MultilabelJaccardIndex

__all__ = ["PerClassIoU", "PerLabelIoU", "iou_table", "mean_iou"]


class PerClassIoU(MulticlassJaccardIndex):
    """Sums one confusion matrix over all pixels of all images, and gives each class's IoU.

    ``IoU_c = true positives / (true positives + false positives + false negatives)``, over the data set: not a
    mean over images, so it doesn't depend on batches or on the order. A class that occurs neither in the masks
    nor in the predictions is nan. In distributed training all processes' pixels count.

    Args:
        classes: Number of classes.
        ignore_index: Mask value of the pixels that don't count.

    Shape:
        - update: predictions and masks, integer tensors of one shape
        - compute: (classes,) float32 in [0, 1], or nan

    Source: ``torchmetrics.classification.MulticlassJaccardIndex``.

    Example:
        >>> metric = PerClassIoU(3)
        >>> metric.update(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 255]]))
        >>> metric.compute()
        tensor([1., 1., nan])
    """

    def __init__(self, classes: int, ignore_index: int | None = 255) -> None:
        super().__init__(
            classes, average="none", ignore_index=ignore_index, validate_args=False, zero_division=math.nan
        )

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count the pixels of a batch."""
        with _fast_counts():
            super().update(preds, target)


class PerLabelIoU(MultilabelJaccardIndex):
    """As :class:`PerClassIoU`, for classes of which a pixel may have several: each counted on its own.

    Args:
        classes: Number of classes.
        ignore_index: Mask value of the pixels that don't count, class by class.

    Shape:
        - update: predictions (N, classes, H, W) of 0 and 1, and masks of one shape, integer tensors
        - compute: (classes,) float32 in [0, 1], or nan; of one class a scalar

    Source: ``torchmetrics.classification.MultilabelJaccardIndex``.

    Example:
        >>> metric = PerLabelIoU(2)
        >>> metric.update(torch.tensor([[[[1, 1]], [[0, 0]]]]), torch.tensor([[[[0, 1]], [[0, 255]]]]))
        >>> metric.compute()
        tensor([0.5000,    nan])
    """

    def __init__(self, classes: int, ignore_index: int | None = 255) -> None:
        super().__init__(
            classes, average="none", ignore_index=ignore_index, validate_args=False, zero_division=math.nan
        )

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count the pixels of a batch."""
        with _fast_counts():
            super().update(preds, target)


@contextlib.contextmanager
def _fast_counts() -> Iterator[None]:
    """Counts of integers are the same in any order, but torchmetrics doesn't trust that in deterministic mode.

    It compares every pixel with every cell of the matrix instead: tens of times slower, gigabytes for a photo.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def mean_iou(iou: Tensor) -> Tensor:
    """Mean over the classes that occur: nan ones are left out.

    Example:
        >>> mean_iou(torch.tensor([0.5, 1.0, math.nan]))
        tensor(0.7500)
    """
    return iou.nanmean()


def iou_table(classes: Sequence[str], values: Mapping[str, float], prefix: str) -> str:
    """A table a person can read, from logged metrics such as ``val_iou`` and ``val_iou_road``.

    Args:
        classes: Class names, in order.
        values: Logged metrics; a class without one shows as a dash.
        prefix: "val" or "test".

    Example:
        >>> print(iou_table(["sky", "road"], {"val_iou": 0.5, "val_iou_sky": 0.5}, "val"))
        class          val_iou
        sky             0.5000
        road                 —
        mean            0.5000
    """
    width = max(12, *(len(name) for name in classes))
    rows = [(name, values.get(f"{prefix}_iou_{name}")) for name in classes]
    rows.append(("mean", values.get(f"{prefix}_iou")))
    lines = [f"{'class':<{width}} {prefix + '_iou':>9}"]
    lines += [f"{name:<{width}} {'—' if value is None else f'{float(value):.4f}':>9}" for name, value in rows]
    return "\n".join(lines)
