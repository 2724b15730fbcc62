"""Augmented pairs stay aligned and keep their classes; their draws differ where they should."""

import importlib.util
import pickle
import sys
import warnings
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
import torch

from unetseg.data import transforms as transforms_module
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


def test_draws_follow_torch_and_differ_between_ranks():
    def draws(rank: int) -> list[list[int]]:
        torch.manual_seed(7)
        transform = plain(4, rank=rank)
        return [transform(*pair(50, 50))[0].ravel().tolist() for _ in range(3)]

    first = draws(0)
    assert first == draws(0)
    assert first[0] != first[1] != first[2]
    assert all(ours != theirs for ours, theirs in zip(first, draws(1), strict=True))


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


def test_import_asks_no_network_for_versions(monkeypatch: pytest.MonkeyPatch):
    def ask() -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr("albumentations.check_version.check_for_updates", ask)
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "0")
    monkeypatch.delitem(sys.modules, "albumentations")  # its submodules stay, so importing it again is quick
    spec = importlib.util.spec_from_file_location("imported_afresh", transforms_module.__file__)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert sys.modules["albumentations"] is not A
