"""Test-time augmentation: views are brought back to where they came from."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unetseg import Predictor, UNet
from unetseg.inference.augmentation import TTA, mean_of_views

VIEWS = {"none": 1, "flips": 4, "d4": 8, "scales": 3}


def pointwise(image: Tensor) -> Tensor:
    """What it says of a pixel depends on that pixel alone, so no view changes it."""
    image = image if image.is_floating_point() else image.float() / 255
    return torch.stack([image[:, 0] * 0.5, 1 - image[:, 1] * 0.5], dim=1)


@pytest.mark.parametrize("tta", ["none", "flips", "d4"])
@pytest.mark.parametrize("size", [(5, 8), (7, 7), (1, 4)])
def test_views_of_an_equivariant_network_change_nothing(tta: TTA, size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mean_of_views(pointwise, image, tta), pointwise(image))


@pytest.mark.parametrize("tta", VIEWS)
def test_views_of_arrays_are_those_of_tensors(tta: TTA) -> None:
    image = torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    arrays = mean_of_views(lambda view: one_sided(torch.from_numpy(view.copy())).numpy(), image.numpy(), tta)
    torch.testing.assert_close(torch.from_numpy(arrays), mean_of_views(one_sided, image, tta))
    assert image.equal(before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_scales_change_little_of_a_smooth_image(dtype: torch.dtype) -> None:
    ramp = torch.linspace(0, 255, 83).expand(3, 61, 83)[None]
    image = ramp.to(torch.uint8) if dtype == torch.uint8 else ramp / 255
    result = mean_of_views(pointwise, image, "scales")
    torch.testing.assert_close(result[..., 2:-2], pointwise(image)[..., 2:-2], atol=0.005, rtol=0)


@pytest.mark.parametrize(("tta", "count"), VIEWS.items())
def test_each_view_is_seen_once(tta: TTA, count: int) -> None:
    image = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    def predict(view: Tensor) -> Tensor:
        seen.append(view.clone())
        return pointwise(view)

    mean_of_views(predict, image, tta)
    assert len(seen) == count
    assert len({(tuple(view.shape), view.sum(dim=(0, 1)).numpy().tobytes()) for view in seen}) == count


def test_no_view_is_smaller_than_the_network_takes() -> None:
    sizes = []
    mean_of_views(
        lambda view: sizes.append(view.shape[-2:]) or pointwise(view), torch.rand(1, 3, 34, 50), "scales", min_size=32
    )
    assert sizes == [(32, 38), (34, 50), (42, 62)]


def one_sided(image: Tensor) -> Tensor:
    """A network that looks to its upper left."""
    return nn.functional.conv2d(nn.functional.pad(image, (2, 0, 1, 0)), torch.arange(18.0).view(1, 3, 2, 3))


def test_the_mean_over_a_squares_symmetries_has_them() -> None:
    image = torch.rand(1, 3, 9, 6, generator=torch.Generator().manual_seed(0))
    whole = mean_of_views(one_sided, image, "d4")
    turned = mean_of_views(one_sided, image.rot90(1, (-2, -1)), "d4").rot90(-1, (-2, -1))
    mirrored = mean_of_views(one_sided, image.flip(-2), "d4").flip(-2)
    torch.testing.assert_close(turned, whole)
    torch.testing.assert_close(mirrored, whole)
    assert not torch.allclose(one_sided(image.flip(-2)).flip(-2), one_sided(image))


def test_so_has_a_predictor_with_it() -> None:
    torch.manual_seed(0)
    predictor = Predictor(UNet("resnet18", classes=2, encoder_depth=3), ["a", "b"], device="cpu", tta="flips")
    image = np.random.default_rng(0).integers(0, 256, (45, 62, 3), dtype=np.uint8)
    (whole,) = predictor.predict([image], probabilities=True)
    (mirrored,) = predictor.predict([image[:, ::-1]], probabilities=True)
    np.testing.assert_allclose(mirrored.probabilities[..., ::-1], whole.probabilities, atol=1e-5)
    np.testing.assert_array_equal(whole.classes, whole.probabilities.argmax(axis=0))
