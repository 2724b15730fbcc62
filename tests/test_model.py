"""UNet: any encoder, any size."""

import json
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from unetseg import UNet
from unetseg.errors import AlignmentError, CheckpointError, EncoderError, ImageError, OptionError

ENCODERS = [
    "resnet18",
    "mobilenet_v2",
    "vgg11_bn",
    "densenet121",
    "se_resnet50",
    "mit_b0",
    "efficientnet-b0",
    "tu-convnext_atto",
    "tu-hgnetv2_b0",
    "xception",
    "inceptionv4",
    "dpn68",
]
KINDS = {"up": "resnet18", "down": "efficientnet-b0", "mixed": "tu-ese_vovnet19b_slim_dw"}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_size_from_33_to_70(kind: str) -> None:
    """Every height and every width of that range, each with one of the other axis' sizes beside it."""
    model = UNet(KINDS[kind], classes=3, decoder_channels=(8, 8, 8, 8, 8)).eval()
    for height in range(33, 71):
        width = 33 + (height * 17) % 38
        assert model(torch.zeros(1, 3, height, width)).shape == (1, 3, height, width)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_pair_of_sizes_from_33_to_70(kind: str) -> None:
    """All 38 * 38 of them, as shapes: the meta device runs the same code without the arithmetic."""
    model = UNet(KINDS[kind], classes=3, decoder_channels=(8, 8, 8, 8, 8)).eval().to("meta")
    for height in range(33, 71):
        for width in range(33, 71):
            assert model(torch.empty(1, 3, height, width, device="meta")).shape == (1, 3, height, width)


@pytest.mark.slow
@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5])
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.filterwarnings("ignore:decoder stages")
@torch.no_grad()
def test_every_encoder_and_kernel(encoder: str, kernel_size: int) -> None:
    model = UNet(encoder, classes=3, upsample={"kernel_size": kernel_size})
    for height, width in ((97, 131), (101, 64), (127, 127), (251, 333)):
        image = torch.rand(2, 3, height, width)
        for training in (False, True):
            logits = model.train(training)(image)
            assert logits.shape == (2, 3, height, width)
            assert logits.isfinite().all()


@pytest.mark.parametrize("encoder", ["mit_b0", "tu-convnext_atto"])
@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_encoders_with_a_stem_of_stride_4(encoder: str, training: bool) -> None:
    model = UNet(encoder, classes=3, decoder_channels=(8, 8, 8, 8, 8)).train(training)
    for height, width in ((97, 127), (98, 99), (101, 64)):
        assert model(torch.rand(2, 3, height, width)).shape == (2, 3, height, width)


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0"])
def test_height_and_width_are_not_confused(encoder: str) -> None:
    """Transposed weights on a transposed image give the transposed logits."""
    torch.manual_seed(0)
    model = UNet(encoder, classes=3).double().eval()
    image = torch.rand(1, 3, 71, 58, dtype=torch.float64)
    logits = model(image)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 4:
                parameter.copy_(parameter.transpose(2, 3).clone())
    torch.testing.assert_close(model(image.transpose(2, 3)).transpose(2, 3), logits)


