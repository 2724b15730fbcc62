"""The boundary term: probability counts by its distance from the true boundary."""

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unetseg.losses.labelled import LabelledLogits, weighted_mean

__all__ = ["Boundary", "signed_distances"]


class Boundary(nn.Module):
    """Mean over the pixels of probability times signed distance to the class's boundary, as the mean over the classes.

    It is negative where predictions are good: distances inside a class are. It says nothing of a class that an image
    hasn't, nor of one that is all of it, so that it stands beside another term. The distances are computed on the CPU,
    once for all logits of a mask in a row.

    Source: Kervadec et al. 2019, "Boundary loss for highly unbalanced segmentation".
    """

    def __init__(self) -> None:
        super().__init__()
        self._latest: tuple[Tensor, Tensor] | None = None

    def forward(self, batch: LabelledLogits) -> Tensor:
        """A scalar in (-1, 1)."""
        counted = batch.channel_counted
        products = batch.probabilities * self._distances(batch)  # 0 where ignored
        pixels = counted.sum((0, 2, 3)).clamp(min=1)
        return weighted_mean(products.sum((0, 2, 3)) / pixels, batch.channel_weights)

    def _distances(self, batch: LabelledLogits) -> Tensor:
        """Signed distances of every channel, (N, channels, H, W) float32."""
        with torch.inference_mode(False):  # training may reuse what validation left, and differentiates with it
            mask = batch.mask.cpu().clone()  # its owner may write into it
            if self._latest is None or not torch.equal(self._latest[0], mask):
                pairs = zip(
                    batch.truth.flatten(0, 1).cpu().numpy(),
                    batch.channel_counted.flatten(0, 1).cpu().numpy(),
                    strict=True,
                )
                maps = np.stack([signed_distances(truth, counted) for truth, counted in pairs])
                self._latest = mask, torch.from_numpy(maps).view(batch.logits.shape)
            return self._latest[1].to(batch.logits.device)


def signed_distances(truth: NDArray[np.bool_], counted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How far each pixel is from the nearest one of the other kind, in diagonals of the image.

    Args:
        truth: (H, W), the pixels of a class.
        counted: (H, W), those that are of either kind; the others make no boundary.

    Returns:
        (H, W): below 0 inside the class, above 0 outside, 0 where a pixel is of neither kind, and everywhere if all
        pixels are of one kind.

    Example:
        >>> signed_distances(np.array([[True, False, False, False]]), np.ones((1, 4), bool)).round(2)
        array([[-0.24,  0.24,  0.49,  0.73]], dtype=float32)
    """
    inside, outside = truth & counted, ~truth & counted
    if not (inside.any() and outside.any()):
        return np.zeros(truth.shape, np.float32)
    distances = _distance_to(inside) * outside - _distance_to(outside) * inside
    return np.asarray(distances / math.hypot(*truth.shape), np.float32)


def _distance_to(pixels: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.asarray(cv2.distanceTransform((~pixels).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
