"""The Lovász term: the Jaccard index itself, made differentiable."""

import numpy as np
import torch
from torch import Tensor, nn

from unetseg.losses.labelled import LabelledLogits, weighted_mean

__all__ = ["Lovasz"]


class Lovasz(nn.Module):
    """The Lovász extension of 1 - IoU of a batch's pixels, as the mean over the classes that have a true pixel.

    A pixel's error is how far the probability of the class is from the truth, in all modes: so the loss is in [0, 1]
    and means the same in each. ``segmentation_models_pytorch.losses.LovaszLoss`` takes the hinge of logits, which has
    no bound, for all modes but "multiclass", and sorts the classes of "multilabel" together; without a pixel that
    counts it isn't a scalar.

    Source: Berman et al. 2018, "The Lovász-Softmax loss: a tractable surrogate for the optimization of the
    intersection-over-union measure in neural networks".
    """

    def forward(self, batch: LabelledLogits) -> Tensor:
        """A scalar in [0, 1]."""
        truth = batch.truth.movedim(1, 0).flatten(1)  # (channels, N*H*W)
        present = truth.any(dim=1)
        truth = truth[present]
        counted = batch.channel_counted.movedim(1, 0).flatten(1)[present]
        predicted = batch.probabilities.movedim(1, 0).flatten(1)[present]
        errors = torch.where(truth, 1 - predicted, predicted)
        losses = (errors * _slopes(errors.detach(), truth, counted)).sum(dim=1)
        return weighted_mean(losses, batch.channel_weights[present])


@torch.no_grad()
def _slopes(errors: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """By how much 1 - IoU grows when a pixel joins those of larger errors, as wrong ones.

    Among these are `true` of the class and `false`, of `total` true pixels: IoU is (total - true) / (total + false).
    One more true pixel takes 1 from the numerator, one more false pixel adds 1 to the denominator. Written as such,
    not as differences of rounded quotients, it is exact in images of any size.

    Args:
        errors: (classes, pixels) in [0, 1].
        truth: (classes, pixels) of bool, a true one in each row.
        counted: (classes, pixels) of bool.

    Returns:
        (classes, pixels) >= 0, 0 where a pixel doesn't count.
    """
    order = _descending(errors.masked_fill(~counted, -1.0))  # the ignored ones last
    is_true = truth.gather(1, order)
    total = truth.sum(dim=1, keepdim=True, dtype=torch.int32)
    # integers: a running sum of float32 isn't deterministic on CUDA, nor exact
    true = is_true.cumsum(dim=1, dtype=torch.int32)
    false = torch.arange(1, truth.shape[1] + 1, device=truth.device, dtype=torch.int32) - true
    union = (total + false).float()
    slopes = torch.where(is_true, 1 / union, (total - true).float() / union / (union - 1))
    return torch.empty_like(errors).scatter_(1, order, slopes).masked_fill(~counted, 0.0)


def _descending(values: Tensor) -> Tensor:
    """Where the values of each row are, the largest first."""
    if values.device.type == "cpu":  # numpy takes a third of the time
        return torch.from_numpy(np.argsort(-values.numpy(), axis=1))
    return values.argsort(dim=1, descending=True)
