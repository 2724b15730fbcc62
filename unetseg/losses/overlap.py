"""The terms that judge each class by the overlap of what is predicted and what is true: Dice and Tversky."""

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from unetseg.losses.labelled import LabelledLogits, weighted_mean

__all__ = ["Dice", "Tversky"]


class _DiceOfClasses(smp.losses.DiceLoss):  # type: ignore[misc]  # the library has no types
    """The library's Dice loss before its mean over classes, which knows weights only since version 0.6."""

    def aggregate_loss(self, loss: Tensor) -> Tensor:
        return loss


class Dice(nn.Module):
    """1 - 2 |predicted and true| / (|predicted| + |true|) over the pixels of a batch, as the mean over the classes.

    A class without a true pixel contributes 0, and counts in the mean.

    Source: ``segmentation_models_pytorch.losses.DiceLoss``; Milletari et al. 2016, "V-Net".
    """

    def forward(self, batch: LabelledLogits) -> Tensor:
        """A scalar in [0, 1]."""
        # a single logit is a "multilabel" of one class
        mode = "multiclass" if batch.mode == "multiclass" else "multilabel"
        losses = _DiceOfClasses(mode, ignore_index=batch.ignore_index)(batch.logits, batch.mask)
        return weighted_mean(losses, batch.channel_weights)


class Tversky(nn.Module):
    """1 - TP / (TP + alpha FP + beta FN), raised to gamma, over the pixels of a batch, as the mean over the classes.

    TP, FP and FN are sums of probabilities. A class without a true pixel contributes 0, and counts in the mean. It
    isn't ``segmentation_models_pytorch.losses.TverskyLoss``, whose power is that of the mean, not of each class, with
    a gradient of nan where the mean is 0.

    Args:
        alpha: Weight of false positives, >= 0.
        beta: Weight of false negatives, >= 0; with both at 0.5 it is Dice.
        gamma: Above 1 it plays down classes that overlap well, below 1 those that overlap badly.

    Source: Salehi et al. 2017, "Tversky loss function for image segmentation using 3D fully convolutional deep
    networks", whose best are the default alpha and beta; Abraham & Khan 2019, "A novel focal Tversky loss function
    with improved attention U-Net for lesion segmentation", whose exponent 1 / (4/3) is a gamma of 0.75.
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, gamma: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def forward(self, batch: LabelledLogits) -> Tensor:
        """A scalar in [0, 1]."""
        predicted, truth = batch.probabilities * batch.channel_counted, batch.truth.float()
        true_positive = (predicted * truth).sum((0, 2, 3))
        false_positive = (predicted * (1 - truth)).sum((0, 2, 3))
        false_negative = ((1 - predicted) * truth).sum((0, 2, 3))
        wrong = self.alpha * false_positive + self.beta * false_negative
        losses = wrong / (true_positive + wrong).clamp(min=torch.finfo(torch.float32).tiny)
        raised = (truth.sum((0, 2, 3)) > 0) & (losses > 0)  # at 0 a power below 1 has an infinite gradient
        return weighted_mean(torch.where(raised, losses, 1.0) ** self.gamma * raised, batch.channel_weights)
