"""Which sizes a decoder's stages go between: the part of every decoder that knows the encoder's feature maps."""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from unetseg.config import BlockOptions, UpsampleOptions, per_stage
from unetseg.errors import AlignmentError
from unetseg.geometry import Rounding, ceil_div, reachable_sizes, skip_sizes
from unetseg.nn.upsample.alignment import Aligned, IntOrPair

__all__ = ["Stages", "check_decoder_channels", "check_reach", "plan_stages", "stage_options"]


@dataclasses.dataclass(frozen=True)
class Stages:
    """A decoder's stages, deepest first.

    Attributes:
        encoder_channels: Channels of the feature maps, full resolution first, as they were given.
        strides: Stride against the image of the deepest map, and after each stage: one more than there are stages.
        skip_channels: Channels of each stage's skip; 0 where it has none.
        skip_index: Which feature map that is; meaningless where there is none.
        first_stride: Stride of the first feature map.
    """

    encoder_channels: tuple[int, ...]
    strides: tuple[int, ...]
    skip_channels: tuple[int, ...]
    skip_index: tuple[int, ...]
    first_stride: int

    def __len__(self) -> int:
        return len(self.skip_channels)

    @property
    def ratios(self) -> list[int]:
        """How many times larger the map is after each stage."""
        return [high // low for high, low in pairwise(self.strides)]

    def check_features(self, features: Sequence[Tensor]) -> None:
        """Compare the channels of feature maps with those that the decoder was built for.

        Raises:
            AlignmentError: If they differ where a map is used.
        """
        got = tuple(feature.shape[1] for feature in features)
        used = {len(self.encoder_channels) - 1} | {
            i for i, channels in zip(self.skip_index, self.skip_channels, strict=True) if channels
        }
        if len(got) != len(self.encoder_channels) or any(got[i] != self.encoder_channels[i] for i in used):
            raise AlignmentError(
                f"decoder: got feature maps with {got} channels, full resolution first; it was built for "
                f"{self.encoder_channels}."
            )

    def image_size(self, features: Sequence[Tensor], size: Sequence[int] | None) -> list[int]:
        """(height, width) of the image: as it was given, or the first map's times its stride."""
        if size is not None:
            return list(size[-2:])
        return [side * self.first_stride for side in features[0].shape[-2:]]

    def check_size(self, result: Tensor, image_size: Sequence[int]) -> None:
        """Compare the size of the decoder's result with the image's.

        Raises:
            AlignmentError: If a skip at full resolution had another size.
        """
        if self.strides[-1] == 1 and list(result.shape[-2:]) != list(image_size):
            raise AlignmentError(
                f"decoder: size is {tuple(image_size)}, but the skip at full resolution is {tuple(result.shape[-2:])}."
            )

    def skip(self, stage: int, features: Sequence[Tensor]) -> Tensor | None:
        """The skip of a stage, if it has one."""
        return features[self.skip_index[stage]] if self.skip_channels[stage] else None

    def size_after(
        self, stage: int, sides: Sequence[int], features: Sequence[Tensor], image_size: Sequence[int]
    ) -> list[Any]:
        """The size after a stage that goes up from ``sides``: the skip's, or one on the way to the next that is known.

        A map without content has no grid: going on from it, ceil(next / ratio) is aimed at, 25 -> 49 -> 97. Where an
        encoder rounds down over both stages, 31 -> 127, the ceiling (64) would be one too far from 31, so it ends
        at stride * side + stride - 1.
        """
        target = next((i for i in range(stage, len(self)) if self.skip_channels[i]), None)
        if target is None:
            wanted, remaining = image_size, self.strides[stage + 1]
        else:
            wanted = features[self.skip_index[target]].shape[-2:]
            remaining = self.strides[stage + 1] // self.strides[target + 1]
        if remaining == 1:
            return list(wanted)
        stride = self.ratios[stage]
        # sym_min: sizes may be symbols of an exported graph
        return [
            torch.sym_min(ceil_div(side, remaining), stride * n + stride - 1)
            for n, side in zip(sides, wanted, strict=True)
        ]


def plan_stages(
    encoder_channels: Sequence[int],
    encoder_strides: Sequence[int] | None = None,
    *,
    image_channels: int = 0,
    output_stride: int = 1,
) -> Stages:
    """Plan the stages from the deepest feature map up.

    Args:
        encoder_channels: Channels of the feature maps, full resolution first; 0 marks a map without content.
        encoder_strides: Stride of each against the image; None means 1, 2, 4, 8, ...
        image_channels: A first map at stride 1 with this many channels is the image itself, which is no skip.
        output_stride: Stride at which the decoder ends.

    Raises:
        AlignmentError: If the strides don't fit the maps or one another.

    Example:
        >>> plan_stages((3, 16, 24, 32), image_channels=3)
        Stages(encoder_channels=(3, 16, 24, 32), strides=(8, 4, 2, 1), skip_channels=(24, 16, 0), \
skip_index=(2, 1, 0), first_stride=1)
    """
    channels, strides = list(encoder_channels), list(encoder_strides or (2**i for i in range(len(encoder_channels))))
    if len(strides) != len(channels):
        raise AlignmentError(
            f"decoder: {len(channels)} encoder_channels {channels} and {len(strides)} encoder_strides {strides}; "
            f"give one stride a feature map."
        )
    if strides[0] == 1 and channels[0] == image_channels:
        channels[0] = 0
    indices = list(range(len(channels)))
    if output_stride < 1:
        raise AlignmentError(f"decoder: output_stride is {output_stride}; it is 1 or more.")
    if output_stride not in strides and (strides[0] % output_stride == 0):
        strides, channels, indices = [output_stride, *strides], [0, *channels], [0, *indices]
    if output_stride not in strides[:-1] or any(low < 1 or high % low for low, high in pairwise(strides)):
        raise AlignmentError(
            f"decoder: encoder_strides are {strides} and the output's is {output_stride}; each must divide the next, "
            f"from the output's on."
        )
    first = strides.index(output_stride)
    return Stages(
        encoder_channels=tuple(encoder_channels),
        strides=tuple(strides[first:][::-1]),
        skip_channels=tuple(channels[first:-1][::-1]),
        skip_index=tuple(indices[first:-1][::-1]),
        first_stride=(encoder_strides or [1])[0],
    )


def check_decoder_channels(decoder_channels: Sequence[int], strides: Sequence[int]) -> None:
    """Refuse a list that isn't as long as there are stages.

    Raises:
        AlignmentError: It names both numbers.
    """
    stages = len(strides) - 1
    if len(decoder_channels) != stages:
        raise AlignmentError(
            f"decoder: {len(decoder_channels)} decoder_channels {list(decoder_channels)} for {stages} stages "
            f"(strides {list(strides)}); give {stages}, deepest first."
        )


def stage_options(
    upsample: UpsampleOptions | Mapping[str, Any] | None,
    block: BlockOptions | Mapping[str, Any] | None,
    rounding: Rounding | Sequence[Rounding],
    strides: Sequence[int],
) -> list[dict[str, Any]]:
    """Keyword arguments of each stage's ``DecoderBlock``, deepest first.

    Args:
        upsample: One value for all stages or one a stage; so are the two that follow.
        block: What the stages do besides upsampling.
        rounding: How the encoder rounds.
        strides: Stride against the image of the deepest map, and after each stage.

    Raises:
        OptionError: If an option doesn't exist or has another number of values.
        AlignmentError: If a stride is given that isn't the encoder's ratio.
    """
    upsample, block = UpsampleOptions.of(upsample), BlockOptions.of(block)
    ratios = [high // low for high, low in pairwise(strides)]
    roundings: list[Rounding] = per_stage("rounding", rounding, len(ratios))
    options = []
    for i, ratio in enumerate(ratios):
        chosen = upsample.stage(i, len(ratios))
        stride: IntOrPair | None = chosen["stride"]
        if stride not in (None, ratio, (ratio, ratio)):
            raise AlignmentError(
                f"decoder stage {i}: upsample.stride is {stride}; the encoder's ratio there is {ratio}. Leave the "
                f"stride away: it follows the encoder ({', '.join(map(str, ratios))}, deepest first)."
            )
        label = f"decoder stage {i} (stride {strides[i]} to {strides[i + 1]})"
        chosen |= {"stride": ratio, "rounding": roundings[i], "label": label}
        options.append(chosen | block.stage(i, len(ratios)))
    return options


def check_reach(layers: Sequence[Aligned]) -> None:
    """Say at once what an odd image would say later: a padding given by hand may not reach every skip.

    Raises:
        AlignmentError: It names the stage and the sizes that are out of reach.
    """
    for layer in layers:
        for k, s, p, d in layer.axes:
            least, greatest = reachable_sizes(_PROBE, k, s, p, d)
            if missed := [size for size in skip_sizes(_PROBE, s, layer.rounding) if not least <= size <= greatest]:
                raise AlignmentError(
                    f"{layer.label}: from {_PROBE}, kernel {k} stride {s} padding {p} dilation {d} reaches "
                    f"{least}..{greatest}; an encoder that rounds {layer.rounding!r} has skips of {missed} too. "
                    f'Set upsample.padding to "auto".'
                )


_PROBE = 8  # a low-resolution side; what holds there holds for all
