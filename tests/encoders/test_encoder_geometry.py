"""What the probe of an encoder finds."""

import pytest
import torch
from torch import nn

from unetseg.encoders import build_encoder, encoder_geometry
from unetseg.errors import EncoderError


@pytest.mark.parametrize(
    ("name", "channels", "rounding", "min_size"),
    [
        ("resnet18", (0, 64, 64, 128, 256, 512), ("up",) * 5, 1),
        ("vgg11_bn", (64, 128, 256, 512, 512, 512), ("down",) * 5, 32),
        ("densenet121", (0, 64, 256, 512, 1024, 1024), ("down", "down", "down", "up", "up"), 29),
        ("mit_b0", (0, 0, 32, 64, 160, 256), ("up",) * 5, 29),
        # over its stem of stride 4 it rounds down; the two halves of that have no rounding of their own
        ("tu-convnext_atto", (0, 0, 40, 80, 160, 320), ("down", "down", "down", "any", "any"), 32),
        # takes multiples of 32 only, and is padded
        ("tu-dla34", (0, 32, 64, 128, 256, 512), ("up",) * 5, 1),
    ],
)
def test_probe(name: str, channels: tuple[int, ...], rounding: tuple[str, ...], min_size: int) -> None:
    geometry = encoder_geometry(build_encoder(name), name)
    assert geometry.channels == channels
    assert geometry.rounding == rounding
    assert geometry.strides == (1, 2, 4, 8, 16, 32)
    assert geometry.min_size == min_size


@pytest.mark.parametrize(("name", "multiple"), [("resnet18", 1), ("tu-dla34", 32), ("tu-halonet26t", 256)])
def test_what_images_are_padded_to(name: str, multiple: int) -> None:
    assert encoder_geometry(build_encoder(name), name).padded_to == multiple


def test_probe_of_a_shallower_encoder() -> None:
    geometry = encoder_geometry(build_encoder("resnet18", depth=3), "resnet18", depth=3)
    assert geometry.strides == (1, 2, 4, 8)


def test_unpadded_convolutions_are_refused() -> None:
    with pytest.raises(EncoderError, match=r"'tu-inception_v3' has feature maps of .* which fit no stride"):
        encoder_geometry(build_encoder("tu-inception_v3"), "tu-inception_v3")


def test_an_encoder_that_takes_no_size_is_refused() -> None:
    class Refusing(nn.Module):
        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            raise AssertionError(f"not {tuple(image.shape)}")

    with pytest.raises(EncoderError, match=r"'refusing' took 0 of the 16 image sizes from \(97, 98\)"):
        encoder_geometry(Refusing(), "refusing")


def test_the_probe_leaves_the_encoder_alone() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("resnet18")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder_geometry(encoder, "probed for the first time")
    assert encoder.training
    assert not [name for name, module in encoder.named_modules() if "forward" in vars(module)]
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_a_normalised_image_is_a_feature_map() -> None:
    class Normalising(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [self.norm(image), image[..., ::2, ::2]]

    assert encoder_geometry(Normalising(), "normalising", depth=1).channels == (3, 3)
