"""UNet: normalisation, encoder, decoder, head."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unetseg.config import UpsampleOptions
from unetseg.encoders import build_encoder, encoder_geometry, load_encoder_weights, normalization
from unetseg.errors import EncoderError, ImageError
from unetseg.nn.decoder import UNetDecoder
from unetseg.nn.init import initialize_head

__all__ = ["UNet"]

DECODER_CHANNELS = (256, 128, 64, 32, 16)


class UNet(nn.Module):
    """A UNet with any encoder, whose logits have the image's size at any size.

    The model owns its preprocessing: it takes images as they are and normalises them itself, so that training,
    inference and an exported graph can't differ in it.

    Args:
        encoder: Encoder's name in segmentation-models-pytorch, or a timm name after "tu-".
        classes: Number of classes, background included.
        encoder_weights: None for random ones, a name such as "imagenet", or the path of a local file.
        encoder_depth: Number of the encoder's downsampling stages.
        in_channels: Channels of the image.
        decoder_channels: Channels after each decoder stage, deepest first. None: the last of
            256, 128, 64, 32, 16, as many as there are stages.
        upsample: Options of the transposed convolutions, an ``UpsampleOptions`` or a mapping of its fields.
        mean: Mean of each image channel, of values in [0, 1]. None: what the encoder's published weights expect.
        std: Standard deviation of each image channel, likewise.

    Shape:
        - image: (N, in_channels, H, W), uint8 in 0..255 or floating point in [0, 1]
        - output: logits (N, classes, H, W)

    Raises:
        EncoderError: If the encoder or its weights don't exist.
        AlignmentError: If a kernel can't reach the encoder's skips.
        ImageError: In forward, if the image is smaller than the encoder takes.

    Example:
        >>> model = UNet("resnet18", classes=3)
        >>> model(torch.zeros(1, 3, 65, 47)).shape
        torch.Size([1, 3, 65, 47])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: str = "resnet18",
        *,
        classes: int,
        encoder_weights: str | None = None,
        encoder_depth: int = 5,
        in_channels: int = 3,
        decoder_channels: Sequence[int] | None = None,
        upsample: UpsampleOptions | Mapping[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.encoder_name, self.encoder_depth, self.in_channels = encoder, encoder_depth, in_channels
        default_mean, default_std = normalization(encoder, encoder_weights)
        self.register_buffer("mean", self._per_channel("mean", mean, default_mean))
        self.register_buffer("std", self._per_channel("std", std, default_std))
        self.encoder = build_encoder(encoder, depth=encoder_depth, in_channels=in_channels, weights=encoder_weights)
        geometry = encoder_geometry(self.encoder, encoder, depth=encoder_depth, in_channels=in_channels)
        self.min_size, self.known_sizes = geometry.min_size, geometry.known_sizes
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad_(name not in geometry.unused)
        stages = len(geometry.strides) - 1
        self.decoder = UNetDecoder(
            geometry.channels,
            DECODER_CHANNELS[-stages:] if decoder_channels is None else decoder_channels,
            encoder_strides=geometry.strides,
            rounding=geometry.rounding,
            upsample=upsample,
            image_channels=0,  # the geometry has marked the image as no skip already
        )
        self.head = nn.Conv2d(self.decoder.out_channels, classes, kernel_size=3, padding=1)
        initialize_head(self.head)

    def _per_channel(self, name: str, values: Sequence[float] | None, default: Sequence[float]) -> Tensor:
        if values is None:
            # repeated for images with more channels than the published weights saw
            values = [default[i % len(default)] for i in range(self.in_channels)]
        if len(values) != self.in_channels:
            raise EncoderError(f"{name} has {len(values)} values; the image has in_channels={self.in_channels}.")
        return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)

    def load_encoder_weights(self, weights: str) -> None:
        """Put pretrained weights into the encoder: a name such as "imagenet", or the path of a local file."""
        load_encoder_weights(
            self.encoder, self.encoder_name, weights, depth=self.encoder_depth, in_channels=self.in_channels
        )

    def normalize(self, image: Tensor) -> Tensor:
        """Bring an image to the scale that the encoder expects.

        Args:
            image: (N, in_channels, H, W), uint8 in 0..255 or floating point in [0, 1].

        Returns:
            (N, in_channels, H, W) in the parameters' dtype, about zero mean and unit variance.
        """
        if not image.is_floating_point():
            image = image.to(self.mean.dtype) / 255
        return (image - self.mean) / self.std

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image.

        Args:
            image: (N, in_channels, H, W), uint8 in 0..255 or floating point in [0, 1].

        Returns:
            (N, classes, H, W).
        """
        height, width = image.shape[-2:]
        if not torch.compiler.is_exporting() and min(height, width) < self.min_size:
            raise ImageError(
                f"an image of {width}x{height} pixels is too small for encoder {self.encoder_name!r}, which takes "
                f"{self.min_size}x{self.min_size} and more. Use larger images, or a smaller encoder_depth."
            )
        features = self._encode(self.normalize(image))  # (N, C_i, ~H / stride_i, ~W / stride_i), full size first
        decoded = self.decoder(features, size=(height, width))  # (N, decoder_channels[-1], H, W)
        return self.head(decoded)  # type: ignore[no-any-return]  # torch types a module's call as Any

    def _encode(self, image: Tensor) -> list[Tensor]:
        if not self.known_sizes:
            return self.encoder(image)  # type: ignore[no-any-return]  # torch types a module's call as Any
        try:
            return self.encoder(image)  # type: ignore[no-any-return]  # torch types a module's call as Any
        except (AssertionError, RuntimeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            height, width = image.shape[-2:]
            raise ImageError(
                f"encoder {self.encoder_name!r} doesn't take an image of {width}x{height} pixels; of the square sizes "
                f"tried it takes {', '.join(map(str, self.known_sizes))}. Use one of them, or another encoder."
            ) from error
