"""Padding and cropping around an encoder that takes multiples of a size only."""

import pytest
import torch
from torch import Tensor, nn

from unetseg.encoders import PaddedEncoder
from unetseg.errors import EncoderError


class Quarters(nn.Module):
    """Maps at strides 1, 2 and 4 that hold the mean of the pixels they stand for; refuses what 4 doesn't divide."""

    def forward(self, image: Tensor) -> list[Tensor]:
        if image.shape[-2] % 4 or image.shape[-1] % 4:
            raise ValueError(f"not {tuple(image.shape)}")
        return [image, nn.functional.avg_pool2d(image, 2), nn.functional.avg_pool2d(image, 4)]


def padded() -> PaddedEncoder:
    return PaddedEncoder(Quarters(), multiple=4, strides=(1, 2, 4))


@pytest.mark.parametrize("height", range(1, 10))
@pytest.mark.parametrize("width", [4, 7])
def test_every_pixel_of_a_map_has_seen_the_image(height: int, width: int) -> None:
    image = torch.ones(1, 1, height, width)
    features = padded()(image)
    assert features[0] is image
    for feature, stride in zip(features[1:], (2, 4), strict=True):
        assert feature.shape[-2:] == (-(-height // stride), -(-width // stride))
        assert (feature > 0).all()
        # rows past the image are zeros
        rows = torch.tensor([min(stride, height - stride * i) / stride for i in range(feature.shape[-2])])
        assert torch.equal(feature[0, 0, :, 0], rows * min(stride, width) / stride)


def test_what_needs_no_padding_is_left_as_it_is() -> None:
    image = torch.rand(2, 3, 8, 12)
    for got, expected in zip(padded()(image), Quarters()(image), strict=True):
        assert torch.equal(got, expected)


def test_gradients_come_from_the_image_alone() -> None:
    image = torch.rand(1, 1, 5, 6, requires_grad=True)
    padded()(image)[2].sum().backward()
    assert torch.equal(image.grad, torch.full((1, 1, 5, 6), 1 / 16))


def test_one_dynamic_graph_serves_every_size() -> None:
    auto = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    for example in ((9, 14), (8, 12)):
        graph = torch.export.export(padded(), (torch.rand(1, 1, *example),), dynamic_shapes=(auto,)).module()
        for size in ((9, 14), (8, 12), (11, 5), (13, 16)):
            image = torch.rand(1, 1, *size)
            for got, expected in zip(graph(image), padded()(image), strict=True):
                assert torch.equal(got, expected)


def test_wrong_strides_are_explained() -> None:
    with pytest.raises(EncoderError, match=r"gave 3 feature maps; strides has 2 values"):
        PaddedEncoder(Quarters(), multiple=4, strides=(1, 2))(torch.rand(1, 1, 8, 8))
    with pytest.raises(EncoderError, match=r"padded image of \(8, 8\) .* map of \(2, 2\); of stride 2, \(4, 4\)"):
        PaddedEncoder(Quarters(), multiple=4, strides=(1, 2, 2))(torch.rand(1, 1, 8, 8))
