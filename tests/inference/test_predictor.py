"""The predictor gives what the model gives."""

import numpy as np
import pytest
import torch

from unetseg import Predictor, UNet
from unetseg.errors import ImageError, OptionError, UnetsegError


@pytest.fixture
def model() -> UNet:
    torch.manual_seed(0)
    return UNet("resnet18", classes=3, encoder_depth=3)


@pytest.mark.parametrize("size", [(33, 47), (64, 35), (1, 7)])
def test_equals_the_model_on_the_same_pixels(model: UNet, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    predictor = Predictor(model, ["a", "b", "c"], device="cpu")
    class_map = predictor(image)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = model.eval()(batch)
    assert class_map.dtype == np.uint8
    torch.testing.assert_close(predictor.logits(image), logits[0], atol=1e-5, rtol=1e-4)  # batch norms are folded
    np.testing.assert_array_equal(class_map, logits[0].argmax(0).numpy())


def test_takes_views_and_leaves_the_image_alone(model: UNet) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    before = image.copy()
    predictor = Predictor(model, ["a", "b", "c"], device="cpu")
    flipped = predictor(image[:, ::-1])
    np.testing.assert_array_equal(flipped, predictor(image[:, ::-1].copy()))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))])
def test_other_arrays_are_refused(model: UNet, image: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"an \(H, W, 3\) RGB array, uint8 .*; got shape \(9, 9"):
        Predictor(model, ["a", "b", "c"], device="cpu")(image)


def test_a_device_that_is_not_there_is_explained(model: UNet) -> None:
    with pytest.raises(UnetsegError, match=r"device 'cuda:99' can't be used: .* Give auto, cpu or cuda"):
        Predictor(model, ["a", "b", "c"], device="cuda:99")


def test_images_of_one_batch_are_of_one_kind(model: UNet) -> None:
    predictor = Predictor(model, ["a", "b", "c"], device="cpu")
    image = np.zeros((40, 60, 3), np.uint8)
    for other in (np.zeros((40, 60, 3), np.float32), np.zeros((41, 60, 3), np.uint8)):
        with pytest.raises(ImageError, match=r"images of one batch have one size and one dtype; got \(40, 60, 3\)"):
            predictor.predict([image, other])
    assert predictor.predict([]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": "foo"}, r"tile is 'foo'; it must be a whole number from 1 on \(or \"auto\", or None\)"),
        ({"tile": 1000.7}, "tile is 1000.7"),
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number from 1 on"),
        ({"blend": "cosine"}, "blend is 'cosine'; it can be 'gaussian'"),
        ({"tta": "flip"}, "tta is 'flip'; .* Did you mean 'flips'"),
        ({"precision": "bf16"}, "precision is 'bf16'; it can be '32-true', 'bf16-mixed', '16-mixed'"),
    ],
)
def test_wrong_options_are_explained(model: UNet, options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Predictor(model, ["a", "b", "c"], device="cpu", **options)


def test_a_small_tile_has_an_overlap_that_it_can_have(model: UNet) -> None:
    assert Predictor(model, ["a", "b", "c"], device="cpu", tile=256).tiling.overlap == 96
    assert Predictor(model, ["a", "b", "c"], device="cpu").tiling.overlap == 128
