"""The UNet++ decoder on feature maps of every kind of encoder, without an encoder."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from unetseg.errors import AlignmentError, OptionError
from unetseg.geometry import skip_sizes
from unetseg.nn import UNetDecoder, UNetPlusPlusDecoder


def feature_maps(channels: Sequence[int], height: int, width: int, *, rounding: str = "up") -> list[Tensor]:
    """Random maps as an encoder gives them that rounds up or down at every stride."""
    up = rounding == "up"
    strides = [2**i for i in range(len(channels))]
    return [
        torch.randn(2, c, -(-height // s) if up else height // s, -(-width // s) if up else width // s)
        for c, s in zip(channels, strides, strict=True)
    ]


@pytest.mark.parametrize("rounding", ["up", "down"])
@pytest.mark.parametrize("size", [(33, 47), (37, 64), (63, 35), (40, 48)])
@pytest.mark.parametrize("channels", [(3, 8, 8, 8), (5, 8, 8, 8)])
def test_the_result_has_the_images_size(rounding: str, size: tuple[int, int], channels: tuple[int, ...]) -> None:
    for known in (rounding, "any"):
        decoder = UNetPlusPlusDecoder(channels, (8, 6, 4), rounding=known)
        assert decoder(feature_maps(channels, *size, rounding=rounding)).shape == (2, 4, *size)


@pytest.mark.parametrize(("height", "deep"), [(97, 24), (97, 25), (127, 31), (127, 32), (126, 31), (99, 24), (100, 25)])
def test_a_map_without_content_has_no_grid(height: int, deep: int) -> None:
    """A stem of stride 4: its dummy at stride 2 is ignored, whatever its size."""
    decoder = UNetPlusPlusDecoder((3, 0, 8), (6, 4))
    maps = [torch.randn(1, 3, height, 97), torch.empty(1, 0, 48, 48), torch.randn(1, 8, deep, 25)]
    assert decoder(maps).shape == (1, 4, height, 97)


@pytest.mark.parametrize(
    ("channels", "nodes"),
    [
        ((5, 8, 8, 8, 8), [1, 2, 3, 4]),
        ((3, 8, 8, 8, 8), [1, 2, 3, 1]),  # the image is no skip
        ((3, 0, 8, 8, 8), [1, 2, 1, 1]),
        ((5, 0, 8, 8, 8), [1, 2, 1, 1]),
        ((3, 8), [1]),
    ],
)
def test_each_level_has_a_node_more_as_long_as_there_are_skips(channels: tuple[int, ...], nodes: list[int]) -> None:
    decoder = UNetPlusPlusDecoder(channels, (10, 8, 6, 4)[: len(channels) - 1])
    assert [len(row) for row in decoder.rows] == nodes
    assert decoder(feature_maps(channels, 33, 47)).shape == (2, decoder.out_channels, 33, 47)


def test_each_node_sees_all_its_predecessors() -> None:
    skips, channels = (5, 7, 11), (10, 6, 4)  # full resolution first; deepest first
    decoder = UNetPlusPlusDecoder((*skips, 13), channels)
    for level, row in enumerate(decoder.rows):
        below = 13 if level == 0 else None
        for j, node in enumerate(row):
            deeper = below or (skips[3 - level] if j == 0 else channels[level - 1])
            assert node.upsample.in_channels == deeper
            assert node.skip_conv.in_channels == skips[2 - level] + j * channels[level]
            assert node.conv2[0].out_channels == channels[level]


@pytest.mark.parametrize("channels", [(5, 8, 8, 8), (3, 8, 8, 8), (3, 0, 8, 8)])
@pytest.mark.parametrize(
    "block", [{}, {"residual": True, "attention": "gate"}, {"norm": "layer", "activation": "gelu"}]
)
def test_every_map_and_every_parameter_gets_a_gradient(channels: tuple[int, ...], block: dict) -> None:
    torch.manual_seed(0)
    decoder = UNetPlusPlusDecoder(channels, (8, 6, 4), block=block)
    maps = [feature.requires_grad_() for feature in feature_maps(channels, 33, 47)]
    (decoder(maps) * torch.randn(33, 47)).sum().backward()
    used = [feature for feature, c in zip(maps, channels, strict=True) if c not in (0, 3)]
    assert all(feature.grad.abs().sum() > 0 for feature in used)
    assert [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("channels", [(5, 8, 8, 8), (3, 0, 8, 8)])
@pytest.mark.parametrize("norm", ["group", "instance", "layer", "none"])
def test_a_single_image_of_one_pixel_trains(channels: tuple[int, ...], norm: str) -> None:
    decoder = UNetPlusPlusDecoder(channels, (8, 6, 4), block={"norm": norm, "attention": "scse"})
    result = decoder([feature[:1] for feature in feature_maps(channels, 1, 1)])
    assert result.shape == (1, 4, 1, 1)
    result.sum().backward()
    assert all(p.grad.isfinite().all() for p in decoder.parameters())


def test_the_grid_is_computed_as_the_paper_draws_it() -> None:
    decoder = UNetPlusPlusDecoder((5, 8, 7), (6, 4))
    (x10,), (x01, x02) = decoder.rows
    skip0, skip1, deep = feature_maps((5, 8, 7), 17, 13)
    middle = x10(deep, skip1)
    first = x01(skip1, skip0)
    assert torch.equal(decoder([skip0, skip1, deep]), x02(middle, torch.cat([skip0, first], dim=1)))


@pytest.mark.parametrize(("size", "rounding"), [((33, 47), "up"), ((33, 47), "down"), ((40, 48), "up")])
@pytest.mark.parametrize("channels", [(3, 8, 8, 8), (3, 0, 8, 8)])
def test_it_may_end_at_stride_2(size: tuple[int, int], rounding: str, channels: tuple[int, ...]) -> None:
    decoder = UNetPlusPlusDecoder(channels, (8, 6), output_stride=2)
    maps = feature_maps(channels, *size, rounding=rounding)
    assert decoder.stage_strides == (4, 2)
    result = decoder(maps)
    if channels[1]:
        assert result.shape == (2, 6, *maps[1].shape[-2:])
    # without a skip there is no grid: a head of stride 2 has to reach the image
    assert all(side in skip_sizes(n, 2) for n, side in zip(result.shape[-2:], size, strict=True))


@pytest.mark.parametrize("channels", [(3, 8, 8, 8), (5, 8, 8, 8)])
def test_stages_are_what_it_says_of_them(channels: tuple[int, ...]) -> None:
    decoder = UNetPlusPlusDecoder(channels, (8, 6, 4))
    maps = feature_maps(channels, 33, 47)
    stages = decoder.forward_stages(maps)
    assert (decoder.stage_channels, decoder.stage_strides) == ((8, 6, 4), (4, 2, 1))
    assert [tuple(x.shape[1:]) for x in stages] == [
        (c, -(-33 // s), -(-47 // s)) for c, s in zip(decoder.stage_channels, decoder.stage_strides, strict=True)
    ]
    assert torch.equal(stages[-1], decoder(maps))


def test_with_a_single_stage_it_is_the_unet_decoder() -> None:
    for channels in ((5, 8), (3, 8)):
        nested, plain = UNetPlusPlusDecoder(channels, (4,)), UNetDecoder(channels, (4,))
        state = {name.replace("rows.0.0", "blocks.0"): value for name, value in nested.state_dict().items()}
        plain.load_state_dict(state)
        maps = feature_maps(channels, 17, 13)
        assert torch.equal(nested(maps), plain(maps))


def test_a_levels_options_hold_for_all_its_nodes() -> None:
    upsample, block = {"kernel_size": [4, 2, 6]}, {"norm": ["batch", "group", "none"], "dropout": [0.0, 0.1, 0.2]}
    decoder = UNetPlusPlusDecoder((5, 8, 8, 8), (8, 6, 4), rounding="up", upsample=upsample, block=block)
    kernels = [{node.upsample.kernel_size for node in row} for row in decoder.rows]
    assert kernels == [{(4, 4)}, {(2, 2)}, {(6, 6)}]
    assert [{node.dropout.p for node in row} for row in decoder.rows] == [{0.0}, {0.1}, {0.2}]


def test_mistakes_are_explained() -> None:
    for channels in ((8, 6), (8, 6, 4, 2)):
        with pytest.raises(AlignmentError, match=rf"{len(channels)} decoder_channels .* for 3 stages"):
            UNetPlusPlusDecoder((3, 8, 8, 8), channels)
    with pytest.raises(OptionError, match=r"block: unknown option norms; the options are norm"):
        UNetPlusPlusDecoder((3, 8, 8, 8), (8, 6, 4), block={"norms": "group"})
    with pytest.raises(AlignmentError, match=r"each must divide the next, from the output's on"):
        UNetPlusPlusDecoder((3, 8, 8, 8), (8, 6), output_stride=3)
    decoder = UNetPlusPlusDecoder((3, 8, 8), (8, 4))
    with pytest.raises(AlignmentError, match=r"got feature maps with \(3, 8\) channels.*built for \(3, 8, 8\)"):
        decoder(feature_maps((3, 8), 33, 47))
    maps = feature_maps((3, 8, 8), 33, 47)
    with pytest.raises(AlignmentError, match=r"decoder stage 0 \(stride 4 to 2\), height: from 9, .* size is 33"):
        decoder([maps[0], torch.randn(2, 8, 33, 24), maps[2]])
    with pytest.raises(AlignmentError, match=r"size is \(35, 47\), but the skip at full resolution is \(33, 47\)"):
        UNetPlusPlusDecoder((5, 8), (4,))(feature_maps((5, 8), 33, 47), size=(35, 47))


def test_it_warns_once_for_all_its_nodes() -> None:
    with pytest.warns(UserWarning, match=r"decoder stages \[0, 1, 2\].*checkerboard; upsample.kernel_size 4") as caught:
        UNetPlusPlusDecoder((5, 8, 8, 8), (8, 6, 4), upsample={"kernel_size": 3})
    assert len(caught) == 1
    assert caught[0].filename == __file__
