"""UNet: any encoder, any size."""

import pytest
import torch
from torch import Tensor

from unetseg import UNet
from unetseg.errors import EncoderError, ImageError

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
KINDS = {"up": "resnet18", "down": "efficientnet-b0", "mixed": "densenet121"}


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
@pytest.mark.filterwarnings("ignore:the transposed convolutions")
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


@pytest.mark.parametrize("encoder", ["resnet18", "vgg11_bn", "densenet121"])
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
    assert model.head(model.decoder(features, size=(95, 127))).shape == (1, 3, 95, 127)


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


def test_encoders_that_take_some_sizes_only_say_which() -> None:
    model = UNet("tu-swin_tiny_patch4_window7_224", classes=2, decoder_channels=(8, 8, 8, 8, 8)).eval()
    assert model.known_sizes == (224,)
    with pytest.raises(ImageError, match=r"doesn't take an image of 256x256 pixels; .* it takes 224"):
        model(torch.rand(1, 3, 256, 256))


@torch.no_grad()
def test_dynamic_export_equals_eager() -> None:
    torch.manual_seed(0)
    model = UNet("resnet18", classes=2, encoder_depth=3, decoder_channels=(8, 8, 8)).eval()
    auto = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    exported = torch.export.export(model, (torch.rand(2, 3, 64, 96),), dynamic_shapes=(auto,)).module()
    for height, width in ((64, 96), (65, 97), (63, 101), (70, 66)):
        image = torch.rand(2, 3, height, width)
        torch.testing.assert_close(exported(image), model(image), atol=1e-4, rtol=1e-4)
