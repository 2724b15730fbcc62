"""From logits to classes: the one place that decides, for training, metrics and prediction."""

import torch
from torch import Tensor

from unetseg.config import Mode

__all__ = ["decide", "num_logits"]


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
        return logits.argmax(dim=1).to(torch.uint8)
    above = (logits > 0).to(torch.uint8)
    return above[:, 0] if mode == "binary" else above
