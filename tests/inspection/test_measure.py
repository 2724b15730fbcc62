"""What is measured is what happens: against a real forward, the relation of sizes, and FLOPs counted by hand."""

from itertools import pairwise

import pytest
import torch

from unetseg.errors import ImageError
from unetseg.inspection import Inspection, inspect_model
from unetseg.inspection.table import render_table
from unetseg.model import UNet
from unetseg.nn.upsample.alignment import Aligned

SIZE = (61, 83)


def real_sizes(model: UNet, size: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """(input, output) size of every upsampling layer by its label, from a forward with numbers."""
    seen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def hook(layer: Aligned, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        seen[layer.label] = (tuple(args[0].shape[-2:]), tuple(output.shape[-2:]))

    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, Aligned)]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, *size), all_logits=True)
    for handle in handles:
        handle.remove()
    return seen


def output_padding(n: int, size: int, k: int, s: int, p: int, d: int) -> int:
    return size - ((n - 1) * s - 2 * p + d * (k - 1) + 1)


def check(model: UNet, size: tuple[int, int]) -> Inspection:
    inspected = inspect_model(model, size)
    heads = [head.upsampling for head in (inspected.head, *inspected.auxiliary_heads) if head.upsampling]
    layers = [*(stage.upsampling for stage in inspected.stages), *heads]
    assert {layer.label: (layer.source, layer.wanted) for layer in layers} == real_sizes(model, size)
    for layer in layers:
        expected = [output_padding(*sides) for sides in zip_axes(layer.source, layer.wanted, layer.axes)]
        assert list(layer.output_padding or ()) == expected
    for one, other in pairwise(inspected.stages):
        assert one.upsampling.wanted == other.upsampling.source
    with torch.no_grad():
        features = model.encoder(torch.zeros(1, 3, *size))
    assert inspected.encoder.sizes == tuple(tuple(feature.shape[-2:]) for feature in features)
    assert inspected.parameters == sum(p.numel() for p in model.parameters())
    rows = [inspected.encoder, *inspected.stages, inspected.head]
    assert inspected.parameters == sum(row.parameters for row in (*rows, *inspected.auxiliary_heads))
    assert inspected.flops == sum(row.flops for row in rows)
    return inspected


def zip_axes(source: tuple[int, int], wanted: tuple[int, int], axes: tuple) -> list[tuple[int, ...]]:
    return [(n, size, *axis) for n, size, axis in zip(source, wanted, axes, strict=bool(axes))]


@pytest.mark.parametrize("encoder", ["resnet18", "vgg11_bn", "densenet121", "mit_b0", "tu-convnext_atto"])
def test_every_kind_of_encoder(encoder: str) -> None:
    inspected = check(UNet(encoder, classes=3, decoder_channels=[16, 16, 8, 8, 8]), SIZE)
    assert inspected.stages[-1].upsampling.wanted == SIZE
    skips = list(inspected.encoder.channels[:-1])[::-1]
    assert [stage.skip_channels for stage in inspected.stages] == skips
    assert [stage.out_channels for stage in inspected.stages] == [16, 16, 8, 8, 8]


@pytest.mark.parametrize("method", ["blurred_conv_transpose", "pixel_shuffle", "nearest"])
@pytest.mark.parametrize("decoder", ["unet", "unetplusplus"])
def test_every_decoder_method_and_head(decoder: str, method: str) -> None:
    model = UNet(
        "resnet18",
        classes=3,
        encoder_depth=4,
        decoder=decoder,
        decoder_channels=[16, 8, 8],
        upsample={"method": method},
        head="upsample",
        deep_supervision=True,
    )
    inspected = check(model, SIZE)
    assert [stage.nodes for stage in inspected.stages] == ([1, 1, 1] if decoder == "unet" else [1, 2, 3])
    assert inspected.upsamplings[-1] == inspected.head.upsampling
    assert [head.name for head in inspected.auxiliary_heads] == ["auxiliary head 0", "auxiliary head 1"]
    assert (inspected.head.upsampling.axes == ()) == (method == "nearest")


def test_an_encoder_that_pads_and_a_decoder_that_adds() -> None:
    inspected = check(UNet("tu-dla34", classes=3, decoder_channels=[16, 16, 8, 8, 8], block={"merge": "add"}), SIZE)
    assert inspected.encoder.padded_to == 32
    assert "takes 1x1 and more, padded by itself to multiples of 32" in " ".join(
        render_table(inspected, decoder="unet", methods=["conv_transpose"], notes=[]).split()
    )


def test_flops_are_those_counted_by_hand() -> None:
    model = UNet("resnet18", classes=3, encoder_depth=3, decoder_channels=[16, 8, 4], upsample={"kernel_size": 4})
    inspected = check(model, SIZE)
    assert inspected.encoder.sizes[1:] == ((31, 42), (16, 21), (8, 11))
    # a transposed convolution multiplies every input pixel with its whole kernel
    up = 2 * 128 * 16 * 4 * 4 * (8 * 11)
    of_skip, second = 2 * 64 * 16 * 9 * (16 * 21), 2 * 16 * 16 * 9 * (16 * 21)
    assert inspected.stages[0].flops == up + of_skip + second
    assert inspected.head.flops == 2 * 4 * 3 * 9 * (61 * 83)
    convolutions = 128 * 16 * 16 + 64 * 16 * 9 + 16 * 16 * 9
    assert inspected.stages[0].parameters == convolutions + 2 * 2 * 16  # two batch norms


@pytest.mark.filterwarnings("ignore:decoder stages")
def test_rows_without_input_are_counted_and_small_images_refused() -> None:
    model = UNet("tu-convnext_atto", classes=2, decoder_channels=[8] * 5, upsample={"kernel_size": 2})
    layers = [stage.upsampling for stage in inspect_model(model, (97, 131)).stages]
    # kernel 2 writes two rows for each of the input's, and not one more
    expected = [tuple(max(0, big - 2 * n) for n, big in zip(x.source, x.wanted, strict=True)) for x in layers]
    assert [layer.bias_only for layer in layers] == expected
    assert sum(map(sum, expected)) > 0
    with pytest.raises(ImageError, match="an image of 30x20 pixels is too small for encoder 'tu-convnext_atto'"):
        inspect_model(model, (20, 30))


def test_the_model_stays_as_it_is() -> None:
    model = UNet("resnet18", classes=2, encoder_depth=3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inspect_model(model, SIZE)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
