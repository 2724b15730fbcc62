"""Norms and activations by name, those that a decoder needs at every size of map and batch."""

from collections.abc import Callable

from torch import Tensor, nn

from unetseg.config import Activation, Norm, check_choice
from unetseg.errors import ImageError

__all__ = ["LayerNorm2d", "NormAct", "build_activation", "build_norm"]

GROUP_CHANNELS = 16


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's, which says what to do where it can't train: on a single value a channel."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - PyTorch's own name for it
        """Normalise (N, C, H, W) over N, H and W.

        Raises:
            ImageError: In training, if N, H and W are all 1.
        """
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            raise ImageError(
                "batch norm can't train on a batch of one with a map of 1x1: a single value a channel has no variance. "
                "Use a larger batch or larger crops, or block.norm 'group' or 'layer'."
            )
        return super().forward(input)


class InstanceNorm2d(nn.InstanceNorm2d):
    """PyTorch's with scale and shift, which takes a 1x1 map too: a single pixel has no variance, so it is kept."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - PyTorch's own name for it
        """Normalise (N, C, H, W) over H and W."""
        if input.shape[2] * input.shape[3] == 1:
            return input * self.weight[:, None, None] + self.bias[:, None, None]
        return super().forward(input)


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of each pixel, as in ConvNeXt; it takes a batch of one and a map of 1x1.

    Args:
        channels: Channels of input and output.

    Shape:
        - input: (N, C, H, W)
        - output: (N, C, H, W), with mean 0 and variance 1 over C before the learned scale and shift

    Source: Liu et al., arXiv:2201.03545; ``torchvision.models.convnext.LayerNorm2d``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - PyTorch's own name for it
        """Normalise (N, C, H, W) over C."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NormAct(nn.Sequential):
    """A norm and an activation.

    Args:
        channels: Channels of input and output.
        norm: "batch", "group", "instance", "layer" or "none".
        activation: "relu", "leaky_relu", "elu", "gelu", "silu" or "none".

    Shape:
        - input: (N, C, H, W)
        - output: (N, C, H, W)
    """

    def __init__(self, channels: int, norm: Norm = "batch", activation: Activation = "relu") -> None:
        super().__init__(*build_norm(norm, channels), *build_activation(activation))


def build_norm(norm: Norm, channels: int) -> list[nn.Module]:
    """A norm layer for maps of (N, channels, H, W), or none.

    Group norm has groups of 16 channels, or of all where 16 doesn't divide them (Wu & He, arXiv:1803.08494, table 3):
    with fewer, as PyTorch's users often choose, a group of narrow decoders would be a single channel.

    Raises:
        OptionError: If there is no such norm.
    """
    check_choice("block.norm", norm, Norm)
    groups = channels // GROUP_CHANNELS if channels % GROUP_CHANNELS == 0 else 1
    layers: dict[str, Callable[[], list[nn.Module]]] = {
        "batch": lambda: [BatchNorm2d(channels)],
        "group": lambda: [nn.GroupNorm(groups, channels)],
        "instance": lambda: [InstanceNorm2d(channels)],
        "layer": lambda: [LayerNorm2d(channels)],
        "none": list,
    }
    return layers[norm]()


def build_activation(activation: Activation) -> list[nn.Module]:
    """An activation, or none.

    Raises:
        OptionError: If there is no such activation.
    """
    check_choice("block.activation", activation, Activation)
    layers: dict[str, Callable[[], list[nn.Module]]] = {
        # in place where autograd needs the output only
        "relu": lambda: [nn.ReLU(inplace=True)],
        "leaky_relu": lambda: [nn.LeakyReLU(inplace=True)],
        "elu": lambda: [nn.ELU(inplace=True)],
        "gelu": lambda: [nn.GELU()],
        "silu": lambda: [nn.SiLU()],
        "none": list,
    }
    return layers[activation]()
