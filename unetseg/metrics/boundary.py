"""Which pixels of a label map lie near the boundary of their class."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["boundary_distance", "boundary_labels"]


def boundary_distance(height: int, width: int) -> int:
    """How near the boundary is, in pixels: 2 % of the diagonal, and at least 1.

    Source: Cheng et al., "Boundary IoU", 2021, arXiv:2103.16562, and their code.

    Example:
        >>> boundary_distance(360, 480), boundary_distance(1, 1)
        (12, 1)
    """
    return max(1, round(0.02 * math.hypot(height, width)))


def boundary_labels(labels: Tensor, classes: int) -> Tensor:
    """The labels within :func:`boundary_distance` of the boundary of their class; all others become ``classes``.

    A pixel stays if the square around it leaves the image or holds another class. That is what an erosion of each
    class on its own leaves out, without a loop over the classes. Pixels that aren't counted make no boundary.

    Args:
        labels: (..., H, W), integers from 0 to classes, which stands for pixels that aren't counted.
        classes: Number of classes.

    Returns:
        Labels of the same shape and type.

    Source: Cheng et al., "Boundary IoU", 2021, arXiv:2103.16562, where a square erodes a mask whose border is empty.

    Example:
        >>> boundary_labels(torch.tensor([[0, 0, 0, 1]] * 3), classes=2)
        tensor([[0, 0, 0, 1],
                [0, 2, 0, 1],
                [0, 0, 0, 1]])
    """
    height, width = labels.shape[-2:]
    distance = boundary_distance(height, width)
    labels = labels.clone()
    if min(height, width) <= 2 * distance:  # every square leaves the image
        return labels
    size = 2 * distance + 1
    lowest = _filtered(labels, size, torch.minimum)
    highest = _filtered(labels * (labels < classes), size, torch.maximum)  # neither sees what isn't counted
    inside = labels[..., distance:-distance, distance:-distance]
    torch.maximum(inside, (lowest == highest).to(labels.dtype) * classes, out=inside)
    return labels


def _filtered(image: Tensor, size: int, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The least or the greatest value of every square that lies in the image: (..., H - size + 1, W - size + 1).

    Windows double in length, so that the cost grows with the logarithm of the size.
    """
    for dim in (-2, -1):
        length = 1
        while length < size:
            step = min(length, size - length)
            count = image.shape[dim] - step
            image = choose(image.narrow(dim, 0, count), image.narrow(dim, step, count))
            length += step
    return image
