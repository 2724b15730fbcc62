"""A batch as the terms of a loss see it: logits and masks of any mode, without the ignored pixels."""

import dataclasses
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from unetseg.config import Mode
from unetseg.decision import num_logits
from unetseg.errors import OptionError

__all__ = ["LabelledLogits", "above_zero", "weighted_mean"]


@dataclasses.dataclass(frozen=True)
class LabelledLogits:
    """Logits with what is known of their pixels.

    A *value* is what the mask says of a pixel, or in mode "multilabel" of a pixel and a class; *channels* are the
    logits': a class each, in mode "binary" class 1.

    Attributes:
        logits: (N, channels, H, W) float32.
        mask: int64, (N, H, W) class indices for "multiclass"; else (N, channels, H, W) of 0 and 1; or ignore_index.
        mode: What a pixel can be.
        ignore_index: Mask value of the pixels to leave out.
        class_weights: (classes,) float32 >= 0.
    """

    logits: Tensor
    mask: Tensor
    mode: Mode
    ignore_index: int
    class_weights: Tensor

    @classmethod
    def of(cls, logits: Tensor, mask: Tensor, *, mode: Mode, ignore_index: int, class_weights: Tensor) -> Self:
        """Bring a batch into one form for all terms.

        Args:
            logits: (N, channels, H, W), floating point.
            mask: Integer, (N, H, W), or for "multilabel" (N, classes, H, W).
            mode: What a pixel can be.
            ignore_index: Mask value of the pixels to leave out.
            class_weights: (classes,).

        Raises:
            OptionError: If logits and mask don't have the shapes of the mode.
        """
        channels = num_logits(len(class_weights), mode)
        images, *size = logits.shape[:1] + logits.shape[2:]
        wanted = (images, channels, *size) if mode == "multilabel" else (images, *size)
        # broadcasting would hide it
        if logits.shape[1] != channels or mask.shape != wanted:
            raise OptionError(
                f"logits are {tuple(logits.shape)}, the mask is {tuple(mask.shape)}; the loss of {len(class_weights)} "
                f"classes in mode {mode!r} takes logits (N, {channels}, H, W) and a mask "
                f"{f'(N, {channels}, H, W)' if mode == 'multilabel' else '(N, H, W)'}. Build both for the same classes "
                f"and mode."
            )
        whole = mask.long()  # the ignored value of an unsigned mask may be negative
        return cls(logits.float(), whole[:, None] if mode == "binary" else whole, mode, ignore_index, class_weights)

    @cached_property
    def counted(self) -> Tensor:
        """Whether a value counts, of the mask's shape."""
        return self.mask != self.ignore_index

    @cached_property
    def target(self) -> Tensor:
        """The mask with 0 in place of ignore_index, int64."""
        return self.mask.masked_fill(~self.counted, 0)

    @cached_property
    def value_weights(self) -> Tensor:
        """How much each value counts, of the mask's shape: its class's weight, 0 where it is ignored."""
        if self.mode == "multilabel":
            return self.class_weights[:, None, None] * self.counted
        return self.class_weights[self.target] * self.counted

    @cached_property
    def channel_weights(self) -> Tensor:
        """(channels,) weights of the logits' classes; the only one of "binary" has nothing to be weighed against."""
        return torch.ones_like(self.class_weights[:1]) if self.mode == "binary" else self.class_weights

    @cached_property
    def probabilities(self) -> Tensor:
        """(N, channels, H, W) probabilities of the classes."""
        return self.logits.softmax(dim=1) if self.mode == "multiclass" else self.logits.sigmoid()

    @cached_property
    def channel_counted(self) -> Tensor:
        """Whether a pixel counts for a class, (N, channels, H, W) of bool."""
        if self.mode == "multiclass":
            return self.counted[:, None].expand_as(self.logits)
        return self.counted

    @cached_property
    def truth(self) -> Tensor:
        """Whether a pixel is of a class and counts, (N, channels, H, W) of bool."""
        if self.mode == "multiclass":
            classes = torch.arange(self.logits.shape[1], device=self.mask.device)
            return (self.target[:, None] == classes[:, None, None]) & self.channel_counted
        return self.target.bool()


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of values by weights of their shape; 0 with a gradient of zeros where all weights are 0.

    Example:
        >>> weighted_mean(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0])).item()
        2.0
    """
    return (values * weights).sum() / above_zero(weights.sum())


def above_zero(total: Tensor) -> Tensor:
    """A sum of weights to divide by: 1 in place of 0, where all that is divided is 0, too."""
    return torch.where(total > 0, total, 1.0)
