"""The terms that judge each pixel on its own: cross-entropy of two kinds, and the focal loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unetseg.losses.labelled import LabelledLogits, above_zero, weighted_mean

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "Focal"]

_LEFT_OUT = -100
"""PyTorch's own ignore_index, which is no class."""


class CrossEntropy(nn.Module):
    """Cross-entropy of one class a pixel, as the mean by class weights over the pixels that count.

    Args:
        label_smoothing: Share of a pixel's label that is spread evenly over all classes, 0 to below 1.

    Source: ``torch.nn.functional.cross_entropy``; its mean over no pixels is nan, here it is 0.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, batch: LabelledLogits) -> Tensor:
        """A scalar >= 0."""
        pixels, target = _pixels(batch)
        total = F.cross_entropy(
            pixels,
            target,
            weight=batch.class_weights,
            ignore_index=_LEFT_OUT,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return total / above_zero(batch.value_weights.sum())


class BinaryCrossEntropy(nn.Module):
    """Cross-entropy of classes that are there or not, as the mean by class weights over the values that count.

    Args:
        label_smoothing: Share of a label that is spread evenly over yes and no, 0 to below 1.

    Source: ``torch.nn.functional.binary_cross_entropy_with_logits``.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, batch: LabelledLogits) -> Tensor:
        """A scalar >= 0."""
        target = batch.target.float() * (1 - self.label_smoothing) + self.label_smoothing / 2
        return weighted_mean(
            F.binary_cross_entropy_with_logits(batch.logits, target, reduction="none"), batch.value_weights
        )


class Focal(nn.Module):
    """Cross-entropy of which each pixel counts by how wrong it is: -(1 - p)^gamma log p for its label's probability p.

    The mean is that of cross-entropy: by class weights, over the values that count. It isn't
    ``segmentation_models_pytorch.losses.FocalLoss``, which makes a sigmoid of each class's logit where classes exclude
    each other, fails on ignored values of "multilabel" and is nan without a pixel that counts.

    Args:
        gamma: How little an easy pixel counts, >= 0; at 0 it is cross-entropy.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", whose gamma is 2.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, batch: LabelledLogits) -> Tensor:
        """A scalar >= 0."""
        if batch.mode == "multiclass":
            pixels, target = _pixels(batch)
            entropy = F.cross_entropy(pixels, target, ignore_index=_LEFT_OUT, reduction="none")
            weights = batch.value_weights.flatten()
        else:
            entropy = F.binary_cross_entropy_with_logits(batch.logits, batch.target.float(), reduction="none")
            weights = batch.value_weights
        # at 0 a power below 1 has an infinite gradient
        wrong = (-torch.expm1(-entropy)).clamp(min=torch.finfo(torch.float32).tiny)
        return weighted_mean(wrong**self.gamma * entropy, weights)


def _pixels(batch: LabelledLogits) -> tuple[Tensor, Tensor]:
    """Logits (N*H*W, classes) and classes (N*H*W,) of all pixels; those without a weight aren't of any class."""
    # as a list of pixels: its CUDA kernel is deterministic, that of images isn't
    pixels = batch.logits.movedim(1, -1).flatten(0, -2)
    return pixels, batch.mask.masked_fill(batch.value_weights == 0, _LEFT_OUT).flatten()
