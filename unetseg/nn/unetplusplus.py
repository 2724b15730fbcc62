"""The UNet++ decoder: between encoder and decoder, a grid of nodes that each see all their predecessors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unetseg.nn.blocks import DecoderBlock
from unetseg.nn.decoder import Decoder

__all__ = ["UNetPlusPlusDecoder"]


class UNetPlusPlusDecoder(Decoder):
    """Nested decoders of every depth that share their nodes, each upsampling aligned to its skip.

    Node j at a level concatenates the encoder's map of that level and nodes 1 to j - 1 of it, which is its skip, and
    merges that with node j - 1 of the level below, upsampled; it is a :class:`unetseg.nn.DecoderBlock`. The last node
    of each level is what a UNet's stage would be, so ``decoder_channels`` means the same: all nodes of a level have its
    stage's channels.

    Levels without a skip, as full resolution where that map is the image, have their last node only: dense nodes
    there would see nothing that the level below doesn't know, at four times the cost.

    Args:
        encoder_channels: Channels of the feature maps, full resolution first; 0 marks a map without content.
        decoder_channels: Channels of the nodes of each level, deepest first.
        encoder_strides: As in :class:`unetseg.nn.UNetDecoder`.
        rounding: As in :class:`unetseg.nn.UNetDecoder`.
        upsample: As in :class:`unetseg.nn.UNetDecoder`; a stage's options hold for all nodes of its level.
        block: As in :class:`unetseg.nn.UNetDecoder`, likewise.
        image_channels: As in :class:`unetseg.nn.UNetDecoder`.
        output_stride: As in :class:`unetseg.nn.UNetDecoder`.

    Attributes:
        out_channels: Channels of the result.
        stage_channels: Channels of the maps that ``forward_stages`` returns.
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

    Source: Zhou et al., "UNet++", arXiv:1807.10165, equation 1, with one upsampling a node.

    Example:
        >>> decoder = UNetPlusPlusDecoder((3, 16, 24, 32), (16, 12, 8))
        >>> maps = [torch.zeros(1, c, h, w) for c, h, w in [(3, 33, 47), (16, 17, 24), (24, 9, 12), (32, 5, 6)]]
        >>> decoder(maps).shape
        torch.Size([1, 8, 33, 47])
    """

    def _build(self, options: Sequence[dict[str, Any]]) -> list[DecoderBlock]:
        skips = self.stages.skip_channels
        # channels of each level's nodes so far: the encoder's map first; level 0 is the deepest
        nodes = [[self.stages.encoder_channels[-1]], *([channels] if channels else [] for channels in skips)]
        rows: list[list[DecoderBlock]] = []
        for stage, out_channels in enumerate(self.stage_channels):
            # a level sees one node for each that the level below has; without a skip, its last alone
            sources = nodes[stage] if skips[stage] else nodes[stage][-1:]
            row: list[DecoderBlock] = []
            for channels in sources:
                row.append(DecoderBlock(channels, sum(nodes[stage + 1]), out_channels, **options[stage]))
                nodes[stage + 1].append(out_channels)
            rows.append(row)
        self.rows = nn.ModuleList(nn.ModuleList(row) for row in rows)
        return [row[-1] for row in rows]

    def _decode(self, features: Sequence[Tensor], image_size: Sequence[int]) -> list[Tensor]:
        below, results = [features[-1]], []
        for stage, row in enumerate(self.rows):
            skip = self.stages.skip(stage, features)
            nodes = list(row.children())
            wanted = self.stages.size_after(stage, below[0].shape[-2:], features, image_size)
            level = [] if skip is None else [skip]
            for node, source in zip(nodes, below[-len(nodes) :], strict=True):
                joined = torch.cat(level, dim=1) if level else None  # (N, channels so far, *wanted)
                level.append(node(source, joined, size=wanted))  # (N, decoder_channels[stage], *wanted)
            results.append(level[-1])  # the last node of the level
            below = level
        return results
