"""Attention for decoders: which channels, pixels and parts of a skip count."""

from torch import Tensor, nn

__all__ = ["SCSE", "AttentionGate"]

REDUCTION = 16


class SCSE(nn.Module):
    """Concurrent spatial and channel squeeze & excitation: weighs channels by the whole map, and each pixel by its own.

    Args:
        channels: Channels of input and output.
        reduction: How many times fewer channels the squeeze has. At least 8 are left, where there are so many: the
            ReLU behind a single one would often be 0 for every input, and so stay.

    Shape:
        - input: (N, C, H, W)
        - output: (N, C, H, W)

    Source: Roy et al., arXiv:1803.02579, the sum of cSE and sSE.

    Example:
        >>> import torch
        >>> SCSE(8)(torch.ones(2, 8, 3, 5)).shape
        torch.Size([2, 8, 3, 5])
    """

    def __init__(self, channels: int, reduction: int = REDUCTION) -> None:
        super().__init__()
        squeezed = max(min(8, channels), channels // reduction)
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, kernel_size=1),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(nn.Conv2d(channels, 1, kernel_size=1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Weigh (N, C, H, W)."""
        weights: Tensor = self.channel(x) + self.spatial(x)  # (N, C, 1, 1) + (N, 1, H, W)
        return x * weights


class AttentionGate(nn.Module):
    """Additive attention on a skip: the deeper map, already upsampled, chooses which of its pixels come through.

    Args:
        gate_channels: Channels of the upsampled deeper map.
        skip_channels: Channels of the skip.
        channels: Of the space in which they are compared; half the skip's if None.

    Shape:
        - gate: (N, C_gate, H, W)
        - skip: (N, C_skip, H, W)
        - output: (N, C_skip, H, W), the skip times weights between 0 and 1

    Source: Oktay et al., "Attention U-Net", arXiv:1804.03999, equation 1; at the skip's resolution, since the gate is
    aligned to it already, and without norms, so that it takes any batch and map.

    Example:
        >>> import torch
        >>> AttentionGate(8, 4)(torch.ones(2, 8, 3, 5), torch.ones(2, 4, 3, 5)).shape
        torch.Size([2, 4, 3, 5])
    """

    def __init__(self, gate_channels: int, skip_channels: int, channels: int | None = None) -> None:
        super().__init__()
        channels = channels or max(1, skip_channels // 2)
        self.gate = nn.Conv2d(gate_channels, channels, kernel_size=1)
        self.skip = nn.Conv2d(skip_channels, channels, kernel_size=1, bias=False)
        self.weight = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(channels, 1, kernel_size=1), nn.Sigmoid())

    def forward(self, gate: Tensor, skip: Tensor) -> Tensor:
        """Weigh the pixels of a skip."""
        weights: Tensor = self.weight(self.gate(gate) + self.skip(skip))  # (N, 1, H, W)
        return skip * weights
