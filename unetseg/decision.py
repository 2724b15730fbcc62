"""From logits to classes: the one place that decides, for training, metrics and prediction."""

import torch
from torch import Tensor

from unetseg.config import Mode

__all__ = ["decide"]


def decide(logits: Tensor, mode: Mode) -> Tensor:
    """The classes of every pixel.

    Args:
        logits: (N, classes, H, W), floating point.
        mode: "multiclass", the class of the largest logit; "multilabel", every class whose logit is above 0, which
            is a probability above one half.

    Returns:
        uint8: (N, H, W) class indices, or for "multilabel" (N, classes, H, W) of 0 and 1.

    Example:
        >>> logits = torch.tensor([[[[2.0]], [[3.0]]]])
        >>> decide(logits, "multiclass").tolist(), decide(logits, "multilabel").tolist()
        ([[[1]]], [[[[1]], [[1]]]])
    """
    return logits.argmax(dim=1).to(torch.uint8) if mode == "multiclass" else (logits > 0).to(torch.uint8)
