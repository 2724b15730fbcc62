"""Augmented pairs stay aligned and keep their classes; their draws differ where they should."""

import pickle
import sys
import types
import warnings
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from unetseg.data import transforms as transforms_module
from unetseg.data.pipeline import A
from unetseg.data.transforms import TrainingTransform, initialise_worker
from unetseg.errors import DataError


def pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(1, 256, (height, width, 3), dtype=np.uint8), rng.choice([1, 4], (height, width)).astype(
        np.uint8
    )


def plain(crop_size: int, **options: Any) -> TrainingTransform:
    """Return a transform that does nothing but crop and what ``options`` ask for."""
    nothing = {"scale_range": (1.0, 1.0), "horizontal_flip": False, "color_jitter": 0.0}
    return TrainingTransform(crop_size=crop_size, ignore_index=255, **(nothing | options))


@pytest.mark.parametrize("size", [(1, 1), (2, 67), (31, 33), (101, 35)])
@pytest.mark.parametrize("scale_range", [(0.6, 1.6), (0.1, 0.1), (3.0, 3.0)])
def test_any_size_becomes_the_crop_without_new_classes(size: tuple[int, int], scale_range: tuple[float, float]):
    torch.manual_seed(0)
    transform = TrainingTransform(crop_size=32, ignore_index=255, scale_range=scale_range, vertical_flip=True)
    for _ in range(10):
        image, mask = transform(*pair(*size))
        assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((32, 32), np.uint8)
        assert set(np.unique(mask)) <= {1, 4, 255}


def test_padding_is_black_and_ignored():
    image, mask = plain(16)(*pair(11, 9))
    inside = mask != 255
    assert inside.sum() == 11 * 9
    np.testing.assert_array_equal(inside, (image > 0).all(axis=-1))
    np.testing.assert_array_equal(inside, (image > 0).any(axis=-1))


def test_crop_is_a_part_of_the_pair():
    image, mask = pair(37, 41)
    cut_image, cut_mask = plain(16)(image, mask)
    windows = np.lib.stride_tricks.sliding_window_view(image[..., 0], (16, 16))
    ((top, left),) = np.argwhere((windows == cut_image[..., 0]).all(axis=(2, 3)))
    np.testing.assert_array_equal(cut_image, image[top : top + 16, left : left + 16])
    np.testing.assert_array_equal(cut_mask, mask[top : top + 16, left : left + 16])


@pytest.mark.parametrize("scale", [0.6, 64 / 101, 1.3, 1.6])
def test_scaling_keeps_image_and_mask_aligned(scale: float):
    mask = np.zeros((101, 101), np.uint8)
    mask[40:61, 30:51] = 1
    image = np.stack([mask * 200 + 1] * 3, axis=-1)
    scaled_image, scaled_mask = plain(161, scale_range=(scale, scale))(image, mask)
    bright = np.argwhere(scaled_image[..., 0] > 100).mean(axis=0)
    labelled = np.argwhere(scaled_mask == 1).mean(axis=0)
    assert np.abs(bright - labelled).max() < 0.3  # plain nearest is off by up to half a pixel


def test_flips_are_independent_and_equally_likely():
    torch.manual_seed(0)
    corner = np.zeros((2, 2), np.uint8)
    corner[0, 0] = 1
    transform = plain(2, horizontal_flip=True, vertical_flip=True)
    masks = [transform(np.stack([corner] * 3, -1), corner)[1] for _ in range(200)]
    counts = [sum(int(mask[y, x]) for mask in masks) for y in (0, 1) for x in (0, 1)]
    assert min(counts) > 30


def test_jitter_changes_colours_and_leaves_masks():
    image, mask = pair(8, 8)
    jittered, same_mask = plain(8, color_jitter=0.3)(image, mask)
    assert (jittered != image).any()
    np.testing.assert_array_equal(same_mask, mask)


def some_pair(channels: int, dtype: type, classes: int | None) -> tuple[np.ndarray, np.ndarray]:
    """An image with any number of channels, and a mask of class 1, or one for each of several classes."""
    image = np.random.default_rng(0).integers(1, 256, (29, 41, channels), dtype=np.uint8)
    scaled = image if dtype is np.uint8 else image.astype(np.float32) / 255
    return scaled, np.ones((29, 41) if classes is None else (29, 41, classes), np.uint8)


@pytest.mark.parametrize("classes", [None, 1, 2, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4, 8])
def test_any_channels_types_and_masks(channels: int, dtype: type, classes: int | None):
    torch.manual_seed(0)
    transform = TrainingTransform(crop_size=32, ignore_index=255, vertical_flip=True, in_channels=channels)
    for _ in range(10):
        image, mask = transform(*some_pair(channels, dtype, classes))
        assert (image.shape, image.dtype) == ((32, 32, channels), dtype)
        assert (mask.shape, mask.dtype) == ((32, 32) if classes is None else (32, 32, classes), np.uint8)
        assert mask.flags.c_contiguous
        assert set(np.unique(mask)) <= {1, 255}
        padded = (mask if classes is None else mask[..., 0]) == 255
        assert len(np.unique(image[padded], axis=0)) <= 1  # black, whose brightness the colours change
        if classes:
            np.testing.assert_array_equal(mask, np.repeat(mask[..., :1], classes, axis=-1))


