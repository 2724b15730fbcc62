"""The decoder on feature maps of every kind of encoder, without an encoder."""

import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from unetseg.config import UpsampleOptions
from unetseg.errors import AlignmentError, OptionError
from unetseg.nn import DecoderBlock, UNetDecoder


def feature_maps(
    channels: Sequence[int],
    height: int,
    width: int,
    *,
    rounding: str = "up",
    strides: Sequence[int] | None = None,
) -> list[Tensor]:
    """Random maps as an encoder gives them that rounds up or down at every stride."""
    up = rounding == "up"
    strides = strides or [2**i for i in range(len(channels))]
    return [
        torch.randn(2, c, -(-height // s) if up else height // s, -(-width // s) if up else width // s)
        for c, s in zip(channels, strides, strict=True)
    ]


@pytest.mark.parametrize("rounding", ["up", "down"])
@pytest.mark.parametrize("size", [(33, 47), (37, 64), (63, 35), (40, 48)])
@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5])
@pytest.mark.filterwarnings("ignore:decoder stages")
def test_the_result_has_the_images_size(rounding: str, size: tuple[int, int], kernel_size: int) -> None:
    for known in (rounding, "any"):
        decoder = UNetDecoder((3, 8, 8, 8), (8, 6, 4), rounding=known, upsample={"kernel_size": kernel_size})
        assert decoder(feature_maps((3, 8, 8, 8), *size, rounding=rounding)).shape == (2, 4, *size)


@pytest.mark.parametrize(("height", "deep"), [(97, 24), (97, 25), (127, 31), (127, 32), (126, 31), (99, 24), (100, 25)])
def test_a_map_without_content_has_no_grid(height: int, deep: int) -> None:
    """A stem of stride 4: its dummy at stride 2 is ignored, whatever its size."""
    decoder = UNetDecoder((3, 0, 8), (6, 4))
    maps = [torch.randn(1, 3, height, 97), torch.empty(1, 0, 48, 48), torch.randn(1, 8, deep, 25)]
    assert decoder(maps).shape == (1, 4, height, 97)


@pytest.mark.filterwarnings("ignore:decoder stages")
@pytest.mark.parametrize(
    ("strides", "wanted"), [((1, 4, 8), (61, 47)), ((1, 2, 2, 4), (61, 47)), ((1, 3, 6), (61, 47))]
)
def test_stages_may_have_any_ratio(strides: tuple[int, ...], wanted: tuple[int, int]) -> None:
    channels = (3, *[8] * (len(strides) - 1))
    decoder = UNetDecoder(channels, [6] * (len(strides) - 1), encoder_strides=strides)
    assert decoder(feature_maps(channels, *wanted, strides=strides)).shape == (2, 6, *wanted)


def test_maps_may_begin_below_full_resolution() -> None:
    decoder = UNetDecoder((8, 8), (6, 4), encoder_strides=(4, 8), upsample={"kernel_size": [4, 12]})
    maps = feature_maps((8, 8), 61, 47, strides=(4, 8))
    assert decoder(maps, size=(61, 47)).shape == (2, 4, 61, 47)
    assert decoder(maps).shape == (2, 4, 64, 48)  # 4 times the first map


def test_a_map_at_full_resolution_is_a_skip_unless_it_is_the_image() -> None:
    vgg = UNetDecoder((5, 8), (4,))
    image = UNetDecoder((3, 8), (4,))
    as_skip = UNetDecoder((3, 8), (4,), image_channels=0)
    assert [decoder.blocks[0].skip_conv.in_channels for decoder in (vgg, as_skip)] == [5, 3]
    assert image.blocks[0].skip_conv is None
    deep = torch.randn(2, 8, 9, 9)
    first, second = torch.randn(2, 3, 17, 17), torch.randn(2, 3, 17, 17)
    assert torch.equal(image([first, deep]), image([second, deep]))
    assert not torch.equal(as_skip([first, deep]), as_skip([second, deep]))


