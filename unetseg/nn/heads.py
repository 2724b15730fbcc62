"""From a decoder's maps to logits."""

from collections.abc import Sequence

from torch import Tensor, nn

from unetseg.geometry import Rounding
from unetseg.nn.init import initialize_head_
from unetseg.nn.upsample import build_upsample

__all__ = ["AuxiliaryHead", "SegmentationHead"]


class SegmentationHead(nn.Conv2d):
    """A convolution from a decoder's map at full resolution to logits.

    A head that upsamples, from stride 2 to the logits, is any layer of :func:`unetseg.nn.build_upsample`: it has the
    same interface, and leaves no block of the decoder at full resolution.

    Args:
        in_channels: Channels of the decoder's map.
        classes: Number of classes.
        kernel_size: Side of the kernel, odd.

    Shape:
        - x: (N, C_in, H, W)
        - output: logits (N, classes, H, W)

    Example:
        >>> import torch
        >>> SegmentationHead(16, 3)(torch.zeros(1, 16, 5, 7)).shape
        torch.Size([1, 3, 5, 7])
    """

    def __init__(self, in_channels: int, classes: int, kernel_size: int = 3) -> None:
        super().__init__(in_channels, classes, kernel_size, padding=kernel_size // 2)
        initialize_head_(self)

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Logits of a map; the size is that of the map, it is taken for the sake of heads that upsample."""
        return super().forward(x)


class AuxiliaryHead(nn.Module):
    """Logits from a stage of the decoder, at the image's size: the loss on them is deep supervision.

    A 1x1 convolution gives logits at the stage's resolution, and an aligned transposed convolution, one channel a
    class, brings them to the image's grid. It starts as linear interpolation.

    Args:
        in_channels: Channels of the stage's map.
        classes: Number of classes.
        stride: Stride of the stage's map against the image.
        rounding: How the encoder rounds on the way to that stride: "up" or "down" if all its stages do so, or "any".
        label: What errors call this head.

    Shape:
        - x: (N, C_in, H, W)
        - output: logits (N, classes, *size)

    Source: Lee et al., "Deeply-Supervised Nets", arXiv:1409.5185; the interpolating transposed convolution is that of
    Long et al., "Fully Convolutional Networks", arXiv:1411.4038.

    Example:
        >>> import torch
        >>> AuxiliaryHead(16, 3, stride=8)(torch.zeros(1, 16, 5, 7), size=(35, 57)).shape
        torch.Size([1, 3, 35, 57])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        stride: int,
        rounding: Rounding = "any",
        label: str = "auxiliary head",
    ) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(in_channels, classes, kernel_size=1)
        initialize_head_(self.classifier)
        self.upsample = build_upsample(
            classes, classes, stride=stride, groups=classes, bias=False, init="bilinear", rounding=rounding, label=label
        )

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Logits of a stage's map, at ``size``, the image's (height, width)."""
        return self.upsample(self.classifier(x), size=size)  # type: ignore[no-any-return]  # torch types a module's call as Any
