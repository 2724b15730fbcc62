"""Building encoders by name: those that take any size, those that are padded, those that are refused."""

import pytest
import torch

from unetseg.encoders import PaddedEncoder, build_encoder
from unetseg.errors import EncoderError


@pytest.mark.parametrize(("typed", "meant"), [("resnet43", "resnet34"), ("tu-convnext_tinny", "tu-convnext_tiny")])
def test_an_unknown_encoder_brings_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(EncoderError, match=f"encoder '{typed}' doesn't exist. Did you mean .*{meant}"):
        build_encoder(typed)


def test_a_name_like_no_other_brings_examples() -> None:
    with pytest.raises(EncoderError, match=r"doesn't exist. For example: resnet34"):
        build_encoder("%%%")


def test_an_encoder_that_gives_no_maps_is_explained() -> None:
    with pytest.raises(EncoderError, match="can't be built with depth 9"):
        build_encoder("resnet18", depth=9)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tu-coat_tiny", r"'tu-coat_tiny' takes images of 224x224 pixels only, .*For example resnet34"),
        ("tu-gcvit_xxtiny", r"takes images of 224x224 pixels only"),
        (
            "tu-vit_tiny_patch16_224",
            r"has no feature maps that halve from stage to stage",
        ),
    ],
)
def test_what_cannot_serve_a_unet_is_refused_when_built(name: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        build_encoder(name)


@pytest.mark.parametrize("name", ["tu-swin_tiny_patch4_window7_224", "tu-dla34", "tu-lambda_resnet26t"])
@torch.no_grad()
def test_what_takes_multiples_only_is_padded_and_cropped(name: str) -> None:
    encoder = build_encoder(name).eval()
    assert isinstance(encoder, PaddedEncoder)
    image = torch.rand(1, 3, 37, 71)
    features = encoder(image)
    assert features[0] is image
    assert [tuple(f.shape[-2:]) for f in features[2:]] == [(10, 18), (5, 9), (3, 5), (2, 3)]


def test_the_second_of_a_kind_is_built_alike() -> None:
    built = []
    for _ in range(2):
        torch.manual_seed(0)
        built.append(build_encoder("tu-swin_tiny_patch4_window7_224", depth=4))
    first, second = (encoder.state_dict() for encoder in built)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [encoder.multiple for encoder in built] == [4, 4]