def test_every_skip_reaches_the_result_and_every_parameter_a_gradient() -> None:
    decoder = UNetDecoder((5, 8, 8, 8), (8, 6, 4))
    maps = [feature.requires_grad_() for feature in feature_maps((5, 8, 8, 8), 33, 47)]
    (decoder(maps) * torch.randn(33, 47)).sum().backward()
    assert all(feature.grad.abs().sum() > 0 for feature in maps)
    assert [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def upsampling(decoder: UNetDecoder) -> list[nn.ConvTranspose2d]:
    return [block.upsample for block in decoder.blocks]


@pytest.mark.filterwarnings("ignore:decoder stages")
@pytest.mark.parametrize(
    ("options", "attribute", "expected"),
    [
        ({"kernel_size": [4, 3, 2]}, "kernel_size", [(4, 4), (3, 3), (2, 2)]),
        ({"kernel_size": [[4, 2], 3, (5, 4)]}, "kernel_size", [(4, 2), (3, 3), (5, 4)]),
        ({"padding": [1, "auto", [1, 1]]}, "padding", [(1, 1), (1, 1), (1, 1)]),
        ({"dilation": [3, 1, 1]}, "dilation", [(3, 3), (1, 1), (1, 1)]),
        ({"groups": [1, 2, 1]}, "groups", [1, 2, 1]),
        ({"bias": [True, False, True]}, "bias", [True, False, True]),
        ({"stride": [2, (2, 2), 2]}, "stride", [(2, 2)] * 3),
    ],
)
@pytest.mark.parametrize("form", [dict, lambda options: UpsampleOptions(**options)])
def test_each_option_reaches_the_real_layer(options: dict, attribute: str, expected: list, form: object) -> None:
    decoder = UNetDecoder((3, 8, 8, 8), (8, 6, 4), rounding="up", upsample=form(options))
    values = [getattr(layer, attribute) for layer in upsampling(decoder)]
    assert [value is not None for value in values] == expected if attribute == "bias" else values == expected
    assert decoder(feature_maps((3, 8, 8, 8), 33, 47)).shape == (2, 4, 33, 47)


def test_kernel_and_groups_change_the_number_of_weights() -> None:
    def weights(**upsample: object) -> int:
        return sum(layer.weight.numel() for layer in upsampling(UNetDecoder((3, 8, 8), (8, 4), upsample=upsample)))

    assert weights(kernel_size=4) == 16 * (8 * 8 + 8 * 4)
    assert weights(kernel_size=4, groups=2) == 16 * (8 * 8 + 8 * 4) // 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"upsample": {"stride": 3}}, r"stage 0: upsample.stride is 3; the encoder's ratio there is 2"),
        (
            {"upsample": {"kernel_size": 1}},
            r"decoder stage 0 \(stride 8 to 4\): kernel 1 is too small for stride 2",
        ),
        ({"upsample": {"kernel_size": 3, "padding": 2}}, r"stage 0 .*from 8, kernel 3 stride 2 padding 2"),
        ({"encoder_strides": (1, 2, 3, 8)}, r"each must divide the next"),
        ({"output_stride": 0}, r"output_stride is 0; it is 1 or more"),
        ({"output_stride": 3}, r"the output's is 3; each must divide the next"),
        ({"encoder_strides": (1, 2)}, r"4 encoder_channels .* and 2 encoder_strides"),
    ],
)
def test_what_cannot_be_reached_is_said_when_it_is_built(arguments: dict, message: str) -> None:
    with pytest.raises(AlignmentError, match=message):
        UNetDecoder((3, 8, 8, 8), (8, 6, 4), **arguments)
    with pytest.raises(AlignmentError, match=r"2 decoder_channels .* for 3 stages"):
        UNetDecoder((3, 8, 8, 8), (8, 6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"upsample": {"kernel_size": [4, 4]}}, r"upsample.kernel_size: 2 values for 3 decoder stages"),
        ({"upsample": {"kernal_size": 4}}, r"unknown option kernal_size; the options are method, kernel_size"),
        ({"upsample": {"method": "conv_transposed"}}, r"method is 'conv_transposed'.*Did you mean 'conv_transpose'\?"),
        ({"upsample": {"init": "bilinea"}}, r"init is 'bilinea'; it can be .*Did you mean 'bilinear'\?"),
        ({"block": {"norm": "bacth"}}, r"norm is 'bacth'; it can be 'batch', .*Did you mean 'batch'\?"),
        ({"rounding": ["up"]}, r"rounding: 1 values for 3 decoder stages"),
    ],
)
def test_options_that_do_not_exist_are_explained(arguments: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        UNetDecoder((3, 8, 8, 8), (8, 6, 4), **arguments)


def test_wrong_feature_maps_are_explained() -> None:
    decoder = UNetDecoder((3, 8, 8), (8, 4))
    with pytest.raises(AlignmentError, match=r"got feature maps with \(3, 8\) channels.*built for \(3, 8, 8\)"):
        decoder(feature_maps((3, 8), 33, 47))
    maps = feature_maps((3, 8, 8), 33, 47)
    with pytest.raises(AlignmentError, match=r"decoder stage 0 \(stride 4 to 2\), height: from 9, .* size is 33"):
        decoder([maps[0], torch.randn(2, 8, 33, 24), maps[2]])
    with pytest.raises(AlignmentError, match=r"size is \(35, 47\), but the skip at full resolution is \(33, 47\)"):
        UNetDecoder((5, 8), (4,))(feature_maps((5, 8), 33, 47), size=(35, 47))


@pytest.mark.parametrize(("size", "expected"), [((33, 47), (17, 24)), ((34, 46), (17, 23))])
def test_it_may_end_at_stride_2(size: tuple[int, int], expected: tuple[int, int]) -> None:
    decoder = UNetDecoder((3, 8, 8), (6,), output_stride=2)
    assert decoder(feature_maps((3, 8, 8), *size), size=size).shape == (2, 6, *expected)
    without_content = UNetDecoder((3, 0, 8), (6,), output_stride=2)
    maps = [torch.randn(2, 3, *size), torch.empty(2, 0, 5, 5), torch.randn(2, 8, 9, 12)]
    assert without_content(maps, size=size).shape == (2, 6, *expected)


def test_the_maps_of_all_stages() -> None:
    decoder = UNetDecoder((3, 8, 8, 8), (8, 6, 4))
    maps = decoder.forward_stages(feature_maps((3, 8, 8, 8), 33, 47))
    assert [tuple(x.shape) for x in maps] == [(2, 8, 9, 12), (2, 6, 17, 24), (2, 4, 33, 47)]
    assert (decoder.stage_channels, decoder.stage_strides) == ((8, 6, 4), (4, 2, 1))


def test_each_stage_may_have_a_method_of_its_own() -> None:
    options = {
        "method": ["bilinear", "pixel_shuffle", "blurred_conv_transpose"],
        "kernel_size": [1, None, 2],
        "init": [None, "bilinear", "icnr"],
    }
    decoder = UNetDecoder((3, 8, 8, 8), (8, 6, 4), upsample=options, block={"norm": ["batch", "group", "none"]})
    names = [type(layer).__name__ for layer in upsampling(decoder)]
    assert names == ["InterpolateConv2d", "PixelShuffleConv2d", "BlurredConvTranspose2d"]
    assert [layer.bias is not None for layer in upsampling(decoder)[2:]] == [True]  # no norm follows
    assert decoder(feature_maps((3, 8, 8, 8), 33, 47)).shape == (2, 4, 33, 47)


def test_a_block_stands_alone() -> None:
    block = DecoderBlock(8, 0, 4, stride=(2, 1), kernel_size=(4, 3))
    assert block(torch.randn(2, 8, 5, 7)).shape == (2, 4, 10, 7)
    assert block(torch.randn(2, 8, 5, 7), size=(9, 7)).shape == (2, 4, 9, 7)


def test_the_layers_need_no_lightning() -> None:
    code = "import unetseg.nn, sys; assert not [m for m in sys.modules if 'lightning' in m or 'segmentation' in m]"
    subprocess.run([sys.executable, "-c", code], check=True)
