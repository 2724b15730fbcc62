"""Confusion matrices of label maps, all of a batch in one count."""

import torch
from torch import Tensor

from unetseg.errors import MaskValueError

__all__ = ["confusion_matrices", "paired_labels"]


def paired_labels(predicted: Tensor, mask: Tensor, classes: int, ignore_index: int) -> Tensor:
    """The prediction above the mask, in the smallest type; where the mask is ignored, both are ``classes``.

    Args:
        predicted: Classes from 0 to classes - 1, of any integer type.
        mask: Likewise, and ignore_index.
        classes: Number of classes.
        ignore_index: Mask value of the pixels that don't count.

    Returns:
        (2, *mask.shape), integers from 0 to classes.

    Raises:
        MaskValueError: If a pixel that counts holds no class.

    Example:
        >>> paired_labels(torch.tensor([0, 1, 1]), torch.tensor([1, 1, 255]), classes=2, ignore_index=255).tolist()
        [[0, 1, 2], [1, 1, 2]]
    """
    counted = mask != ignore_index
    maps = {"prediction": predicted, "mask": mask * counted}  # products: many times faster than masked_fill
    for name, labels in maps.items() if mask.numel() else ():
        lowest, highest = (int(value) for value in torch.aminmax(labels))
        if lowest < 0 or highest >= classes:
            raise MaskValueError(
                f"the {name} holds {lowest if lowest < 0 else highest}; the classes are 0 to {classes - 1}, and "
                f"{ignore_index} in the mask is a pixel that doesn't count."
            )
    small = _holding(classes)
    return torch.stack([labels.to(small) for labels in maps.values()]) * counted + (~counted).to(small) * classes


def confusion_matrices(labels: Tensor, classes: int) -> Tensor:
    """A matrix for each label map; its last row and column count what isn't a class.

    Args:
        labels: (2, N, H, W), predicted and true labels from 0 to classes, as of :func:`paired_labels`.
        classes: Number of classes.

    Returns:
        (N, classes + 1, classes + 1) int64: pixels by true and by predicted label.

    Example:
        >>> confusion_matrices(torch.tensor([[[[0, 1, 1]]], [[[0, 0, 1]]]]), classes=2).tolist()
        [[[1, 1, 0], [0, 1, 0], [0, 0, 0]]]
    """
    predicted, target = labels
    maps, side = len(target), classes + 1
    cells = maps * side**2
    cell = target.to(_holding(cells)) * side + predicted
    if maps > 1:
        cell += torch.arange(0, cells, side**2, dtype=cell.dtype, device=cell.device)[:, None, None]
    # not torchmetrics': in deterministic mode it compares every pixel with every cell, though counts without weights
    # are the same in any order, and PyTorch knows
    return torch.bincount(cell.flatten(), minlength=cells).view(maps, side, side)


def _holding(value: int) -> torch.dtype:
    """The smallest integer type for numbers up to this one: bytes are several times faster than int64."""
    return next(dtype for dtype in (torch.uint8, torch.int16, torch.int32) if value <= torch.iinfo(dtype).max)
