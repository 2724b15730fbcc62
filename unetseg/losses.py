"""The training losses: cross-entropy plus Dice, over classes of which a pixel has one or any number."""

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BinaryCrossEntropyDiceLoss", "CrossEntropyDiceLoss"]


class CrossEntropyDiceLoss(nn.Module):
    """Cross-entropy plus Dice loss, each with weight 1, both without the ignored pixels.

    Cross-entropy gives every pixel a gradient; Dice counts a small class as much as a large one. Computed in
    float32 under autocast too. A batch whose pixels are all ignored gives 0 with a gradient of zeros, where
    PyTorch's mean over no pixels is nan.

    Args:
        ignore_index: Mask value of the pixels to leave out.

    Shape:
        - logits: (N, classes, H, W), floating point
        - mask: (N, H, W), integer class indices or ignore_index
        - output: a float32 scalar >= 0

    Source: ``segmentation_models_pytorch.losses.DiceLoss`` (mode "multiclass") for the second term.

    Example:
        >>> loss = CrossEntropyDiceLoss(ignore_index=255)
        >>> round(loss(torch.zeros(1, 2, 3, 3), torch.full((1, 3, 3), 255)).item(), 4)
        0.0
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.dice = smp.losses.DiceLoss("multiclass", ignore_index=ignore_index)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The loss of a batch."""
        with torch.autocast(logits.device.type, enabled=False):
            logits, mask = logits.float(), mask.long()
            # as a list of pixels: its CUDA kernel is deterministic, that of images isn't
            pixels, target = (
                logits.movedim(1, -1).flatten(0, -2),
                mask.flatten(),
            )  # (N*H*W, classes), (N*H*W,)
            total = F.cross_entropy(pixels, target, ignore_index=self.ignore_index, reduction="sum")
            counted = (target != self.ignore_index).sum()
            dice: Tensor = self.dice(logits, mask)
            return total / counted.clamp(min=1) + dice


class BinaryCrossEntropyDiceLoss(nn.Module):
    """Binary cross-entropy plus Dice loss for classes of which a pixel may have several.

    Otherwise as :class:`CrossEntropyDiceLoss`.

    Args:
        ignore_index: Mask value of the pixels to leave out, class by class.

    Shape:
        - logits: (N, classes, H, W), floating point
        - mask: (N, classes, H, W), integer 0, 1 or ignore_index
        - output: a float32 scalar >= 0

    Source: ``segmentation_models_pytorch.losses.DiceLoss`` (mode "multilabel") for the second term.

    Example:
        >>> loss = BinaryCrossEntropyDiceLoss(ignore_index=255)
        >>> round(loss(torch.zeros(1, 2, 3, 3), torch.full((1, 2, 3, 3), 255)).item(), 4)
        0.0
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.dice = smp.losses.DiceLoss("multilabel", ignore_index=ignore_index)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The loss of a batch."""
        with torch.autocast(logits.device.type, enabled=False):
            logits, mask = logits.float(), mask.long()
            counted = mask != self.ignore_index
            target = (mask * counted).float()
            every = F.binary_cross_entropy_with_logits(logits, target, reduction="none")  # (N, classes, H, W)
            dice: Tensor = self.dice(logits, mask)
            return (every * counted).sum() / counted.sum().clamp(min=1) + dice
