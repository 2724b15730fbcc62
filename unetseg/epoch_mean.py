"""The mean of a training epoch, which a run that is resumed within the epoch goes on with."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import MeanMetric

__all__ = ["EpochMean"]


class EpochMean(MeanMetric):
    """torchmetrics' weighted mean, which can be saved and restored on each process exactly as it was.

    Example:
        >>> before, after = EpochMean(), EpochMean()
        >>> before.update(2.0, weight=3)
        >>> after.restore([before.parts.tolist()], rank=0)
        >>> after.update(4.0, weight=1)
        >>> after.compute()
        tensor(2.5000)
    """

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")  # looking for nan would wait for a GPU at every step

    @property
    def parts(self) -> Tensor:
        """(2,): the weighted sum so far, and the sum of the weights."""
        return torch.stack([self.mean_value, self.weight])

    def restore(self, parts: Sequence[Sequence[float]], *, rank: int, world_size: int = 1) -> None:
        """Go on from the parts of all processes of an earlier run; of another number of them, the first takes all."""
        own = torch.tensor(parts, dtype=self.mean_value.dtype, device=self.mean_value.device)
        if len(parts) != world_size:
            own = torch.cat([own.sum(dim=0, keepdim=True), own.new_zeros(world_size - 1, 2)])
        self.mean_value, self.weight = own[rank].unbind()
        self._update_count = int(bool(own.sum(dim=0)[1]))  # so that it knows that there is a mean
