"""All figures of a data set, from one confusion matrix over all pixels of all images."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from unetseg.config import Mode, check_choice
from unetseg.errors import MaskSizeError
from unetseg.metrics.boundary import boundary_labels
from unetseg.metrics.counting import confusion_matrices, paired_labels
from unetseg.metrics.report import BY_CLASS

__all__ = ["SegmentationMetrics"]

_ONE = 2**30
"""What an IoU of 1 adds to a sum of whole numbers, which is the same in any order and on any accelerator."""

_CACHED = 2**21
"""Pixels of the maps that are counted at a time: a processor's cache holds them, and memory hardly matters."""


class SegmentationMetrics(Metric):
    """Counts the pixels of all images, and gives IoU, Dice, boundary IoU and accuracy.

    - ``iou``: true positives / (true positives + false positives + false negatives), for each class.
    - ``dice``: 2 true positives / (2 true positives + false positives + false negatives), for each class.
    - ``boundary_iou``: the IoU of the pixels of each class that lie near its boundary, in the mask and in the
      prediction: see :func:`unetseg.metrics.boundary.boundary_labels`.
    - ``accuracy``: the share of pixels that are right; in "multilabel" of (pixel, class) values.
    - ``micro_iou``: the sum of all classes' intersections / the sum of their unions.
    - ``image_iou``: the mean over the images of the mean IoU of the classes that occur in an image.

    All but ``image_iou`` sum pixels over the data set, ``boundary_iou`` too: they are no means over images. None
    depends on batches or on their order, and in distributed training all processes' pixels count. A class that occurs
    neither in the masks nor in the predictions is nan, and so is a figure of nothing. Images in which no class occurs
    don't count in ``image_iou``; a class that lies amid ignored pixels alone may have no boundary, and is nan there.

    Args:
        classes: Number of classes.
        mode: "multiclass" and "binary", where a pixel has one class, count alike; "multilabel", where it has any
            number of them, counts each on its own.
        ignore_index: Mask value of the pixels that don't count, in "multilabel" class by class.
        boundary: Whether to compute ``boundary_iou``, which takes one to three times as long as all the others.

    Shape:
        - update: predictions and masks of one shape, integers: (N, H, W) class indices, or for "multilabel"
          (N, classes, H, W) of 0 and 1
        - compute: ``iou``, ``dice`` and ``boundary_iou`` (classes,), the others scalars; float32 in [0, 1], or nan

    Raises:
        OptionError: If there is no such mode.
        MaskSizeError: In update, if the shapes differ, or aren't those of the mode.
        MaskValueError: In update, if a pixel that counts holds no class.

    Source: Cheng et al., "Boundary IoU", 2021, arXiv:2103.16562.

    Example:
        >>> metric = SegmentationMetrics(3)
        >>> metric.update(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, 255]]]))
        >>> scores = metric.compute()
        >>> scores["iou"], scores["accuracy"]
        (tensor([0.5000, 0.0000,    nan]), tensor(0.5000))
    """

    full_state_update = False
    is_differentiable = False

    confmat: Tensor
    boundary_intersection: Tensor
    boundary_union: Tensor
    image_iou: Tensor
    images: Tensor

    def __init__(self, classes: int, mode: Mode = "multiclass", ignore_index: int = 255, boundary: bool = True) -> None:
        super().__init__()
        check_choice("mode", mode, Mode)
        self.classes = classes
        self.mode = mode
        self.ignore_index = ignore_index
        self.boundary = boundary
        matrices = (classes, 2, 2) if mode == "multilabel" else (classes, classes)
        # confmat: by true, then by predicted class
        states: dict[str, tuple[int, ...]] = {"confmat": matrices, "image_iou": (), "images": ()}
        if boundary:
            states |= {"boundary_intersection": (classes,), "boundary_union": (classes,)}
        for name, shape in states.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, mask: Tensor) -> None:
        """Count the pixels of a batch."""
        if predicted.shape != mask.shape or mask.shape[:-2] != (len(mask), *self.confmat.shape[:-2]):
            wanted = f"(N, {self.classes}, H, W)" if self.mode == "multilabel" else "(N, H, W)"
            raise MaskSizeError(
                f"the prediction is {tuple(predicted.shape)}, the mask {tuple(mask.shape)}; in mode {self.mode!r} both "
                f"must be {wanted}."
            )
        values = self.confmat.shape[-1]
        everywhere, near = [], []
        together = max(1, _CACHED // (mask.shape[-2] * mask.shape[-1])) if mask.numel() else 1
        parts = (torch.split(maps.flatten(0, -3), together) for maps in (predicted, mask))
        for predicted_part, mask_part in zip(*parts, strict=True):
            labels = paired_labels(predicted_part, mask_part, values, self.ignore_index)
            everywhere.append(confusion_matrices(labels, values))
            if self.boundary:
                near.append(confusion_matrices(boundary_labels(labels, values), values))

        matrices = torch.cat(everywhere).view(*mask.shape[:-2], values + 1, values + 1)
        self.confmat += matrices[..., :-1, :-1].sum(dim=0)
        intersection, union, _ = self._overlap(matrices)
        occurring = (union > 0).sum(dim=1)
        iou = (intersection * _ONE // union.clamp(min=1)).sum(dim=1) // occurring.clamp(min=1)
        self.image_iou += iou.sum()
        self.images += (occurring > 0).sum()
        if self.boundary:
            intersection, union, _ = self._overlap(torch.cat(near).view_as(matrices).sum(dim=0))
            self.boundary_intersection += intersection
            self.boundary_union += union

    def compute(self) -> dict[str, Tensor]:
        """The figures of all images so far."""
        intersection, union, total = self._overlap(self.confmat)
        scores = {"iou": _ratio(intersection, union), "dice": _ratio(2 * intersection, total)}
        if self.boundary:
            scores["boundary_iou"] = _ratio(self.boundary_intersection, self.boundary_union)
        right = self.confmat.diagonal(dim1=-2, dim2=-1).sum()
        return scores | {
            "accuracy": _ratio(right, self.confmat.sum()),
            "micro_iou": _ratio(intersection.sum(), union.sum()),
            "image_iou": _ratio(self.image_iou, self.images * _ONE),
        }

    def _overlap(self, matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Intersection, union and sum of mask and prediction, each (..., classes)."""
        both = matrices.diagonal(dim1=-2, dim2=-1)
        total = matrices.sum(dim=-1) + matrices.sum(dim=-2)
        own = 1 if self.mode == "multilabel" else slice(self.classes)
        return both[..., own], (total - both)[..., own], total[..., own]

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """Of one class, torchmetrics makes scalars."""
        squeezed = super()._wrap_compute(compute)

        @functools.wraps(compute)
        def wrapped() -> dict[str, Tensor]:
            return {name: value.view(-1) if name in BY_CLASS else value for name, value in squeezed().items()}

        return wrapped


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Of float32, whatever the default type is; 0 / 0 is nan."""
    return part.float() / whole.float()
