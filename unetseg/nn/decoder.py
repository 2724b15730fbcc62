"""The UNet decoder: any list of feature maps in, a map of the image's size out."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from unetseg.config import UpsampleOptions, per_stage
from unetseg.errors import AlignmentError
from unetseg.geometry import Rounding, bias_only_rows, leaves_holes, plan_padding, reachable_sizes, skip_sizes
from unetseg.nn.blocks import DecoderBlock
from unetseg.nn.upsample import AlignedConvTranspose2d, IntOrPair

__all__ = ["UNetDecoder"]


class UNetDecoder(nn.Module):
    """Decoder blocks from the deepest feature map to full resolution, each aligned to its skip.

    Args:
        encoder_channels: Channels of the feature maps, full resolution first. 0 marks a map without content,
            as encoders with a stem of stride 4 give at stride 2: it is no skip, and its size is ignored.
        decoder_channels: Channels after each stage, deepest first.
        encoder_strides: Stride of each feature map against the image; None means 1, 2, 4, 8, ...
            Each divides the next. Where the first isn't 1, a last stage without skip goes to full resolution.
        rounding: How the encoder rounds at each stage, deepest first, or one value for all: "up", "down" or
            "any", which is right where it isn't known.
        upsample: Options of the transposed convolutions, an ``UpsampleOptions`` or a mapping of its fields.
        image_channels: A first feature map at stride 1 with this many channels is the image itself, which is
            no skip (smp's encoders put it there). 0: whatever stands there is a skip.

    Shape:
        - features: list of (N, encoder_channels[i], H_i, W_i), full resolution first
        - output: (N, decoder_channels[-1], H, W)

    Raises:
        AlignmentError: When built, if the options can't reach every skip of an encoder that rounds so. In
            forward, if the features aren't those of such an encoder.

    Warns:
        UserWarning: Once, if the kernel leaves pixels that hold the bias alone; it names one that doesn't.

    Example:
        >>> decoder = UNetDecoder((3, 16, 24, 32), (16, 12, 8))
        >>> maps = [torch.zeros(1, c, h, w) for c, h, w in [(3, 33, 47), (16, 17, 24), (24, 9, 12), (32, 5, 6)]]
        >>> decoder(maps).shape
        torch.Size([1, 8, 33, 47])
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        decoder_channels: Sequence[int],
        *,
        encoder_strides: Sequence[int] | None = None,
        rounding: Rounding | Sequence[Rounding] = "any",
        upsample: UpsampleOptions | Mapping[str, Any] | None = None,
        image_channels: int = 3,
    ) -> None:
        super().__init__()
        strides = list(encoder_strides or (2**i for i in range(len(encoder_channels))))
        channels = list(encoder_channels)
        if len(strides) != len(channels):
            raise AlignmentError(
                f"decoder: {len(channels)} encoder_channels {channels} and {len(strides)} encoder_strides {strides}; "
                f"give one stride a feature map."
            )
        self.encoder_channels = tuple(channels)
        if strides[0] > 1:
            strides, channels = [1, *strides], [0, *channels]
        elif channels[0] == image_channels:
            channels[0] = 0
        if any(low < 1 or high % low for low, high in pairwise(strides)):
            raise AlignmentError(f"decoder: encoder_strides are {strides}; each must divide the next, from 1 on.")
        stages = len(strides) - 1
        if len(decoder_channels) != stages:
            raise AlignmentError(
                f"decoder: {len(decoder_channels)} decoder_channels {list(decoder_channels)} for {stages} stages "
                f"(encoder strides {strides}); give {stages}, deepest first."
            )
        self.strides = tuple(strides[::-1])  # deepest first, as all that follows
        self.skip_channels = tuple(channels[-2::-1])
        self.out_channels = decoder_channels[-1]
        ratios = [high // low for high, low in pairwise(self.strides)]
        options = _stage_options(UpsampleOptions.of(upsample), ratios)
        roundings: list[Rounding] = per_stage("rounding", rounding, stages)
        inputs = [channels[-1], *decoder_channels]
        blocks = [
            DecoderBlock(
                inputs[i],
                self.skip_channels[i],
                decoder_channels[i],
                **options[i],
                rounding=roundings[i],
                label=f"decoder stage {i} (stride {self.strides[i]} to {self.strides[i + 1]})",
            )
            for i in range(stages)
        ]
        self.blocks = nn.ModuleList(blocks)
        _check_reach([block.upsample for block in blocks])
        _warn_of_bias_only_pixels([block.upsample for block in blocks])

    def forward(self, features: Sequence[Tensor], size: Sequence[int] | None = None) -> Tensor:
        """Decode the feature maps.

        Args:
            features: Maps of (N, encoder_channels[i], H_i, W_i), full resolution first.
            size: (height, width) of the result; that of a first map at stride 1 if None, otherwise the first
                map's times its stride.

        Returns:
            (N, decoder_channels[-1], *size).
        """
        got = tuple(feature.shape[1] for feature in features)
        if got != self.encoder_channels and not self._differ_only_where_unused(got):
            raise AlignmentError(
                f"decoder: got feature maps with {got} channels, full resolution first; it was built for "
                f"{self.encoder_channels}."
            )
        added = len(self.strides) - len(features)  # 1 where the first map isn't at full resolution
        if size is None:
            size = [side * self.strides[-1 - added] for side in features[0].shape[-2:]]
        skips = [*list(features[-2::-1]), *[features[0]] * added]
        x = features[-1]
        for stage, block in enumerate(self.blocks):
            if self.skip_channels[stage]:
                x = block(x, skips[stage])
            else:
                x = block(x, size=self._size_without_skip(stage, x.shape[-2:], skips, size))
            # (N, decoder_channels[stage], H, W) of the next shallower map
        if tuple(x.shape[-2:]) != tuple(size[-2:]):
            raise AlignmentError(
                f"decoder: size is {tuple(size)}, but the skip at full resolution is {tuple(x.shape[-2:])}."
            )
        return x

    def _differ_only_where_unused(self, got: tuple[int, ...]) -> bool:
        used = [bool(c) for c in (*self.skip_channels[::-1], self.encoder_channels[-1])][-len(got) :]
        return len(got) == len(self.encoder_channels) and all(
            a == b or not use for a, b, use in zip(got, self.encoder_channels, used, strict=True)
        )

    def _size_without_skip(
        self, stage: int, sides: Sequence[int], skips: Sequence[Tensor], size: Sequence[int]
    ) -> list[int]:
        """Where there is no skip there is no grid: aim at the next map that has one, within reach.

        That is ceil(next / ratio): 25 -> 49 -> 97. Where an encoder rounds down over both stages, 31 -> 127,
        the ceiling (64) would be one too far from 31, so it ends at stride * side + stride - 1.
        """
        last = len(self.blocks) - 1
        target = next((i for i in range(stage, last) if self.skip_channels[i]), last)
        wanted = skips[target].shape[-2:] if self.skip_channels[target] else size[-2:]
        remaining = self.strides[stage + 1] // self.strides[target + 1]
        stride = self.strides[stage] // self.strides[stage + 1]
        if remaining == 1:
            return list(wanted)
        # sym_min: sizes may be symbols of an exported graph
        return [
            torch.sym_min(-(-side // remaining), stride * n + stride - 1) for n, side in zip(sides, wanted, strict=True)
        ]


def _stage_options(upsample: UpsampleOptions, ratios: Sequence[int]) -> list[dict[str, Any]]:
    """Keyword arguments of each stage's transposed convolution."""
    stages = len(ratios)
    options = []
    for i, ratio in enumerate(ratios):
        stride: IntOrPair | None = upsample.stage("stride", i, stages)
        if stride not in (None, ratio, (ratio, ratio)):
            raise AlignmentError(
                f"decoder stage {i}: upsample.stride is {stride}; the encoder's ratio there is {ratio}. Leave the "
                f"stride away: it follows the encoder ({', '.join(map(str, ratios))}, deepest first)."
            )
        names = ("kernel_size", "padding", "dilation", "groups", "bias")
        options.append({"stride": ratio} | {name: upsample.stage(name, i, stages) for name in names})
    return options


def _check_reach(layers: Sequence[AlignedConvTranspose2d]) -> None:
    """Say at once what an odd image would say later: a padding given by hand may not reach every skip."""
    for layer in layers:
        for k, s, p, d in layer.axes:
            least, greatest = reachable_sizes(_PROBE, k, s, p, d)
            if missed := [size for size in skip_sizes(_PROBE, s, layer.rounding) if not least <= size <= greatest]:
                raise AlignmentError(
                    f"{layer.label}: from {_PROBE}, kernel {k} stride {s} padding {p} dilation {d} reaches "
                    f"{least}..{greatest}; an encoder that rounds {layer.rounding!r} has skips of {missed} too. "
                    f'Set upsample.padding to "auto".'
                )


def _warn_of_bias_only_pixels(layers: Sequence[AlignedConvTranspose2d]) -> None:
    """Name the stages whose kernel leaves pixels without any input, and settings that don't."""
    holes, rows, kernel = [], [], 1
    for stage, layer in enumerate(layers):
        if any(leaves_holes(k, s, d) for k, s, _, d in layer.axes):
            holes.append(stage)
        elif any(_leaves_bias_only_rows(k, s, p, d, layer.rounding) for k, s, p, d in layer.axes):
            rows.append(stage)
            kernel = max(kernel, *(_filling_kernel(s, layer.rounding) for _, s, _, _ in layer.axes))
    where = "in the last rows or columns at some sizes"
    for stages, place, fix in ((holes, "everywhere", "dilation 1"), (rows, where, f"kernel_size {kernel}")):
        if stages:
            warnings.warn(
                f"the transposed convolutions of decoder stages {stages} (0 is the deepest) leave pixels that hold "
                f"the bias alone, {place}; upsample.{fix} leaves none.",
                stacklevel=4,
            )


def _leaves_bias_only_rows(k: int, s: int, p: int, d: int, rounding: Rounding) -> bool:
    return any(bias_only_rows(_PROBE, size, k, s, p, d) for size in skip_sizes(_PROBE, s, rounding))


def _filling_kernel(s: int, rounding: Rounding) -> int:
    """The least multiple of the stride whose planned padding leaves no such row."""
    return next(
        k for k in count(s, s) if not _leaves_bias_only_rows(k, s, plan_padding(k, s, 1, rounding), 1, rounding)
    )


_PROBE = 8  # a low-resolution side; what holds there holds for all that a kernel doesn't outgrow
