"""From logits to classes: the one place that decides, for training, metrics and prediction."""

import torch
from torch import Tensor

from unetseg.config import Mode

__all__ = ["class_probabilities", "decide", "decide_probabilities", "num_logits"]


def num_logits(classes: int, mode: Mode) -> int:
    """How many logits a network needs for so many classes.

    Example:
        >>> num_logits(2, "multiclass"), num_logits(2, "binary")
        (2, 1)
    """
    return 1 if mode == "binary" else classes


def decide(logits: Tensor, mode: Mode) -> Tensor:
    """The classes of every pixel.

    Args:
        logits: (N, num_logits, H, W), floating point.
        mode: "multiclass", the class of the largest logit; "binary", class 1 where the only logit is above 0, which is
            a probability above one half, else class 0; "multilabel", every class whose logit is above 0.

    Returns:
        uint8: (N, H, W) class indices, or for "multilabel" (N, classes, H, W) of 0 and 1.

    Example:
        >>> logits = torch.tensor([[[[2.0]], [[3.0]]]])
        >>> decide(logits, "multiclass").tolist(), decide(logits, "multilabel").tolist()
        ([[[1]]], [[[[1]], [[1]]]])
    """
    if mode == "multiclass":
        return _first_largest(logits)
    above = (logits > 0).to(torch.uint8)
    return above[:, 0] if mode == "binary" else above


def class_probabilities(logits: Tensor, mode: Mode) -> Tensor:
    """The probability of every class at every pixel.

    Args:
        logits: (N, num_logits, H, W), floating point.
        mode: "multiclass" or "binary", where those of a pixel add up to 1; "multilabel", where each stands alone.

    Returns:
        (N, classes, H, W) float32 in [0, 1].

    Example:
        >>> class_probabilities(torch.zeros(1, 1, 1, 1), "binary").flatten().tolist()
        [0.5, 0.5]
    """
    logits = logits.float()
    if mode == "multiclass":
        return logits.softmax(dim=1)
    # of -x rather than 1 minus that of x, which rounds small ones away
    return torch.cat([-logits, logits], dim=1).sigmoid() if mode == "binary" else logits.sigmoid()


def decide_probabilities(probabilities: Tensor, mode: Mode) -> Tensor:
    """The classes of every pixel, as :func:`decide` has them, from probabilities or means of them.

    Args:
        probabilities: (N, classes, H, W).
        mode: See there.

    Returns:
        uint8: (N, H, W) class indices, or for "multilabel" (N, classes, H, W) of 0 and 1.

    Example:
        >>> decide_probabilities(torch.tensor([0.5, 0.5]).view(1, 2, 1, 1), "binary").tolist()
        [[[0]]]
    """
    if mode == "multilabel":
        return (probabilities > 0.5).to(torch.uint8)
    return _first_largest(probabilities)


def _first_largest(maps: Tensor) -> Tensor:
    # the same as argmax, which takes up to forty times as long on a CPU where the maps aren't channels last
    return maps.max(dim=1).indices.to(torch.uint8)
