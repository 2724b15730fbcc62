"""Encoders that take multiples of a size only, brought to every size."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from unetseg.errors import EncoderError
from unetseg.geometry import ceil_div
from unetseg.nn.upsample.alignment import crop_to, traces_a_graph

__all__ = ["PaddedEncoder"]


class PaddedEncoder(nn.Module):
    """Pads the image at the bottom/right to a multiple, and crops each feature map to the image's part of it.

    Encoders that divide the image into windows, or add maps of several strides, take multiples of some size only. Zeros
    stand for the mean colour in a normalised image, and are what the padding of convolutions puts there too. A map of
    stride s keeps ceil(side / s) rows and columns: those that saw any of the image. So all stages round up.

    Args:
        encoder: From an image (N, C, H, W) to feature maps, full resolution first.
        multiple: Sides that the encoder takes are multiples of this, in pixels.
        strides: Stride of each feature map against the image.

    Shape:
        - image: (N, C, H, W), normalised
        - output: a list of (N, C_i, ceil(H / strides[i]), ceil(W / strides[i]))

    Raises:
        EncoderError: In forward, if the padded image's feature maps aren't of their strides.

    Example:
        >>> import torch
        >>> class Halves(nn.Module):
        ...     def forward(self, x):
        ...         return [x, nn.functional.pixel_unshuffle(x, 2)]  # which takes even sides only
        >>> encoder = PaddedEncoder(Halves(), multiple=2, strides=(1, 2))
        >>> [tuple(feature.shape) for feature in encoder(torch.zeros(1, 3, 5, 8))]
        [(1, 3, 5, 8), (1, 12, 3, 4)]
    """

    def __init__(self, encoder: nn.Module, *, multiple: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.encoder, self.multiple, self.strides = encoder, multiple, tuple(strides)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps (N, C_i, ceil(H / strides[i]), ceil(W / strides[i])) of an image (N, C, H, W)."""
        height, width = image.shape[-2:]
        right, bottom = (ceil_div(side, self.multiple) * self.multiple - side for side in (width, height))
        padded = F.pad(image, (0, right, 0, bottom))
        features = self.encoder(padded)
        if len(features) != len(self.strides):
            raise EncoderError(
                f"the encoder gave {len(features)} feature maps; strides has {len(self.strides)} values."
            )
        # the image itself comes first in most lists
        return [
            image if feature is padded else self._crop(feature, stride, padded.shape[-2:], (height, width))
            for feature, stride in zip(features, self.strides, strict=True)
        ]

    def _crop(self, feature: Tensor, stride: int, padded: Sequence[int], size: Sequence[int]) -> Tensor:
        expected = [ceil_div(side, stride) for side in padded]
        # a map without content is of no size that counts
        if feature.shape[1] and not traces_a_graph() and list(feature.shape[-2:]) != expected:
            raise EncoderError(
                f"from a padded image of {tuple(padded)} the encoder gave a feature map of "
                f"{tuple(feature.shape[-2:])}; of stride {stride}, {tuple(expected)} was expected."
            )
        height, width = (ceil_div(side, stride) for side in size)
        return crop_to(feature, height, width)
