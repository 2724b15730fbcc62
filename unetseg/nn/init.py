"""Initialisation of decoders: signals keep their scale from the deepest feature to the logits."""

import math

import torch
from torch import Tensor, nn

__all__ = ["initialize_decoder", "initialize_head", "variance_preserving_"]


def variance_preserving_(layer: nn.ConvTranspose2d, gain: float = 1.0) -> Tensor:
    """Fill a transposed convolution's weight: it keeps the signal's scale, and starts as an interpolation.

    Scale: an output pixel gets ``in_channels / groups * k^2 / s^2`` products on average, which is the fan to divide
    by. PyTorch's default counts ``out_channels * k^2`` instead: right for the gradient of a convolution, but
    in a decoder it shrinks the signal at every stage to 0.4 to 0.65 of its scale, while the skips arrive
    at full strength.

    Smoothness: independent weights would give each phase of the stride its own random mixture of the channels, and
    turn a smooth map into noise of the stride's period, which the decoder first has to unlearn. So all taps
    share one mixture, times the kernel of linear interpolation (nearest neighbour where the kernel is no larger
    than the stride). Only the start is so: every tap is learned on its own. The bias becomes 0.

    Args:
        layer: Any ``nn.ConvTranspose2d``; changed in place.
        gain: Wanted ratio of the output's root mean square to that of an uncorrelated input.

    Returns:
        The weight, (C_in, C_out / groups, K_h, K_w).

    Source: the argument of He et al., arXiv:1502.01852, section 2.2, with the fan of a transposed convolution.

    Example:
        >>> layer = nn.ConvTranspose2d(8, 4, kernel_size=4, stride=2, padding=1)
        >>> _ = variance_preserving_(layer)
        >>> constant = layer(torch.ones(1, 8, 5, 5))[..., 1:-1, 1:-1]
        >>> torch.allclose(constant, constant[..., :1, :1], atol=1e-5)
        True
    """
    rows, columns = (
        torch.tensor(_linear_kernel(k, s, d))
        for k, s, d in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    )
    kernel = torch.outer(rows, columns).to(layer.weight)
    with torch.no_grad():
        if layer.bias is not None:
            layer.bias.zero_()
        mixture = layer.weight.new_empty(layer.weight.shape[:2]).normal_()
        scale = gain / math.sqrt(_fan(layer)) / kernel.square().mean().sqrt()
        return layer.weight.copy_(mixture[..., None, None] * kernel * scale)


def _fan(layer: nn.ConvTranspose2d) -> float:
    """Products in an output pixel, on average."""
    fan = layer.in_channels / layer.groups
    for k, s in zip(layer.kernel_size, layer.stride, strict=True):
        fan *= k / s
    return fan


def _linear_kernel(k: int, s: int, d: int) -> list[float]:
    """Taps of linear interpolation by s; those that meet in an output pixel sum to 1.

    Example:
        >>> _linear_kernel(4, 2, 1), _linear_kernel(3, 2, 1), _linear_kernel(2, 2, 1)
        ([0.25, 0.75, 0.75, 0.25], [0.5, 1.0, 0.5], [1.0, 1.0])
    """
    tent = [max(0.0, 1 - abs(tap - (k - 1) / 2) * d / s) for tap in range(k)]
    taps = []
    for tap in range(k):
        met = [tent[other] for other in range(k) if (other - tap) * d % s == 0]  # in the same output pixels
        taps.append(tent[tap] / sum(met) if sum(met) else 1 / len(met))
    return taps


def initialize_decoder(module: nn.Module) -> None:
    """Initialise every layer of a decoder, in place.

    Transposed convolutions by :func:`variance_preserving_`, convolutions by Kaiming's rule, both for the ReLU
    that follows them (He et al., arXiv:1502.01852), norms as the identity.
    """
    for layer in module.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            variance_preserving_(layer, gain=nn.init.calculate_gain("relu"))
        elif isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def initialize_head(head: nn.Conv2d) -> None:
    """Xavier weights and a zero bias: at the start, logits are small and no class is preferred."""
    nn.init.xavier_uniform_(head.weight)
    if head.bias is not None:
        nn.init.zeros_(head.bias)