@pytest.mark.parametrize(
    "encoder", ["resnet18", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vgg11_bn", "densenet121"))]
)
@torch.no_grad()
def test_more_rows_and_columns_change_nothing_far_from_them(encoder: str) -> None:
    """Pixel 0 stays on pixel 0, whatever the parity: a crop's corner is predicted as the larger image's."""
    torch.manual_seed(0)
    model = UNet(encoder, classes=3, encoder_depth=3).double().eval()
    image = torch.rand(1, 3, 200, 200, dtype=torch.float64)
    corner = model(image)[..., :48, :48]
    for smaller in (1, 2, 3, 5, 8):
        cropped = model(image[..., : 200 - smaller, : 200 - smaller])[..., :48, :48]
        torch.testing.assert_close(cropped, corner)


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0"])
@torch.no_grad()
def test_the_last_row_and_column_are_computed_from_the_image(encoder: str) -> None:
    """Not filled with zeros, not a copy of their neighbours: they follow what the image has there."""
    torch.manual_seed(0)
    model = UNet(encoder, classes=3).eval()
    for height, width in ((65, 67), (66, 63)):
        image = torch.rand(1, 3, height, width)
        changed = image.clone()
        changed[..., -1, :], changed[..., :, -1] = 0, 0
        logits, others = model(image), model(changed)
        assert (logits[..., -1, :] - others[..., -1, :]).abs().mean() > 1e-4
        assert (logits[..., :, -1] - others[..., :, -1]).abs().mean() > 1e-4
        assert logits[..., -1, :].std() > 1e-4
        assert not torch.equal(logits[..., -1, :], logits[..., -2, :])


@pytest.mark.parametrize("depth", [3, 5])
def test_gradients_reach_every_parameter(depth: int) -> None:
    torch.manual_seed(0)
    model = UNet("resnet18", classes=3, encoder_depth=depth)
    model(torch.rand(2, 3, 65, 47)).square().sum().backward()
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in learned.items() if p.grad is None or not p.grad.abs().sum() > 0] == []
    # the stages beyond the depth, which distributed training would stop at
    frozen = {name.split(".")[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == ({"layer3", "layer4"} if depth == 3 else set())


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
def test_no_parameter_is_unused(encoder: str) -> None:
    model = UNet(encoder, classes=3).to("meta")
    model(torch.empty(2, 3, 97, 131, device="meta")).sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@torch.no_grad()
def test_nothing_is_interpolated_or_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the features to the logits, at sizes where every stage is odd."""
    model = UNet("densenet121", classes=3, decoder_channels=(8, 8, 8, 8, 8)).eval()
    image = torch.rand(1, 3, 95, 127)
    features = model.encoder(image)

    def forbidden(*_: object, **__: object) -> Tensor:
        raise AssertionError("resampled or padded")

    monkeypatch.setattr("torch.nn.functional.interpolate", forbidden)
    monkeypatch.setattr("torch.nn.functional.pad", forbidden)
    assert model.head(model.decoder(features, size=(95, 127)), size=(95, 127)).shape == (1, 3, 95, 127)


def loss_after(model: UNet, image: Tensor, mask: Tensor, steps: int) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(model(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_overfits_one_batch() -> None:
    torch.manual_seed(0)
    model = UNet("resnet18", classes=3, encoder_depth=3, decoder_channels=(32, 16, 16))
    image = torch.rand(2, 3, 33, 47)
    mask = torch.randint(0, 3, (2, 5, 6)).repeat_interleave(7, 1).repeat_interleave(8, 2)[:, :33, :47]
    assert loss_after(model, image, mask, steps=60) < 0.1


@torch.no_grad()
def test_owns_its_preprocessing() -> None:
    model = UNet("resnet18", classes=2, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)).eval()
    image = torch.randint(0, 256, (1, 3, 33, 35), dtype=torch.uint8)
    torch.testing.assert_close(model(image), model(image / 255))
    expected = (image / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    torch.testing.assert_close(model.normalize(image), expected)
    assert {"mean", "std"} <= set(model.state_dict())


@torch.no_grad()
def test_other_numbers_of_channels() -> None:
    assert UNet("resnet18", classes=2, in_channels=4).eval()(torch.rand(1, 4, 33, 35)).shape == (1, 2, 33, 35)
    with pytest.raises(EncoderError, match="mean has 3 values; the image has in_channels=1"):
        UNet("resnet18", classes=2, in_channels=1, mean=(0.5, 0.5, 0.5))


@torch.no_grad()
def test_depth_sets_the_number_of_stages() -> None:
    model = UNet("resnet18", classes=2, encoder_depth=3).eval()
    assert [block.upsample.out_channels for block in model.decoder.blocks] == [64, 32, 16]
    assert model(torch.rand(1, 3, 33, 35)).shape == (1, 2, 33, 35)


@pytest.mark.parametrize("encoder", ["vgg11_bn", "mit_b0", "efficientnet-b0", "densenet121"])
@torch.no_grad()
def test_an_image_below_the_minimum_is_refused_and_one_at_it_is_not(encoder: str) -> None:
    model = UNet(encoder, classes=2, decoder_channels=(8, 8, 8, 8, 8)).eval()
    least = model.min_size
    assert model(torch.rand(1, 3, least, least)).shape == (1, 2, least, least)
    with pytest.raises(ImageError, match=f"{least}x{least - 1} pixels is too small for encoder '{encoder}'"):
        model(torch.rand(1, 3, least - 1, least))


@torch.no_grad()
def test_an_encoder_that_is_padded_serves_every_size() -> None:
    model = UNet("tu-dla34", classes=2, decoder_channels=(8, 8, 8, 8, 8)).eval()
    for size in ((1, 1), (31, 33), (64, 97)):
        assert model(torch.rand(1, 3, *size)).shape == (1, 2, *size)


VARIANTS = {
    "plain": {},
    "concat": {"block": {"merge": "concat"}},
    "unetplusplus": {"decoder": "unetplusplus"},
    "upsampling head": {"head": "upsample", "upsample": {"kernel_size": [4, 4, 2]}},
    "deep supervision": {"deep_supervision": True},
    "all of it": {
        "decoder": "unetplusplus",
        "head": "upsample",
        "deep_supervision": True,
        "upsample": {"method": ["pixel_shuffle", "conv_transpose", "blurred_conv_transpose"], "groups": [1, 2, 1]},
        "block": {"norm": "group", "activation": "silu", "dropout": 0.1, "residual": True, "attention": "scse"},
    },
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def small(variant: str, encoder: str = "resnet18") -> UNet:
    torch.manual_seed(0)
    options = VARIANTS[variant]
    channels = (16, 8) if options.get("head") == "upsample" else (16, 8, 8)
    return UNet(encoder, classes=3, encoder_depth=3, decoder_channels=channels, **options)


@variants
@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0", "densenet121"])
@pytest.mark.filterwarnings("ignore:head")
def test_every_variant_gives_logits_of_the_images_size(variant: str, encoder: str) -> None:
    model = small(variant, encoder)
    for size in ((33, 47), (40, 38)):
        logits = model(torch.rand(2, 3, *size), all_logits=True)
        assert [tuple(x.shape) for x in logits] == [(2, 3, *size)] * len(logits)
    assert len(logits) == {"deep supervision": 3, "all of it": 2}.get(variant, 1)
    torch.stack(logits).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.slow
@variants
@pytest.mark.parametrize("encoder", ENCODERS)
@torch.no_grad()
def test_every_variant_with_every_encoder(variant: str, encoder: str) -> None:
    options = {name: value for name, value in VARIANTS[variant].items() if name != "upsample"}
    channels = (16, 16, 8, 8, 8)[: 4 if options.get("head") == "upsample" else 5]
    model = UNet(encoder, classes=3, decoder_channels=channels, **options)
    for height, width in ((97, 131), (127, 64)):
        logits = model(torch.rand(2, 3, height, width), all_logits=True)
        assert all(x.shape == (2, 3, height, width) and x.isfinite().all() for x in logits)


@variants
@pytest.mark.filterwarnings("ignore:head")
@torch.no_grad()
def test_dynamic_export_equals_eager(variant: str) -> None:
    model = small(variant).eval()
    auto = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    exported = torch.export.export(model, (torch.rand(2, 3, 64, 96),), dynamic_shapes=(auto,)).module()
    for height, width in ((64, 96), (65, 97), (63, 101), (70, 66)):
        image = torch.rand(2, 3, height, width)
        torch.testing.assert_close(exported(image), model(image), atol=1e-4, rtol=1e-4)


@variants
@pytest.mark.filterwarnings("ignore:head")
def test_what_save_pretrained_writes_from_pretrained_reads(variant: str, tmp_path: Path) -> None:
    model = small(variant).eval()
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"model.safetensors", "config.json"}
    assert json.loads((tmp_path / "config.json").read_text())["encoder_weights"] is None
    again = UNet.from_pretrained(tmp_path)
    image = torch.rand(1, 3, 33, 47)
    assert torch.equal(again(image), model(image))


def test_a_folder_without_a_saved_model_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no config.json and no model.safetensors; give a folder that"):
        UNet.from_pretrained(tmp_path)


def test_saved_weights_of_another_network_are_explained(tmp_path: Path) -> None:
    small("plain").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"the weights don't fit the network of config.json: Error"):
        UNet.from_pretrained(tmp_path, deep_supervision=True)


def test_numpys_numbers_build_and_are_saved_as_pythons(tmp_path: Path) -> None:
    model = UNet(
        classes=np.int64(2),
        encoder_depth=3,
        decoder_channels=list(np.array([8, 8, 8])),
        upsample={"kernel_size": [np.int64(4), 4, np.array([4, 2])], "groups": np.array([1, 2, 1])},
        block={"dropout": np.float64(0.1)},
    ).eval()
    model.save_pretrained(tmp_path)
    image = torch.rand(1, 3, 33, 47)
    assert torch.equal(UNet.from_pretrained(tmp_path)(image), model(image))


def test_can_be_built_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = UNet(classes=2, deep_supervision=True)
    assert model(torch.empty(1, 3, 65, 47, device="meta")).shape == (1, 2, 65, 47)


@pytest.mark.parametrize("image", [torch.rand(1, 3, 65, 47), torch.zeros(1, 3, 65, 47, dtype=torch.uint8)])
def test_half_precision_takes_any_image(image: Tensor) -> None:
    assert UNet(classes=2).bfloat16().eval()(image).dtype == torch.bfloat16


def test_from_pretrained_downloads_nothing_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the model, nor the encoder's weights that it was trained from."""
    weights = tmp_path / "encoder.pth"
    torch.save(UNet("resnet18", classes=2).encoder.state_dict(), weights)
    model = UNet("resnet18", classes=2, encoder_weights=str(weights), mean=(0.1, 0.2, 0.3))
    model.save_pretrained(tmp_path / "saved")
    weights.unlink()
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("went online"))
    again = UNet.from_pretrained(tmp_path / "saved")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("encoder", ["resnet18", "tu-convnext_atto"])
def test_takes_the_encoder_of_an_smp_unet(encoder: str, tmp_path: Path) -> None:
    theirs = smp.Unet(encoder, encoder_weights=None, classes=2)
    torch.save(theirs.state_dict(), tmp_path / "smp.pth")
    ours = UNet(encoder, classes=3, encoder_weights=str(tmp_path / "smp.pth"))
    image = torch.rand(1, 3, 64, 64)
    for expected, feature in zip(theirs.eval().encoder(image), ours.eval().encoder(image), strict=True):
        assert torch.equal(feature, expected)


@pytest.mark.parametrize(
    ("decoder", "head"),
    [
        ("unet", "conv"),
        *(
            pytest.param(*both, marks=pytest.mark.slow)
            for both in (("unet", "upsample"), ("unetplusplus", "conv"), ("unetplusplus", "upsample"))
        ),
    ],
)
def test_one_dynamic_graph_serves_every_size(decoder: str, head: str) -> None:
    """No graph breaks; one compilation for sizes of every parity."""
    torch.manual_seed(0)
    model = UNet("resnet18", classes=2, encoder_depth=3, decoder=decoder, head=head).eval()
    graphs = []

    def count(graph: torch.fx.GraphModule, _example: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(model, backend=count, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for size in ((64, 96), (65, 97), (63, 101), (70, 66)):
            image = torch.rand(2, 3, *size)
            torch.testing.assert_close(compiled(image), model(image), atol=1e-4, rtol=1e-4)
    assert len(graphs) == 1


def test_a_batch_that_batch_norm_cannot_train_on_is_explained() -> None:
    model = UNet("resnet18", classes=2)
    with pytest.raises(ImageError, match=r"can't train on a batch of one image of 32x31 pixels.*Use a larger batch"):
        model(torch.rand(1, 3, 31, 32))
    assert model.eval()(torch.rand(1, 3, 31, 32)).shape == (1, 2, 31, 32)


def test_unknown_choices_are_explained() -> None:
    with pytest.raises(OptionError, match=r"decoder is 'unet\+\+'; it can be 'unet', 'unetplusplus'"):
        UNet(classes=2, decoder="unet++")
    with pytest.raises(OptionError, match=r"head is 'transposed'; it can be 'conv', 'upsample'"):
        UNet(classes=2, head="transposed")


def test_the_head_has_the_last_stages_options() -> None:
    with pytest.warns(UserWarning, match=r"head: neighbouring pixels .*; kernel_size 4"):
        model = UNet(classes=3, head="upsample", upsample={"kernel_size": [4, 4, 4, 4, 3], "groups": [2, 1, 1, 1, 1]})
    assert model.head.kernel_size == (3, 3)
    assert model.head.bias is not None
    assert [block.upsample.groups for block in model.decoder.blocks] == [2, 1, 1, 1]
    with pytest.raises(AlignmentError, match=r"stage 4: upsample.stride is 7; the encoder's ratio there is 2"):
        UNet(classes=3, head="upsample", upsample={"stride": [2, 2, 2, 2, 7]})
    with pytest.raises(AlignmentError, match=r"head: from 8, kernel 4 .* padding 3 .* Set upsample.padding to .auto."):
        UNet(classes=3, head="upsample", upsample={"padding": ["auto", "auto", "auto", "auto", 3]})
    with pytest.raises(OptionError, match=r"head 'upsample' takes the only decoder stage"):
        UNet(classes=3, head="upsample", encoder_depth=1)
    with pytest.raises(OptionError, match=r"upsample.kernel_size: 4 values for 5 decoder stages"):
        UNet(classes=3, head="upsample", upsample={"kernel_size": [4, 4, 4, 4]})