@pytest.mark.parametrize("channels", [1, 3, 4, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_jitter_changes_all_channels(channels: int, dtype: type):
    torch.manual_seed(0)
    image, mask = some_pair(channels, dtype, None)
    jittered, _ = plain(29, color_jitter=0.3, in_channels=channels)(image[:, :29], mask[:, :29])
    assert (jittered != image[:, :29]).any(axis=(0, 1)).all()
    if channels != 3:  # one curve for all channels: what was brighter isn't darker now
        order = np.argsort(image[:, :29], axis=None)
        assert (np.diff(jittered.ravel()[order].astype(float)) >= -1e-6).all()


def test_masks_of_several_classes_are_each_a_class():
    torch.manual_seed(0)
    image = pair(31, 37)[0]
    mask = np.stack([image[..., 0] > 128, image[..., 0] <= 128, image[..., 1] > 200], axis=-1).astype(np.uint8)
    transform = plain(16, scale_range=(0.6, 0.6), horizontal_flip=True, transforms=None)
    _, crop = transform(image, mask)
    np.testing.assert_array_equal(crop[..., 0] + crop[..., 1], 1)
    assert 0 < crop[..., 2].sum() < 16 * 16


def test_own_transforms_take_the_place_of_the_built_in_ones():
    image, mask = pair(12, 12)
    transform = TrainingTransform(crop_size=12, ignore_index=255, transforms=[{"HorizontalFlip": {"p": 1}}])
    flipped_image, flipped_mask = transform(image, mask)
    np.testing.assert_array_equal(flipped_image, image[:, ::-1])
    np.testing.assert_array_equal(flipped_mask, mask[:, ::-1])
    same, _ = TrainingTransform(crop_size=12, ignore_index=255, transforms=[])(image, mask)
    np.testing.assert_array_equal(same, image)


@pytest.mark.parametrize("size", [(9, 11), (16, 16), (40, 23)])
def test_crop_follows_own_transforms(size: tuple[int, int]):
    torch.manual_seed(0)
    transforms = [{"Resize": {"height": size[0], "width": size[1]}}]
    image, mask = TrainingTransform(crop_size=16, ignore_index=255, transforms=transforms)(*pair(30, 30))
    assert (image.shape, mask.shape) == ((16, 16, 3), (16, 16))
    assert (mask == 255).sum() == 16 * 16 - min(16, size[0]) * min(16, size[1])


@pytest.mark.parametrize("name", ["Affine", "GridDistortion", "Perspective", "Rotate", "ThinPlateSpline"])
def test_own_transforms_fill_every_class_of_a_mask(name: str):
    torch.manual_seed(0)
    given = {"p": 1, **{"Affine": {"scale": 0.5}, "Perspective": {"scale": 0.3, "fit_output": True}}.get(name, {})}
    transform = TrainingTransform(crop_size=32, ignore_index=255, transforms=[{name: given}], in_channels=8)
    masks = [transform(*some_pair(8, np.uint8, classes=6))[1] for _ in range(5)]
    assert all(set(np.unique(mask[..., index])) == {1, 255} for index in range(6) for mask in [np.stack(masks)])


def test_own_transforms_are_random_and_follow_torch():
    image, mask = pair(8, 8)
    choice = {"OneOf": {"transforms": ["HorizontalFlip", "VerticalFlip", "Transpose"], "p": 0.8}}
    order = {"RandomOrder": {"transforms": ["RandomRotate90", "ChannelShuffle"], "n": 2}}

    def draws(rank: int) -> list[bytes]:
        torch.manual_seed(7)
        transform = TrainingTransform(crop_size=8, ignore_index=255, transforms=[choice, order], rank=rank)
        return [transform(image, mask)[0].tobytes() for _ in range(40)]

    first = draws(0)
    assert first == draws(0)
    assert first != draws(1)
    assert len(set(first)) > 10


def test_choices_of_one_of_are_about_equally_frequent():
    torch.manual_seed(0)
    image, mask = pair(5, 5)
    choice = {"OneOf": {"transforms": ["HorizontalFlip", "VerticalFlip"], "p": 1}}
    transform = TrainingTransform(crop_size=5, ignore_index=255, transforms=[choice])
    horizontal = sum(np.array_equal(transform(image, mask)[0], image[:, ::-1]) for _ in range(100))
    assert 30 < horizontal < 70


@pytest.mark.parametrize(
    ("transforms", "channels", "message"),
    [
        (["Normalise"], 3, r"data.transforms\[0\] is 'Normalise'"),
        (
            [{"RandomCrop": {"height": 50, "width": 50}}],
            3,
            "data.transforms failed on an image of 29×41 pixels, 3 channels, uint8: Crop size",
        ),
        (["NoOp", {"ColorJitter": {"p": 1}}], 4, "4 channels, uint8: ColorJitter transformation expects 1-channel or"),
        (
            ["ToRGB"],
            1,
            "made 32×32 pixels, 3 channels, uint8 of an image of 29×41 pixels, 1 channels, uint8; channels and type",
        ),
    ],
)
def test_own_transforms_that_fail_are_errors(transforms: list[Any], channels: int, message: str):
    with pytest.raises(DataError, match=message):
        TrainingTransform(crop_size=32, ignore_index=255, transforms=transforms, in_channels=channels)(
            *some_pair(channels, np.uint8, None)
        )


def test_a_lost_channel_axis_is_put_back(monkeypatch: pytest.MonkeyPatch):
    class Squeeze(A.ImageOnlyTransform):
        def apply(self, img: np.ndarray, **_: Any) -> np.ndarray:
            return img[..., 0]

    monkeypatch.setitem(sys.modules, "own_squeeze", types.ModuleType("own_squeeze"))
    sys.modules["own_squeeze"].Squeeze = Squeeze
    transforms = [{"own_squeeze.Squeeze": {"p": 1}}]
    image, mask = some_pair(1, np.uint8, None)
    transform = TrainingTransform(crop_size=29, ignore_index=255, transforms=transforms, in_channels=1)
    np.testing.assert_array_equal(transform(image[:, :29], mask[:, :29])[0], image[:, :29])


def test_draws_follow_torch_and_differ_between_ranks():
    def draws(rank: int) -> list[list[int]]:
        torch.manual_seed(7)
        transform = plain(4, rank=rank)
        return [transform(*pair(50, 50))[0].ravel().tolist() for _ in range(3)]

    first = draws(0)
    assert first == draws(0)
    assert first[0] != first[1] != first[2]
    assert all(ours != theirs for ours, theirs in zip(first, draws(1), strict=True))


def test_a_seed_decides_everything():
    def draws(seeds: list[int], *, chance: int, rank: int) -> list[bytes]:
        torch.manual_seed(chance)
        transform = TrainingTransform(crop_size=8, ignore_index=255, vertical_flip=True, rank=rank)
        return [transform(*pair(50, 50), seed=seed)[0].tobytes() for seed in seeds]

    first = draws([3, 2**63 - 1, 0], chance=7, rank=0)
    assert len(set(first)) == 3
    assert draws([0, 3, 2**63 - 1], chance=8, rank=1) == [first[2], *first[:2]]  # whatever came before


def test_a_seeded_call_leaves_the_generator_of_torch_alone():
    before = torch.get_rng_state()
    plain(4)(*pair(9, 9), seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_transform_pickles():
    image, mask = pair(20, 30)
    transform = TrainingTransform(crop_size=8, ignore_index=255)
    copy = pickle.loads(pickle.dumps(transform))
    torch.manual_seed(0)
    expected = transform(image, mask)
    torch.manual_seed(0)
    np.testing.assert_array_equal(copy(image, mask)[0], expected[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_size": 0}, "crop_size 0: must be at least 1"),
        (
            {"scale_range": (1.6, 0.6)},
            r"scale_range \[1.6, 0.6\]: must be two numbers, 0 < smallest <= largest",
        ),
        ({"scale_range": (0.0, 1.0)}, r"scale_range \[0.0, 1.0\]"),
        ({"scale_range": (1.0,)}, r"scale_range \[1.0\]"),
        ({"color_jitter": 1.5}, r"color_jitter 1.5: must be in 0\.\.1"),
        ({"in_channels": 0}, "in_channels 0: must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        TrainingTransform(**({"crop_size": 8, "ignore_index": 255} | options))


def test_argument_that_albumentations_only_warns_of_is_an_error(monkeypatch: pytest.MonkeyPatch):
    def renamed(height: int, width: int) -> A.RandomCrop:
        return A.RandomCrop(height, width, mask_value=255)

    monkeypatch.setattr(transforms_module, "A", type("Renamed", (), {**vars(A), "RandomCrop": staticmethod(renamed)}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserWarning, match="'mask_value' are not valid"):
            TrainingTransform(crop_size=8, ignore_index=255)


def test_worker_has_no_opencv_threads_and_its_ranks_own_numbers():
    before, state = cv2.getNumThreads(), torch.get_rng_state()
    try:
        drawn = []
        for rank in (0, 1):
            torch.manual_seed(5)
            initialise_worker(0, rank=rank)
            drawn.append(torch.rand(()).item())
        assert drawn[0] != drawn[1]
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)
        torch.set_rng_state(state)
