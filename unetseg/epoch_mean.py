"""The mean of a training epoch, which a run that is resumed within the epoch goes on with."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["EpochMean"]


class EpochMean(Metric):
    """A weighted mean, which can be saved and restored on each process exactly as it was.

    torchmetrics' own looks for nan in every value, and a GPU has to be waited for; told not to, it forgets the weights.

    Example:
        >>> before, after = EpochMean(), EpochMean()
        >>> before.update(torch.tensor(2.0), weight=3)
        >>> after.restore([before.parts.tolist()], rank=0)
        >>> after.update(torch.tensor(4.0), weight=1)
        >>> after.compute()
        tensor(2.5000)
    """

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("weight", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: float = 1.0) -> None:
        """Count a scalar so many times."""
        self.total += value * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """The mean so far; nan of nothing."""
        return self.total / self.weight

    @property
    def parts(self) -> Tensor:
        """(2,): the weighted sum so far, and the sum of the weights."""
        return torch.stack([self.total, self.weight])

    def restore(self, parts: Sequence[Sequence[float]], *, rank: int, world_size: int = 1) -> None:
        """Go on from the parts of all processes of an earlier run; of another number of them, the first takes all."""
        own = torch.tensor(parts, dtype=self.total.dtype, device=self.total.device)
        if len(parts) != world_size:
            own = torch.cat([own.sum(dim=0, keepdim=True), own.new_zeros(world_size - 1, 2)])
        self.total, self.weight = own[rank].clone().unbind()
        self._update_count = int(bool(own[:, 1].sum()))  # so that it knows that there is a mean
