"""Decoders: any list of feature maps in, a map of the image's size out."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from unetseg.config import BlockOptions, UpsampleOptions
from unetseg.geometry import Rounding
from unetseg.nn.blocks import DecoderBlock
from unetseg.nn.stages import check_decoder_channels, check_reach, plan_stages, stage_options
from unetseg.nn.upsample.guards import warn_of_artifacts

__all__ = ["Decoder", "UNetDecoder"]


class Decoder(nn.Module):
    """What decoders share: the stages that they go through, and the checks before, during and after.

    A subclass builds its blocks from the stages' options, and decodes; :class:`unetseg.nn.UNetDecoder` describes the
    arguments.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        decoder_channels: Sequence[int],
        *,
        encoder_strides: Sequence[int] | None = None,
        rounding: Rounding | Sequence[Rounding] = "any",
        upsample: UpsampleOptions | Mapping[str, Any] | None = None,
        block: BlockOptions | Mapping[str, Any] | None = None,
        image_channels: int = 3,
        output_stride: int = 1,
    ) -> None:
        super().__init__()
        self.stages = plan_stages(
            encoder_channels, encoder_strides, image_channels=image_channels, output_stride=output_stride
        )
        check_decoder_channels(decoder_channels, self.stages.strides)
        self.out_channels = decoder_channels[-1]
        self.stage_channels = tuple(decoder_channels)
        self.stage_strides = self.stages.strides[1:]
        blocks = self._build(stage_options(upsample, block, rounding, self.stages.strides))
        upsampling = [block.upsample for block in blocks]
        check_reach(upsampling)
        warn_of_artifacts(upsampling)

    def _build(self, options: Sequence[dict[str, Any]]) -> list[DecoderBlock]:
        """Make all blocks, and return one of each stage, deepest first."""
        raise TypeError(f"{type(self).__name__} is no decoder by itself; use a subclass such as UNetDecoder.")

    def _decode(self, features: Sequence[Tensor], image_size: Sequence[int]) -> list[Tensor]:
        """The map after each stage, deepest first."""
        raise TypeError(f"{type(self).__name__} is no decoder by itself; use a subclass such as UNetDecoder.")

    def forward(self, features: Sequence[Tensor], size: Sequence[int] | None = None) -> Tensor:
        """Decode the feature maps.

        Args:
            features: Maps of (N, encoder_channels[i], H_i, W_i), full resolution first.
            size: (height, width) of the image; that of a first map at stride 1 if None, otherwise the first
                map's times its stride.

        Returns:
            (N, decoder_channels[-1], H, W), divided by the output stride.
        """
        return self.forward_stages(features, size)[-1]

    def forward_stages(self, features: Sequence[Tensor], size: Sequence[int] | None = None) -> list[Tensor]:
        """As ``forward``, with the maps after every stage, (N, stage_channels[i], H_i, W_i), deepest first."""
        self.stages.check_features(features)
        image_size = self.stages.image_size(features, size)
        results = self._decode(features, image_size)
        self.stages.check_size(results[-1], image_size)
        return results


class UNetDecoder(Decoder):
    """Decoder blocks from the deepest feature map to full resolution, each aligned to its skip.

    Args:
        encoder_channels: Channels of the feature maps, full resolution first. 0 marks a map without content,
            as encoders with a stem of stride 4 give at stride 2: it is no skip, and its size is ignored.
        decoder_channels: Channels after each stage, deepest first.
        encoder_strides: Stride of each feature map against the image; None means 1, 2, 4, 8, ...
            Each divides the next. Where the first isn't 1, a last stage without skip goes to full resolution.
        rounding: How the encoder rounds at each stage, deepest first, or one value for all: "up", "down" or
            "any", which is right where it isn't known.
        upsample: Options of the upsampling, an ``UpsampleOptions`` or a mapping of its fields.
        block: What the stages do besides, a ``BlockOptions`` or a mapping of its fields.
        image_channels: A first feature map at stride 1 with this many channels is the image itself, which is
            no skip (smp's encoders put it there). 0: whatever stands there is a skip.
        output_stride: Stride at which to end; 2 leaves the last doubling to the head.

    Attributes:
        out_channels: Channels of the result.
        stage_channels: Channels after each stage, deepest first.
        stage_strides: Stride of each against the image.

    Shape:
        - features: list of (N, encoder_channels[i], H_i, W_i), full resolution first
        - output: (N, decoder_channels[-1], H, W), H and W the image's divided by the output stride

    Raises:
        AlignmentError: When built, if the options can't reach every skip of an encoder that rounds so. In
            forward, if the features aren't those of such an encoder.
        OptionError: If an option has a value that it doesn't take.

    Warns:
        UserWarning: Once, if kernels overlap unevenly or leave pixels that hold the bias alone.

    Source: Ronneberger et al., "U-Net", arXiv:1505.04597.

    Example:
        >>> import torch
        >>> decoder = UNetDecoder((3, 16, 24, 32), (16, 12, 8))
        >>> maps = [torch.zeros(1, c, h, w) for c, h, w in [(3, 33, 47), (16, 17, 24), (24, 9, 12), (32, 5, 6)]]
        >>> decoder(maps).shape
        torch.Size([1, 8, 33, 47])
    """

    def _build(self, options: Sequence[dict[str, Any]]) -> list[DecoderBlock]:
        inputs = [self.stages.encoder_channels[-1], *self.stage_channels]
        skips = self.stages.skip_channels
        blocks = [DecoderBlock(inputs[i], skips[i], self.stage_channels[i], **options[i]) for i in range(len(skips))]
        self.blocks = nn.ModuleList(blocks)
        return blocks

    def _decode(self, features: Sequence[Tensor], image_size: Sequence[int]) -> list[Tensor]:
        x, results = features[-1], []
        for stage, block in enumerate(self.blocks):
            wanted = self.stages.size_after(stage, x.shape[-2:], features, image_size)
            x = block(x, self.stages.skip(stage, features), size=wanted)
            results.append(x)  # (N, decoder_channels[stage], *wanted)
        return results
